package run_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/adyton-dev/adyton/dcap"
	"github.com/adyton-dev/adyton/internal/cli/run"
	"github.com/adyton-dev/adyton/internal/cli/ui"
	"github.com/adyton-dev/adyton/internal/launch/launchtest"
	"github.com/adyton-dev/adyton/internal/sandbox"
)

// lab is shared: building programs and making keys take seconds.
var lab *launchtest.Lab

// TestMain is also `adyton run` itself: the tests start this binary again with
// asCommand set, to send it signals and give it terminals.
func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		os.Exit(command(os.Args[1:]))
	}
	os.Exit(withLab(m))
}

const asCommand = "ADYTON_TEST_AS_COMMAND"

func withLab(m *testing.M) int {
	dir, err := os.MkdirTemp("", "adyton-run-test-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	if lab, err = launchtest.New(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// command is the main function of adyton for the one command.
func command(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	cmd := run.New()
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(ctx)
	if err != nil && !ui.Silent(err) {
		fmt.Fprintln(os.Stderr, "adyton:", err)
	}
	return ui.ExitCode(err)
}

// adyton makes the command line `adyton run ARGS` on the lab's software TEE.
func adyton(t *testing.T, base string, args ...string) *exec.Cmd {
	t.Helper()
	args = append([]string{"--softtee", lab.Installation.Dir(), "--run-dir", base}, args...)
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	cmd.Env = append(os.Environ(), asCommand+"=1", "ADYTON_INIT="+lab.Init)
	return cmd
}

// result is how a command ended.
type result struct {
	code     int
	out, err string
}

func (r result) String() string { return fmt.Sprintf("code %d\n%s%s", r.code, r.out, r.err) }

// finish runs cmd to its end.
func finish(t *testing.T, cmd *exec.Cmd) result {
	t.Helper()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return result{cmd.ProcessState.ExitCode(), out.String(), errs.String()}
}

// onEveryEngine runs a test on gVisor and on runc, with a run directory that must
// be empty in the end.
func onEveryEngine(t *testing.T, test func(t *testing.T, base string, engine ...string)) {
	for _, kind := range []sandbox.Kind{sandbox.GVisor, sandbox.None} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			launchtest.NeedEngine(t, kind)
			base := filepath.Join(t.TempDir(), "run")
			test(t, base, "--sandbox", string(kind))
			wantEmpty(t, base)
		})
	}
}

// wantEmpty checks that no run directory and no mount is left.
func wantEmpty(t *testing.T, base string) {
	t.Helper()
	left, err := os.ReadDir(base)
	if err != nil && !errors.Is(err, os.ErrNotExist) || len(left) > 0 {
		t.Errorf("left in the run directory: %v, %v", left, err)
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil || bytes.Contains(mounts, []byte(base)) {
		t.Errorf("a mount is left below %s (%v)", base, err)
	}
}

func with(engine []string, args ...string) []string { return append(slices.Clone(engine), args...) }

func TestApplicationRunsAsSigned(t *testing.T) {
	for _, tc := range []struct {
		name, lines string
		flags       []string
		want        result
	}{
		{"arguments", "args: [args, one, two three]", nil, result{0, "/app args one two three\n", ""}},
		{"exit code", "args: [exit, '7']", nil, result{7, "", ""}},
		{"exit code 1", "args: [exit, '1']", nil, result{1, "", ""}},
		{"exit code 128", "args: [exit, '128']", nil, result{128, "", ""}},
		{"user of the image", "args: [id]", nil, result{0, "1234 1234\n", ""}},
		{"user of enclave.yaml", "args: [id]\nuser: '65532:65532'", nil, result{0, "65532 65532\n", ""}},
		{"root without capabilities", "args: [id]\nuser: '0:0'", nil, result{0, "0 0\n", ""}},
		{"environment", "args: [env]\nenv: {A: b}\npassEnv: [LOG_LEVEL]", []string{"-e", "LOG_LEVEL=debug"},
			result{0, "A=b\nHOME=/home/app\nLOG_LEVEL=debug\nPATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n", ""}},
		{"no standard input without -i", "args: [cat]", nil, result{0, "", ""}},
		{"tmpfs", "args: [write, /scratch/x, y]\nreadOnlyRoot: true\nmounts: [{path: /scratch, tmpfs: true, size: 1Mi}]", nil, result{0, "", ""}},
		{"same arguments on the command line", "args: [args, one]", []string{"IMAGE", "--", "args", "one"}, result{0, "/app args one\n", ""}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			onEveryEngine(t, func(t *testing.T, base string, engine ...string) {
				if got := finish(t, adyton(t, base, lineFor(tc.flags, lab.Sign(t, tc.lines), engine)...)); got != tc.want {
					t.Errorf("got %v, want %v", got, tc.want)
				}
			})
		})
	}
}

// lineFor puts the image where flags say IMAGE, else at their end.
func lineFor(flags []string, image string, engine []string) []string {
	line := with(engine, flags...)
	if i := slices.Index(line, "IMAGE"); i >= 0 {
		line[i] = image
		return line
	}
	return append(line, image)
}

func TestFailureBeforeAndInApplicationAreToldApart(t *testing.T) {
	for _, tc := range []struct {
		name, lines string
		flags       []string
		code        int
		message     string
	}{
		{"program is not there", "entrypoint: [/absent]", nil, 127, "/absent"},
		{"program is not in PATH", "entrypoint: [absent]", nil, 127, "not found in PATH"},
		{"program cannot be executed", "entrypoint: [/plain]", nil, 126, "/plain"},
		{"read-only root", "args: [write, /x, y]\nreadOnlyRoot: true\nuser: '0:0'", nil, 9, "read-only file system"},
		{"root cannot write where only others may", "args: [write, /etc/passwd, y]", nil, 9, "permission denied"},
		{"full tmpfs", "args: [fill, /scratch/x]\nmounts: [{path: /scratch, tmpfs: true, size: 4Mi}]", nil, 9, "no space left on device"},
		{"other arguments", "args: [args, one]", []string{"IMAGE", "args", "two"}, 125, "MeasurementMismatch: "},
		{"other arguments are named", "args: [args, one]", []string{"IMAGE", "args", "two"}, 125, "arguments: "},
		{"other environment", "args: [env]\nenv: {A: b}", []string{"-e", "A=c"}, 125, "environment: "},
		{"more environment", "args: [env]", []string{"-e", "LD_PRELOAD=/x.so"}, 125, "environment: "},
		{"mount that is not signed", "args: [args]", []string{"--mount", "/data=/tmp"}, 125, "not signed to mount /data"},
		{"mount without a source", "args: [args]\nmounts: [{path: /data}]", nil, 125, "--mount /data=HOSTPATH"},
		{"mount of what is not there", "args: [args]\nmounts: [{path: /data}]", []string{"--mount", "/data=/does/not/exist"}, 125, "/does/not/exist"},
		{"more memory than signed", "args: [args]\nmemory: 128Mi", []string{"--memory", "256Mi"}, 125, "signed for"},
		{"unknown sandbox", "args: [args]", []string{"--sandbox", "qemu"}, 125, "want gvisor or none"},
		{"unknown network", "args: [args]", []string{"--network", "bridge"}, 125, "want none or host"},
		{"unknown platform", "args: [args]", []string{"--platform", "absent"}, 125, "adyton softtee platform create"},
		{"no software TEE", "args: [args]", []string{"--softtee", "/does/not/exist"}, 125, "adyton softtee init"},
		{"terminal without one", "args: [args]", []string{"-t"}, 125, "needs a terminal"},
		{"no image", "", []string{"IMAGE-IS-NEXT"}, 125, "IMAGE-IS-NEXT"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			onEveryEngine(t, func(t *testing.T, base string, engine ...string) {
				got := finish(t, adyton(t, base, lineFor(tc.flags, lab.Sign(t, tc.lines), engine)...))
				if got.code != tc.code || !strings.Contains(got.err, tc.message) || got.out != "" {
					t.Errorf("got %v, want code %d and %q", got, tc.code, tc.message)
				}
				if n := strings.Count(strings.TrimSpace(got.err), "\n"); n > 0 {
					t.Errorf("the error has %d lines:\n%s", n+1, got.err)
				}
			})
		})
	}
}

func TestInitProgramMustBeStaticAndTheSignedOne(t *testing.T) {
	t.Parallel()
	image := lab.Sign(t, "args: [args]")
	other := filepath.Join(t.TempDir(), "init")
	content, err := os.ReadFile(lab.Init)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(other, append(content, 0), 0o755); err != nil {
		t.Fatal(err)
	}
	for init, want := range map[string]string{
		"/bin/true":       "not static",
		"/etc/os-release": "not a Linux program",
		other:             "MeasurementMismatch: ",
	} {
		cmd := adyton(t, filepath.Join(t.TempDir(), "run"), image)
		cmd.Env = append(cmd.Env, "ADYTON_INIT="+init)
		if got := finish(t, cmd); got.code != 125 || !strings.Contains(got.err, want) {
			t.Errorf("init %s: got %v, want %q", init, got, want)
		}
	}
}

func TestFullDiskIsAnErrorAndLeavesNothing(t *testing.T) {
	launchtest.NeedEngine(t, sandbox.GVisor)
	base := t.TempDir()
	run := adyton(t, base, lab.Sign(t, "args: [args]"))
	const onSmallDisk = `mount --make-rprivate / && mount -t tmpfs -o size=1m,mode=0700 tmpfs "$0" && { "$@"; code=$?; ls "$0"; exit $code; }`
	cmd := exec.CommandContext(t.Context(), "unshare", append([]string{"--mount", "sh", "-c", onSmallDisk, base}, run.Args...)...)
	cmd.Env = run.Env
	got := finish(t, cmd)
	if got.code != 125 || got.out != "" || !strings.Contains(got.err, "no space left on device") || strings.Count(got.err, "\n") != 1 {
		t.Errorf("got %v", got)
	}
}

func TestRelativeRunDirectory(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, base string, engine ...string) {
		cmd := adyton(t, "relative", with(engine, lab.Sign(t, "args: [args]"))...)
		cmd.Dir = t.TempDir()
		if got := finish(t, cmd); got.out != "/app args\n" {
			t.Error(got)
		}
		wantEmpty(t, filepath.Join(cmd.Dir, "relative"))
	})
}

func TestUnsignedImageIsRefused(t *testing.T) {
	t.Parallel()
	got := finish(t, adyton(t, filepath.Join(t.TempDir(), "run"), lab.Image(t)))
	if got.code != 125 || !strings.Contains(got.err, "SignatureMissing: ") {
		t.Errorf("got %v", got)
	}
}

func TestTamperedImageIsRefusedBeforeAnythingStarts(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, base string, engine ...string) {
		image := lab.Sign(t, "args: [args]")
		// The largest blob is the layer with the program.
		blobs, err := filepath.Glob(filepath.Join(strings.TrimPrefix(image, "oci:"), "blobs/sha256/*"))
		if err != nil {
			t.Fatal(err)
		}
		largest := slices.MaxFunc(blobs, func(a, b string) int { return int(size(t, a) - size(t, b)) })
		f, err := os.OpenFile(largest, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteAt([]byte{0xff}, size(t, largest)/2); err != nil {
			t.Fatal(err)
		}
		got := finish(t, adyton(t, base, with(engine, image)...))
		if got.code != 125 || !strings.Contains(got.err, "MeasurementMismatch: ") || !strings.Contains(got.err, "image") || got.out != "" {
			t.Errorf("got %v", got)
		}
	})
}

func size(t *testing.T, file string) int64 {
	t.Helper()
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

func TestApplicationHasNoCapabilitiesEvenAsRoot(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, base string, engine ...string) {
		got := finish(t, adyton(t, base, with(engine, lab.Sign(t, "args: [cat, /proc/self/status]\nuser: '0:0'"))...))
		for _, name := range []string{"CapInh", "CapPrm", "CapEff", "CapBnd"} {
			if !strings.Contains(got.out, name+":\t0000000000000000\n") {
				t.Errorf("%s is not empty\n%v", name, got)
			}
		}
		if !strings.Contains(got.out, "NoNewPrivs:\t1\n") {
			t.Errorf("no_new_privs is not set\n%s", got.out)
		}
	})
}

func TestGVisorHasAKernelOfItsOwnAndRuncTheHosts(t *testing.T) {
	host, err := os.ReadFile("/proc/version")
	if err != nil {
		t.Fatal(err)
	}
	onEveryEngine(t, func(t *testing.T, base string, engine ...string) {
		got := finish(t, adyton(t, base, with(engine, lab.Sign(t, "args: [cat, /proc/version]"))...))
		own := strings.Contains(got.out, "gvisor")
		if own != slices.Contains(engine, "gvisor") || !own && got.out != string(host) {
			t.Errorf("kernel: %v", got)
		}
	})
}

func TestQuoteFromInsideVerifiesAndSaysWhatRuns(t *testing.T) {
	verifier, err := dcap.NewVerifier(dcap.VerifierOptions{Roots: []dcap.Root{lab.Installation.TrustRoot("lab")}})
	if err != nil {
		t.Fatal(err)
	}
	collateral, err := lab.Installation.Collateral("default", dcap.SGX)
	if err != nil {
		t.Fatal(err)
	}
	onEveryEngine(t, func(t *testing.T, base string, engine ...string) {
		got := finish(t, adyton(t, base, with(engine, lab.Sign(t, "args: [quote, nonce]"))...))
		if got.code != 0 {
			t.Fatal(got)
		}
		result, err := verifier.Verify([]byte(got.out), collateral, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		body := result.Quote.SGX
		if !bytes.HasPrefix(body.ReportData[:], []byte("nonce\x00")) || body.ISVProdID != 7 || body.ISVSVN != 2 {
			t.Errorf("report data %q, product %d, SVN %d", body.ReportData, body.ISVProdID, body.ISVSVN)
		}
		if body.ConfigID == [64]byte{} {
			t.Error("CONFIGID does not bind the init-data")
		}
	})
}

func TestStandardInputWithInteractive(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, base string, engine ...string) {
		cmd := adyton(t, base, with(engine, "-i", lab.Sign(t, "args: [cat]"))...)
		input := strings.Repeat("0123456789abcdef", 1<<14)
		cmd.Stdin = strings.NewReader(input)
		if got := finish(t, cmd); got.code != 0 || got.out != input {
			t.Errorf("code %d, %d of %d bytes\n%s", got.code, len(got.out), len(input), got.err)
		}
	})
}

func TestOutputIsCompleteWhenTheApplicationEndsAtOnce(t *testing.T) {
	want := strings.Repeat("0123456789abcde\n", 1<<16) + "the last line\n"
	onEveryEngine(t, func(t *testing.T, base string, engine ...string) {
		image := lab.Sign(t, "args: [burst]")
		for range 5 {
			if got := finish(t, adyton(t, base, with(engine, image)...)); got.code != 0 || got.out != want {
				t.Errorf("to a pipe: code %d, %d of %d bytes\n%s", got.code, len(got.out), len(want), got.err)
			}
			file := sharedFile(t, "")
			cmd := adyton(t, base, with(engine, image)...)
			cmd.Stdout = file
			if err := cmd.Run(); err != nil {
				t.Error(err)
			}
			if _, err := file.WriteString("AFTER"); err != nil {
				t.Fatal(err)
			}
			content, err := os.ReadFile(file.Name())
			if err != nil || string(content) != want+"AFTER" {
				t.Errorf("to a file that is shared: %d bytes, want %d; %v", len(content), len(want)+5, err)
			}
		}
	})
}

func TestSharedInputFileIsReadFromWhereItStands(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, base string, engine ...string) {
		file := sharedFile(t, "header\nbody\n")
		if _, err := file.Seek(int64(len("header\n")), io.SeekStart); err != nil {
			t.Fatal(err)
		}
		cmd := adyton(t, base, with(engine, "-i", lab.Sign(t, "args: [cat]"))...)
		cmd.Stdin = file
		if got := finish(t, cmd); got.code != 0 || got.out != "body\n" {
			t.Error(got)
		}
	})
}

// sharedFile makes a file whose offset the test shares with its children.
func sharedFile(t *testing.T, content string) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if _, err := f.WriteString(content); err != nil {
		t.Fatal(err)
	}
	return f
}

// ready starts cmd and waits until the application has printed "ready".
func ready(t *testing.T, cmd *exec.Cmd) *bufio.Reader {
	t.Helper()
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	out := bufio.NewReader(pipe)
	if line, err := out.ReadString('\n'); line != "ready\n" {
		t.Fatalf("application said %q, %v", line, err)
	}
	return out
}

func TestSignalsGoToTheApplication(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGUSR1} {
		t.Run(sig.String(), func(t *testing.T) {
			onEveryEngine(t, func(t *testing.T, base string, engine ...string) {
				cmd := adyton(t, base, with(engine, lab.Sign(t, "args: [wait-signal]"))...)
				out := ready(t, cmd)
				if err := cmd.Process.Signal(sig); err != nil {
					t.Fatal(err)
				}
				if line, err := out.ReadString('\n'); line != sig.String()+"\n" {
					t.Errorf("application got %q, %v", line, err)
				}
				_ = cmd.Wait()
				if code := cmd.ProcessState.ExitCode(); code != 42 {
					t.Errorf("exit code %d, want 42", code)
				}
			})
		})
	}
}

func TestThirdInterruptKills(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, base string, engine ...string) {
		cmd := adyton(t, base, with(engine, lab.Sign(t, "args: [ignore-signals]"))...)
		out := ready(t, cmd)
		for range 3 {
			if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
				t.Fatal(err)
			}
			time.Sleep(20 * time.Millisecond) // the kernel merges equal signals that wait
		}
		_, _ = io.Copy(io.Discard, out)
		_ = cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); code != 137 {
			t.Errorf("exit code %d, want 137", code)
		}
	})
}

func TestKilledLauncherIsCleanedUpByTheNextRun(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, base string, engine ...string) {
		image := lab.Sign(t, "args: [sleep]")
		cmd := adyton(t, base, with(engine, "--name", "victim", image)...)
		ready(t, cmd)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		if _, err := os.Stat(filepath.Join(base, "victim")); err != nil {
			t.Fatalf("the run directory is gone: %v", err)
		}
		got := finish(t, adyton(t, base, with(engine, "--name", "victim", lab.Sign(t, "args: [args]"))...))
		if got.code != 0 || got.out != "/app args\n" {
			t.Error(got)
		}
		wantNoProcess(t, filepath.Join(base, "victim"))
	})
}

// wantNoProcess waits until no process has path in its command line.
func wantNoProcess(t *testing.T, path string) {
	t.Helper()
	var found string
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		found = ""
		lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range lines {
			if line, err := os.ReadFile(file); err == nil && bytes.Contains(line, []byte(path)) {
				found = string(line)
			}
		}
		if found == "" {
			return
		}
	}
	t.Errorf("still runs: %q", found)
}

func TestRunningNameIsTaken(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, base string, engine ...string) {
		image := lab.Sign(t, "args: [wait-signal]")
		first := adyton(t, base, with(engine, "--name", "one", image)...)
		out := ready(t, first)
		got := finish(t, adyton(t, base, with(engine, "--name", "one", image)...))
		if got.code != 125 || !strings.Contains(got.err, "one: an enclave of this name is running") {
			t.Error(got)
		}
		if err := first.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, out)
		_ = first.Wait()
	})
}

func TestTerminal(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, base string, engine ...string) {
		for _, tc := range []struct {
			name, lines string
			dialogue    [][2]string // when the first is shown, the second is typed
			want        string
		}{
			{"is one", "args: [tty]", nil, "tty true"},
			{"reads lines", "args: [echo-line]", [][2]string{{"ready", "word\r"}}, "got word"},
			{"Ctrl-C interrupts", "args: [wait-signal, after-line]", [][2]string{{"line?", "x\r"}, {"ready", "\x03"}}, "interrupt"},
		} {
			controller, terminal := openTerminal(t)
			cmd := adyton(t, base, with(engine, "-it", lab.Sign(t, tc.lines))...)
			cmd.Stdin, cmd.Stdout, cmd.Stderr = terminal, terminal, terminal
			cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			terminal.Close()
			var seen bytes.Buffer
			buffer := make([]byte, 4096)
			for {
				n, err := controller.Read(buffer)
				seen.Write(buffer[:n])
				if err != nil {
					break // EIO: nobody has the terminal any more
				}
				if len(tc.dialogue) > 0 && strings.Contains(seen.String(), tc.dialogue[0][0]) {
					if _, err := controller.WriteString(tc.dialogue[0][1]); err != nil {
						t.Fatal(err)
					}
					tc.dialogue = tc.dialogue[1:]
				}
			}
			_ = cmd.Wait()
			if !strings.Contains(seen.String(), tc.want) {
				t.Errorf("%s: terminal showed %q, want %q", tc.name, &seen, tc.want)
			}
		}
	})
}

// openTerminal makes a pseudo-terminal.
func openTerminal(t *testing.T) (controller, terminal *os.File) {
	t.Helper()
	controller, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { controller.Close() })
	if err := unix.IoctlSetPointerInt(int(controller.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(controller.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return controller, terminal
}
