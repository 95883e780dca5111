// Command probe is the workload of the tests: it does what its first argument
// says and prints what it sees.
package main

import (
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Println("hello")
		return
	}
	args := os.Args[2:]
	switch os.Args[1] {
	case "args":
		fmt.Println(strings.Join(os.Args, " "))
	case "exit":
		code, _ := strconv.Atoi(args[0])
		os.Exit(code)
	case "cat":
		if len(args) == 0 {
			_, err := io.Copy(os.Stdout, os.Stdin)
			check(err)
		}
		for _, file := range args {
			content, err := os.ReadFile(file)
			check(err)
			os.Stdout.Write(content)
		}
	case "burst":
		fmt.Print(strings.Repeat("0123456789abcde\n", 1<<16)) // 1 MiB
		fmt.Println("the last line")
	case "write":
		check(os.WriteFile(args[0], []byte(args[1]), 0o644))
	case "fill":
		fill(args[0])
	case "stat":
		for _, file := range args {
			var st syscall.Stat_t
			check(syscall.Stat(file, &st))
			fmt.Printf("%s %o %d:%d\n", file, st.Mode&0o7777, st.Uid, st.Gid)
		}
	case "env":
		for _, entry := range os.Environ() {
			fmt.Println(entry)
		}
	case "id":
		fmt.Println(os.Getuid(), os.Getgid())
	case "tty":
		info, err := os.Stdin.Stat()
		check(err)
		fmt.Println("tty", info.Mode()&os.ModeCharDevice != 0)
	case "echo-line":
		var line string
		fmt.Println("ready")
		_, err := fmt.Scanln(&line)
		check(err)
		fmt.Println("got " + line)
	case "wait-signal":
		if len(args) > 0 { // wait for a line first
			fmt.Println("line?")
			var line string
			_, err := fmt.Scanln(&line)
			check(err)
		}
		received := make(chan os.Signal, 1)
		signal.Notify(received, syscall.SIGINT, syscall.SIGTERM, syscall.SIGUSR1)
		fmt.Println("ready")
		fmt.Println(<-received)
		os.Exit(42)
	case "ignore-signals":
		signal.Ignore(syscall.SIGINT, syscall.SIGTERM)
		fmt.Println("ready")
		time.Sleep(time.Hour)
	case "sleep":
		fmt.Println("ready")
		time.Sleep(time.Hour)
	case "quote":
		check(os.WriteFile("/dev/attestation/user_report_data", []byte(args[0]), 0))
		quote, err := os.ReadFile("/dev/attestation/quote")
		check(err)
		os.Stdout.Write(quote)
	default:
		check(fmt.Errorf("unknown command %s", os.Args[1]))
	}
}

// fill writes into the file until it fails.
func fill(file string) {
	f, err := os.Create(file)
	check(err)
	chunk := make([]byte, 1<<20)
	for {
		_, err := f.Write(chunk)
		check(err)
	}
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "probe:", err)
		os.Exit(9)
	}
}
