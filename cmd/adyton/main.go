// Command adyton is confidential computing for containers: it builds, signs and
// runs enclaves, attests them and releases keys and data to them. All commands
// and daemons are sub-commands of this one static binary; see package
// internal/cli.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/adyton-dev/adyton/internal/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := cli.Main(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}
