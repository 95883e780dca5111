package softtee

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"

	"github.com/adyton-dev/adyton/internal/softtee/pcs"
)

func newServe() *cobra.Command {
	var dir directory
	var listen, readyFile string
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve the collateral of all platforms",
		Long: `Serves what Intel's PCS and PCCS serve, by the same paths of versions 3 and 4, until it
is told to stop (SIGTERM, Ctrl-C): PCK certificates and CRLs, TCB info, quoting
enclave identities, the root CRL. Platforms that are made meanwhile are served too.

It speaks plain HTTP: every document is signed, and verifiers check that.`,
		Example: `  adyton softtee serve
  adyton softtee serve --dir ./tee --listen 127.0.0.1:0 --ready-file ./pcs.url
  curl http://127.0.0.1:8081/sgx/certification/v4/qe/identity`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			inst, err := dir.open()
			if err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			listener, err := new(net.ListenConfig).Listen(ctx, "tcp", listen)
			if errors.Is(err, syscall.EADDRINUSE) {
				return fmt.Errorf("%s is in use: stop what listens there, or choose another address with --listen (port 0 takes a free one)", listen)
			}
			if err != nil {
				return fmt.Errorf("--listen: %w", err)
			}
			url := "http://" + listener.Addr().String()
			if readyFile != "" {
				// The kernel takes connections from here on; none is refused.
				if err := renameio.WriteFile(readyFile, []byte(url), 0o644); err != nil {
					return errors.Join(fmt.Errorf("--ready-file: %w", err), listener.Close())
				}
				defer func() { _ = os.Remove(readyFile) }()
			}
			if _, err := fmt.Fprintf(cmd.ErrOrStderr(), "Serving the collateral of %s at %s\n", inst.Root().Subject.CommonName, url); err != nil {
				return errors.Join(err, listener.Close())
			}
			return serve(ctx, listener, pcs.New(inst))
		},
	}
	dir.addFlag(cmd)
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:8081", "address to listen on; port 0 takes a free one")
	cmd.Flags().StringVar(&readyFile, "ready-file", "", "file to write the service's URL to once it answers")
	return cmd
}

const (
	headerTimeout = 5 * time.Second
	writeTimeout  = 30 * time.Second
	idleTimeout   = time.Minute
	stopTimeout   = 5 * time.Second
	maxHeader     = 16 << 10
)

// serve answers until ctx ends, then finishes what is under way.
func serve(ctx context.Context, listener net.Listener, handler http.Handler) error {
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: headerTimeout, ReadTimeout: headerTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout,
		MaxHeaderBytes: maxHeader,
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stopped := make(chan error, 1)
	go func() {
		<-ctx.Done()
		stop, done := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer done()
		stopped <- server.Shutdown(stop)
	}()
	err := server.Serve(listener)
	cancel()
	stopErr := <-stopped
	if !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve collateral: %w", err)
	}
	if stopErr != nil {
		return fmt.Errorf("stop serving collateral: %w", stopErr)
	}
	return nil
}
