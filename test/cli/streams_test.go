package cli_test

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

func TestEveryCommandHasHelpWithAnExample(t *testing.T) {
	t.Parallel()
	visited := 0
	var visit func(path []string)
	visit = func(path []string) {
		visited++
		help := mustRun(t, invocation{dir: t.TempDir(), args: append(path, "--help")})
		if about, _, _ := strings.Cut(help, "\nUsage:"); strings.TrimSpace(about) == "" {
			t.Errorf("adyton %s --help says nothing before its usage", strings.Join(path, " "))
		}
		if len(path) == 0 || path[0] != "completion" { // cobra's own
			if !strings.Contains(help, "\nExamples:\n") {
				t.Errorf("adyton %s --help has no example", strings.Join(path, " "))
			}
		}
		for _, line := range subCommand.FindAllStringSubmatch(help, -1) {
			visit(append(path[:len(path):len(path)], line[1]))
		}
	}
	visit(nil)
	if visited < 40 {
		t.Errorf("found %d commands, want at least 40", visited)
	}
}

// subCommand is a line in a help text's lists of commands: its description begins
// with a capital and is aligned; the first group is the name.
var subCommand = regexp.MustCompile(`(?m)^  ([a-z][a-z-]*) {2,}[A-Z]`)

func TestCompletionScripts(t *testing.T) {
	t.Parallel()
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		script := mustRun(t, invocation{dir: t.TempDir(), args: []string{"completion", shell}})
		if len(script) < 1000 || !strings.Contains(script, "adyton") {
			t.Errorf("completion %s gives %d bytes", shell, len(script))
		}
		if interpreter, err := exec.LookPath(shell); err == nil && shell != "powershell" {
			check := exec.Command(interpreter, "-n")
			check.Stdin = strings.NewReader(script)
			if out, err := check.CombinedOutput(); err != nil {
				t.Errorf("%s -n: %v: %s", shell, err, out)
			}
		}
	}
	got := mustRun(t, invocation{dir: t.TempDir(), args: []string{"__complete", "run", "--sandbox", ""}})
	if !strings.Contains(got, "gvisor\n") {
		t.Errorf("run --sandbox completes to %q", got)
	}
}

func jsonOutputIsJSON(t *testing.T, names map[string]string) {
	dir := t.TempDir()
	write("claims.json", `{"tee":"sgx","debug":false}`)(t, dir)
	for _, command := range []struct {
		args string
		code int
	}{
		{"softtee init --dir $DIR/tee -o json", 0},
		{"softtee show --dir $TEE -o json", 0},
		{"softtee platform list --dir $TEE -o json", 0},
		{"broker init --dir $DIR/b -o json", 0},
		{"broker keygen $DIR/k -o json", 0},
		{"broker owner list --dir $BROKER -o json", 0},
		{"broker resource list --broker $URL --broker-spki $PIN --owner-key $OWNER.key -o json", 0},
		{"enclave keygen $DIR/key.pem -o json", 0},
		{"enclave pack --to $DIR/img $FIXTURE/app=/app -o json", 0},
		{"enclave measure -f $YAML -o json", 0},
		{"enclave sign -f $YAML --key $KEY --bundle $DIR/bundle -o json", 0},
		{"enclave inspect $IMAGE -o json", 0},
		{"enclave verify $IMAGE -o json", 0},
		{"data info $SEALED -o json", 0},
		{"policy test --policy $POLICY --claims $DIR/claims.json -o json", refused},
		{"audit list --dir $BROKER -o json", 0},
		{"audit verify --dir $BROKER -o json", 0},
		{"audit show --dir $BROKER 0", 0},
	} {
		r := adyton(t, invocation{dir: dir, args: expand(command.args, names, dir)})
		if r.code != command.code {
			t.Errorf("adyton %s: exit code %d, want %d: %s", command.args, r.code, command.code, r.stderr)
			continue
		}
		values := 0
		for decoder := json.NewDecoder(strings.NewReader(r.stdout)); decoder.More(); values++ {
			var value any
			if err := decoder.Decode(&value); err != nil {
				t.Errorf("adyton %s: %v in %q", command.args, err, r.stdout)
				break
			}
			if value == nil {
				t.Errorf("adyton %s gives null", command.args)
			}
		}
		if values == 0 {
			t.Errorf("adyton %s gives nothing", command.args)
		}
	}
}

func standardOutputThatCannotBeWritten(t *testing.T, names map[string]string) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	for _, args := range []string{
		"softtee show --dir $TEE", "softtee show --dir $TEE --trust-policy", "softtee platform list --dir $TEE",
		"broker pin --dir $BROKER", "broker owner list --dir $BROKER", "policy init", "policy check $POLICY",
		"audit list --dir $BROKER", "audit list --dir $BROKER -o json", "audit checkpoint --dir $BROKER",
		"enclave measure -f $YAML", "enclave inspect $IMAGE", "enclave inspect $IMAGE -o json", "data info $SEALED",
		"completion bash",
	} {
		dir := t.TempDir()
		r := adyton(t, invocation{dir: dir, args: expand(args, names, dir), prepare: func(c *exec.Cmd) { c.Stdout = full }})
		r.mustFail(t, failure, "no space left")
	}
}

func closedStreams(t *testing.T, names map[string]string) {
	dir := t.TempDir()
	for _, script := range []string{
		`"$0" policy check none >&-`,
		`"$0" audit list --dir none <&- >&- 2>&-`,
		`"$0" broker init --dir b --seal-to passphrase <&-`,
	} {
		cmd := exec.Command("/bin/sh", "-c", script, program, names["BROKER"])
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) {
			t.Errorf("%s: %v, want a failure: %s", script, err, out)
		}
		if leak.Match(out) || strings.Count(string(out), "\n") > 1 {
			t.Errorf("%s: %s", script, out)
		}
	}
	// A reader that leaves early, as head does.
	cmd := exec.Command("/bin/bash", "-c", `"$0" --help | true; echo "${PIPESTATUS[0]}"`, program)
	if out, err := cmd.CombinedOutput(); err != nil || leak.Match(out) {
		t.Errorf("help to a closed pipe: %v: %s", err, out)
	}
}

func fullDiskLeavesNothing(t *testing.T, names map[string]string) {
	write("big", strings.Repeat("0123456789abcdef", 1<<16))(t, names["FIXTURE"])
	mustRun(t, invocation{dir: names["FIXTURE"], args: expand("data seal --key-file $DATAKEY big big.sealed", names, "")})
	for name, args := range map[string]string{
		"softtee init":   "softtee init --dir $DIR/tee",
		"broker init":    "broker init --dir $DIR/broker",
		"broker keygen":  "broker keygen $DIR/k",
		"enclave keygen": "enclave keygen $DIR/k.pem",
		"enclave init":   "enclave init --image $IMAGE --name a -f $DIR/enclave.yaml",
		"enclave pack":   "enclave pack --to $DIR/image $FIXTURE/app=/app",
		"enclave sign":   "enclave sign -f $YAML --key $KEY --bundle $DIR/bundle",
		"data keygen":    "data keygen $DIR/k",
		"data seal":      "data seal --key-file $DATAKEY $FIXTURE/big $DIR/out",
		"data open":      "data open --key-file $DATAKEY $FIXTURE/big.sealed $DIR/out",
		"policy init":    "policy init --file $DIR/p.yaml",
		"checkpoint":     "audit checkpoint --dir $BROKER --save $DIR/checkpoint",
		"softtee serve":  "softtee serve --dir $TEE --listen 127.0.0.1:0 --ready-file $DIR/ready",
		"manual pages":   "man $DIR/man",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			disk := tmpfs(t, "64k")
			// Fill it to the last byte.
			filler, err := os.Create(filepath.Join(disk, "filler"))
			if err != nil {
				t.Fatal(err)
			}
			for err == nil {
				_, err = filler.Write(make([]byte, 4096))
			}
			if err := filler.Close(); err != nil {
				t.Fatal(err)
			}
			r := adyton(t, invocation{dir: names["FIXTURE"], args: expand(args, names, disk), env: []string{"TMPDIR=" + disk}})
			r.mustFail(t, failure, "no space left")
			for path := range list(t, disk) {
				if path != "filler" && path != "." && path != "man" {
					t.Errorf("left %s behind", path)
				}
			}
		})
	}
}

func readOnlyDirectory(t *testing.T, names map[string]string) {
	disk := tmpfs(t, "64k")
	if err := syscall.Mount("", disk, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	for _, args := range []string{
		"softtee init --dir $DIR/tee", "broker init --dir $DIR/broker", "broker keygen $DIR/k", "enclave keygen $DIR/k.pem",
		"enclave init --image $IMAGE --name a -f $DIR/enclave.yaml", "enclave pack --to $DIR/image $FIXTURE/app=/app",
		"enclave sign -f $YAML --key $KEY --bundle $DIR/bundle", "data keygen $DIR/k", "data seal --key-file $DATAKEY $PLAIN $DIR/out",
		"data open --key-file $DATAKEY $SEALED $DIR/out", "policy init --file $DIR/p.yaml", "man $DIR/man",
		"audit checkpoint --dir $BROKER --save $DIR/c",
	} {
		r := adyton(t, invocation{dir: names["FIXTURE"], args: expand(args, names, disk)})
		r.mustFail(t, failure, "read-only file system")
	}
}

func interruptedDataCommandsLeaveNothing(t *testing.T, names map[string]string) {
	dir := t.TempDir()
	// Sparse: takes seconds to read, no room.
	big := filepath.Join(dir, "big")
	write("big", "")(t, dir)
	if err := os.Truncate(big, 16<<30); err != nil {
		t.Fatal(err)
	}
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		out := t.TempDir()
		cmd := exec.Command(program, expand("data seal --key-file $DATAKEY "+big+" "+out+"/sealed", names, dir)...)
		var stderr strings.Builder
		cmd.Stderr = &stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		await(t, "the sealed file to grow", func() bool {
			grown := false
			_ = filepath.WalkDir(out, func(_ string, d fs.DirEntry, err error) error {
				if err == nil && d.Type().IsRegular() {
					if info, err := d.Info(); err == nil && info.Size() > 1<<20 {
						grown = true
					}
				}
				return nil
			})
			return grown
		})
		if err := cmd.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		result{args: cmd.Args, code: cmd.ProcessState.ExitCode(), stderr: stderr.String()}.mustFail(t, failure, "interrupted$")
		if left := list(t, out); len(left) != 1 {
			t.Errorf("%v leaves %d files", signal, len(left)-1)
		}
	}
}
