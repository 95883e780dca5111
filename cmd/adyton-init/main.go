// Command adyton-init is the first program inside an enclave, and measured with
// it. See package initd.
package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/adyton-dev/adyton/internal/initd"
)

func main() {
	err := initd.Run(context.Background(), os.Environ())
	fmt.Fprintf(os.Stderr, "adyton-init: %s\n", strings.ReplaceAll(err.Error(), "\n", "; "))
	os.Exit(initd.ExitCode(err))
}
