// Command install builds the programs of other projects that sandboxes are
// made with, gVisor's runsc and runc, from the Go modules that tools/gvisor and
// tools/runc pin, into a cache outside the checkout (see
// sandbox.Tool.CachePath). What is there already is not built again.
//
// Run it anywhere in the checkout: go run ./tools/install
package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"github.com/adyton-dev/adyton/internal/sandbox"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := installAll(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "install:", err)
		os.Exit(1)
	}
}

func installAll(ctx context.Context) error {
	checkout, err := moduleRoot(ctx)
	if err != nil {
		return err
	}
	for _, tool := range []sandbox.Tool{sandbox.Runsc(), sandbox.Runc()} {
		if err := install(ctx, tool, filepath.Join(checkout, "tools", tool.Folder)); err != nil {
			return fmt.Errorf("build %s %s: %w", tool.Name, tool.Version, err)
		}
	}
	return nil
}

func moduleRoot(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/adyton-dev/adyton").Output()
	if err != nil {
		return "", fmt.Errorf("find the checkout: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// install builds into a temporary file beside the final path and renames it, so
// that a program at the final path is always whole.
func install(ctx context.Context, tool sandbox.Tool, module string) error {
	path, err := tool.CachePath()
	if err != nil {
		return err
	}
	if _, err := os.Stat(path); err == nil {
		fmt.Printf("%-5s %s: %s\n", tool.Name, tool.Version, path)
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	partial, err := os.MkdirTemp(filepath.Dir(path), ".building-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(partial)

	fmt.Printf("%-5s %s: building, this takes a minute or two …\n", tool.Name, tool.Version)
	start := time.Now()
	built := filepath.Join(partial, tool.Name)
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-tags", tool.Tags, "-ldflags", ldflags(tool), "-o", built, tool.Package)
	build.Dir = module
	build.Env = append(os.Environ(), "GOFLAGS=-mod=readonly", "GOWORK=off", "CGO_ENABLED="+cgo(tool))
	build.Stdout, build.Stderr = os.Stdout, os.Stderr
	if err := build.Run(); err != nil {
		return err
	}
	if err := os.Rename(built, path); err != nil {
		return err
	}
	fmt.Printf("%-5s %s: built in %s: %s\n", tool.Name, tool.Version, time.Since(start).Round(time.Second), path)
	return nil
}

func cgo(tool sandbox.Tool) string {
	if tool.Cgo {
		return "1"
	}
	return "0"
}

// ldflags strips the program and, for gVisor, names its version: its own build
// system sets it so.
func ldflags(tool sandbox.Tool) string {
	flags := "-s -w"
	if tool.Name == "runsc" {
		flags += " -X gvisor.dev/gvisor/runsc/version.version=" + tool.Version
	}
	return flags
}
