// Package run is the command `adyton run`: it reads the command line, finds the
// image, its signature and the platform, and hands over to package launch.
package run

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/docker/go-units"
	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/adyton-dev/adyton/internal/build"
	"github.com/adyton-dev/adyton/internal/build/image"
	"github.com/adyton-dev/adyton/internal/cli/ui"
	"github.com/adyton-dev/adyton/internal/launch"
	"github.com/adyton-dev/adyton/internal/launch/rundir"
	"github.com/adyton-dev/adyton/internal/sandbox"
	"github.com/adyton-dev/adyton/internal/softtee"
	"github.com/adyton-dev/adyton/refusal"
	"github.com/adyton-dev/adyton/sgx"
)

// options are the flags.
type options struct {
	name, enclave, bundle     string
	signer                    string
	softteeDir, platform      string
	broker, sandbox, network  string
	env, mounts               []string
	memory                    string
	runDir                    string
	interactive, tty, verbose bool
}

// New makes the command.
func New() *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use:   "run [flags] IMAGE [--] [ARGUMENT...]",
		Short: "Run a signed image as an enclave",
		Long: `Run runs an image as the enclave that its owner signed, and as nothing else.

Image, init program, arguments and environment are compared with what was signed;
if anything differs, the refusal MeasurementMismatch says what, and nothing is
started. The enclave is then launched on a platform of the software TEE, gets its
attestation files at /dev/attestation, and runs in a sandbox: gVisor, which gives
it a kernel of its own, or with --sandbox=none runc on the host's kernel. Which
one it is, and which network it has, is bound into its quotes as init-data.

If the enclave is signed to unlock keys or data, its first program attests to the
broker, fetches them and puts them into memory before the application starts. The
broker is reached through a socket, so --network=none, the default, suffices.

IMAGE is oci:DIR[:TAG], docker-archive:FILE[:TAG] or a registry reference. The
ARGUMENTs take the place of the arguments after the program and must equal the
signed ones. -e sets a variable; only those of passEnv may differ from the signed.
Every mount that the enclave is signed with needs its --mount, and no other is
possible.

Standard streams and signals are as with docker run: without -i the standard input
is empty; Ctrl-C and kill go to the application, and a third one ends it. The exit
code is the application's, 128+n if signal n ended it, 125 if it was not started,
126 if it cannot be executed, 127 if it does not exist.

The software TEE protects nothing from the administrator of this machine.`,
		Example: `  adyton run oci:./image
  adyton run --mount /data=./sealed --broker https://127.0.0.1:8443 oci:./image
  adyton run -it --sandbox none oci:./image
  adyton run -e LOG_LEVEL=debug registry.example.com/genomics:1.2 -- --top 20`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return notRun(cmd, errors.New("name the image to run"))
			}
			return nil
		},
		ValidArgsFunction: cobra.FixedCompletions([]string{"oci:", "docker-archive:"}, cobra.ShellCompDirectiveNoSpace),
		RunE: func(cmd *cobra.Command, args []string) error {
			code, err := o.run(cmd, args[0], args[1:])
			if err != nil {
				return &ui.ExitError{Code: ui.ExitNotRun, Err: err}
			}
			if code != 0 {
				return &ui.ExitError{Code: code}
			}
			return nil
		},
	}
	cmd.SetFlagErrorFunc(notRun)
	f := cmd.Flags()
	f.SetInterspersed(false) // flags after IMAGE are the application's
	f.StringVar(&o.name, "name", "", "name of the running enclave, and its host name (default: made up)")
	f.StringVar(&o.enclave, "enclave", "", "name of the enclave, if the image carries several")
	f.StringVar(&o.bundle, "bundle", "", "signed enclave in a `FILE` (adyton enclave sign --bundle), not in the image")
	f.StringVar(&o.signer, "signer", "", "run only what this MRSIGNER signed, 64 hexadecimal digits")
	f.StringVar(&o.softteeDir, "softtee", "", "`DIR` of the software TEE (default: the one of adyton softtee init)")
	f.StringVar(&o.platform, "platform", softtee.DefaultPlatform, "platform of the software TEE")
	f.StringVar(&o.broker, "broker", "", "`URL` that the broker is reached at (default: the signed one)")
	f.StringVar(&o.sandbox, "sandbox", string(sandbox.GVisor), "gvisor or none")
	f.StringVar(&o.network, "network", string(sandbox.NetworkNone), "none or host")
	f.StringArrayVarP(&o.env, "env", "e", nil, "set an environment variable: `KEY=VALUE`, or KEY to take it from here")
	f.StringArrayVar(&o.mounts, "mount", nil, "where a mount of the enclave comes from: `PATH=HOSTPATH`")
	f.StringVarP(&o.memory, "memory", "m", "", "limit the memory to `SIZE`, not above the signed one: 256m, 256Mi")
	f.StringVar(&o.runDir, "run-dir", "", "`DIR` for running enclaves and their unpacked images (default: below /var/lib/adyton or ~/.local/state/adyton)")
	f.BoolVarP(&o.interactive, "interactive", "i", false, "connect standard input")
	f.BoolVarP(&o.tty, "tty", "t", false, "give the application this terminal; implies -i")
	f.BoolVarP(&o.verbose, "verbose", "v", false, "say what happens on standard error")
	for flag, values := range map[string][]string{
		"sandbox": {string(sandbox.GVisor), string(sandbox.None)},
		"network": {string(sandbox.NetworkNone), string(sandbox.NetworkHost)},
	} {
		// The error is for a flag that does not exist; it was just made.
		_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
	}
	return cmd
}

// notRun makes an error of the command line one that no application's exit code
// can be taken for, as docker run does.
func notRun(cmd *cobra.Command, err error) error {
	return &ui.ExitError{Code: ui.ExitNotRun, Err: fmt.Errorf("%w; see '%s --help'", err, cmd.CommandPath())}
}

func (o *options) run(cmd *cobra.Command, reference string, args []string) (int, error) {
	ctx := cmd.Context()
	streams, err := o.streams(cmd)
	if err != nil {
		return 0, err
	}
	// From here on signals are kept for the application. During preparation they
	// end ctx, as for every command.
	received := make(chan os.Signal, 16)
	signal.Notify(received, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2)
	defer signal.Stop(received)

	start := time.Now()
	log := o.logger(cmd)
	request, err := o.request(ctx, reference, args)
	if err != nil {
		return 0, err
	}
	request.Logger = log
	var endProgress func()
	request.Progress, endProgress = unpacking(cmd.ErrOrStderr(), start)
	removed, err := launch.CleanStale(ctx, request.Base)
	for _, name := range removed {
		log.Info("removed what a killed launcher left behind", "enclave", name)
	}
	if err != nil {
		log.Warn("cannot remove what a killed launcher left behind", "error", err)
	}
	container, err := launch.Prepare(ctx, request)
	endProgress()
	if err != nil {
		return 0, err
	}
	identity := container.Enclave().Identity()
	log.Info("enclave launched", "name", container.Name(), "mrenclave", identity.MRENCLAVE, "mrsigner", identity.MRSIGNER,
		"sandbox", o.sandbox, "took", time.Since(start).Round(time.Millisecond))
	code, err := runContainer(ctx, container, streams, received)
	return code, errors.Join(err, container.Close())
}

// runContainer runs the container to its end. The third interrupt or termination
// kills it, as with docker run.
func runContainer(ctx context.Context, c *launch.Container, streams sandbox.Streams, received <-chan os.Signal) (int, error) {
	ctx, kill := context.WithCancel(context.WithoutCancel(ctx))
	forwarded, done := make(chan os.Signal, 16), make(chan struct{})
	go func() {
		defer close(done)
		asked := 0
		for {
			select {
			case <-ctx.Done():
				return
			case sig := <-received:
				if sig == syscall.SIGINT || sig == syscall.SIGTERM {
					asked++
				}
				if asked == 3 && !streams.Terminal {
					sig = syscall.SIGKILL
				}
				select {
				case forwarded <- sig:
				default: // the application does not take them
				}
			}
		}
	}()
	code, err := c.Run(ctx, streams, forwarded)
	kill()
	<-done
	return code, err
}

// progressDelay is how long unpacking may take before a bar is shown.
const progressDelay = time.Second

// unpacking shows on a terminal how far a long unpacking is. It ignores the bar's
// errors: the work does not depend on it.
func unpacking(w io.Writer, start time.Time) (progress func(read, total int64), end func()) {
	file, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return nil, func() {}
	}
	var bar *progressbar.ProgressBar
	progress = func(read, total int64) {
		if time.Since(start) < progressDelay {
			return
		}
		if bar == nil {
			if total == 0 {
				total = -1 // not known
			}
			bar = progressbar.NewOptions64(total, progressbar.OptionSetWriter(w), progressbar.OptionSetDescription("unpacking"),
				progressbar.OptionShowBytes(true), progressbar.OptionThrottle(200*time.Millisecond))
		}
		_ = bar.Set64(read)
	}
	return progress, func() {
		if bar != nil {
			_ = bar.Clear()
		}
	}
}

func (o *options) streams(cmd *cobra.Command) (sandbox.Streams, error) {
	streams := sandbox.Streams{Out: cmd.OutOrStdout(), Err: cmd.ErrOrStderr(), Terminal: o.tty}
	if o.interactive || o.tty {
		streams.In = cmd.InOrStdin()
	}
	if o.tty {
		file, ok := streams.In.(*os.File)
		if !ok || !term.IsTerminal(int(file.Fd())) {
			return streams, errors.New("-t needs a terminal as standard input: leave it out")
		}
	}
	return streams, nil
}

func (o *options) logger(cmd *cobra.Command) *slog.Logger {
	level := slog.LevelWarn
	if o.verbose {
		level = slog.LevelInfo
	}
	return slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{
		Level: level,
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) == 0 && a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		},
	}))
}

// request finds everything that the command line names.
func (o *options) request(ctx context.Context, reference string, args []string) (launch.Request, error) {
	r := launch.Request{
		Name: o.name, Sandbox: sandbox.Kind(o.sandbox), Network: sandbox.Network(o.network), Terminal: o.tty,
		Broker: o.broker, Base: o.runDir,
	}
	var err error
	if err = checkChoice("--sandbox", o.sandbox, string(sandbox.GVisor), string(sandbox.None)); err != nil {
		return r, err
	}
	if err = checkChoice("--network", o.network, string(sandbox.NetworkNone), string(sandbox.NetworkHost)); err != nil {
		return r, err
	}
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	if len(args) > 0 {
		r.Arguments = args
	}
	if r.Environment, err = parseEnv(o.env, os.LookupEnv); err != nil {
		return r, err
	}
	if r.Mounts, err = parseMounts(o.mounts); err != nil {
		return r, err
	}
	if r.Memory, err = parseMemory(o.memory); err != nil {
		return r, err
	}
	if r.Base == "" {
		if r.Base, err = rundir.DefaultBase(); err != nil {
			return r, err
		}
	}
	if r.Init, err = build.FindInit(); err != nil {
		return r, err
	}
	if r.Platform, err = o.openPlatform(); err != nil {
		return r, err
	}
	if r.Image, err = image.Open(ctx, reference, image.Options{}); err != nil {
		return r, err
	}
	r.Signed, err = o.findSigned(ctx, r.Image)
	return r, err
}

func (o *options) openPlatform() (*softtee.Platform, error) {
	dir := o.softteeDir
	if dir == "" {
		var err error
		if dir, err = softtee.DefaultDir(); err != nil {
			return nil, err
		}
	}
	installation, err := softtee.Open(dir)
	if err != nil {
		return nil, err
	}
	return installation.Platform(o.platform)
}

// findSigned gives the signed enclave to run. Its signature is checked at launch.
func (o *options) findSigned(ctx context.Context, img *image.Image) (*build.Signed, error) {
	query := build.Query{Name: o.enclave}
	if o.signer != "" {
		query.Signer = new(sgx.Measurement)
		if err := query.Signer.UnmarshalText([]byte(o.signer)); err != nil {
			return nil, fmt.Errorf("--signer: %w", err)
		}
	}
	if o.bundle == "" {
		return build.Find(ctx, img, query)
	}
	f, err := os.Open(o.bundle)
	if err != nil {
		return nil, fmt.Errorf("read the enclave bundle: %w", err)
	}
	defer f.Close()
	signed, err := build.ParseBundle(f)
	if err != nil {
		return nil, fmt.Errorf("read the enclave bundle %s: %w", o.bundle, err)
	}
	if got := signed.SigStruct.MRSIGNER(); query.Signer != nil && got != *query.Signer {
		return nil, refusal.New(refusal.SignerNotApproved, "%s is signed by %s, not by %s", o.bundle, got, query.Signer)
	}
	return signed, nil
}

func checkChoice(flag, value string, choices ...string) error {
	for _, choice := range choices {
		if value == choice {
			return nil
		}
	}
	return fmt.Errorf("%s %q: want %s", flag, value, strings.Join(choices, " or "))
}

// parseEnv reads KEY=VALUE, or KEY alone, which takes its value from lookup and is
// left out if it has none.
func parseEnv(entries []string, lookup func(string) (string, bool)) (map[string]string, error) {
	env := make(map[string]string, len(entries))
	for _, entry := range entries {
		name, value, given := strings.Cut(entry, "=")
		if name == "" {
			return nil, fmt.Errorf("-e %q: want KEY=VALUE or KEY", entry)
		}
		if !given {
			value, given = lookup(name)
		}
		if given {
			env[name] = value
		}
	}
	return env, nil
}

// parseMemory reads a size as docker run and Kubernetes write it; "" is 0.
func parseMemory(text string) (uint64, error) {
	if text == "" {
		return 0, nil
	}
	bytes, err := units.RAMInBytes(strings.TrimSuffix(text, "i")) // 256Mi, which it does not know
	if err != nil || bytes < 1<<20 {
		return 0, fmt.Errorf("--memory %q: want a size of at least 1Mi, for instance 256m or 256Mi", text)
	}
	return uint64(bytes), nil
}

func parseMounts(entries []string) (map[string]string, error) {
	mounts := make(map[string]string, len(entries))
	for _, entry := range entries {
		destination, source, ok := strings.Cut(entry, "=")
		if !ok || !strings.HasPrefix(destination, "/") || source == "" {
			return nil, fmt.Errorf("--mount %q: want PATH=HOSTPATH, PATH absolute inside the enclave", entry)
		}
		if _, twice := mounts[destination]; twice {
			return nil, fmt.Errorf("--mount %s is given twice", destination)
		}
		mounts[destination] = source
	}
	return mounts, nil
}
