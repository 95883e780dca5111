// Package launch compares `adyton run` of a small static program with the sandbox
// alone: the same engine with the same options, a bundle with the same hardening,
// made and unpacked before, without signature, enclave, attestation files and init
// program. The quotient is what a user pays for running it as an enclave.
package launch

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/adyton-dev/adyton/bench/ratio"
	"github.com/adyton-dev/adyton/internal/sandbox"
)

// said is what the application prints.
const said = "hello\n"

// Rows runs the program under gVisor and under runc.
func Rows(ctx context.Context, rounds int) ([]ratio.Row, error) {
	kinds := []struct {
		kind sandbox.Kind
		tool sandbox.Tool
		name string
	}{
		{sandbox.GVisor, sandbox.Runsc(), "gVisor"},
		{sandbox.None, sandbox.Runc(), "runc"},
	}
	job := func(name string) string { return "run a signed image of a small program, " + name }
	if os.Geteuid() != 0 {
		row := ratio.Row{Job: job("gVisor and runc"), Peer: "runsc run, runc run", Skipped: "only root can run both alike"}
		return []ratio.Row{row}, nil
	}
	dir, err := os.MkdirTemp("", "adyton-bench-launch-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }() // a temporary directory
	signed, err := sign(ctx, dir)
	if err != nil {
		return nil, fmt.Errorf("make a signed image: %w", err)
	}
	var rows []ratio.Row
	for _, k := range kinds {
		peer := fmt.Sprintf("`%s run` of the same program alone", k.tool.Name)
		if _, err := k.tool.Find(); err != nil {
			rows = append(rows, ratio.Row{Job: job(k.name), Peer: peer, Skipped: err.Error()})
			continue
		}
		alone, err := newBundle(filepath.Join(dir, "alone-"+k.tool.Name), signed.application, k.kind)
		if err != nil {
			return nil, fmt.Errorf("make a bundle: %w", err)
		}
		wall := ratio.Wall()
		times, err := ratio.Rounds(ctx, rounds,
			ratio.Each(wall, 1, func(ctx context.Context) error { return signed.run(ctx, k.kind) }),
			ratio.Each(wall, 1, alone.run))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", k.name, err)
		}
		row := ratio.Compare(ratio.Time, times[0], times[1])
		row.Job, row.Figure = job(k.name), milli(times[0])
		row.Peer, row.PeerFigure = peer, milli(times[1])
		rows = append(rows, row)
	}
	return rows, nil
}

func milli(t ratio.Times) string {
	return fmt.Sprintf("%d ms", t.Median()/time.Millisecond)
}

// signedImage is an image signed as an enclave, and the program that runs it.
type signedImage struct {
	dir         string
	application string // the program in the image
}

// sign builds Adyton and the application as `make build` does, and does with them
// what a user does.
func sign(ctx context.Context, dir string) (*signedImage, error) {
	const module = "github.com/adyton-dev/adyton/"
	s := &signedImage{dir: dir, application: filepath.Join(dir, "hello")}
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w -buildid=", "-o", dir+"/",
		module+"cmd/adyton", module+"cmd/adyton-init", module+"bench/launch/testdata/hello")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("go build: %w: %s", err, out)
	}
	description := fmt.Sprintf("apiVersion: adyton.dev/v1alpha1\nkind: EnclaveBuild\nname: hello\nimage: oci:./image\nmemory: %d\nproductID: 7\nsvn: 2\n", memory)
	if err := os.WriteFile(filepath.Join(dir, "enclave.yaml"), []byte(description), 0o600); err != nil {
		return nil, err
	}
	for _, args := range [][]string{
		{"softtee", "init", "--dir", "softtee"},
		{"enclave", "pack", "--to", "image", "hello=/hello"},
		{"enclave", "keygen", "key.pem"},
		{"enclave", "sign", "--key", "key.pem"},
	} {
		if err := s.adyton(ctx, io.Discard, args...); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (s *signedImage) run(ctx context.Context, kind sandbox.Kind) error {
	var out bytes.Buffer
	err := s.adyton(ctx, &out, "run", "--softtee", "softtee", "--run-dir", filepath.Join(s.dir, "run"), "--sandbox", string(kind), "oci:./image")
	if err != nil {
		return err
	}
	return check(out.String())
}

func (s *signedImage) adyton(ctx context.Context, stdout io.Writer, args ...string) error {
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, filepath.Join(s.dir, "adyton"), args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = s.dir, stdout, &stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("adyton %s: %w: %s", args[0], err, bytes.TrimSpace(stderr.Bytes()))
	}
	return nil
}

func check(output string) error {
	if output != said {
		return fmt.Errorf("the application printed %.100q", output)
	}
	return nil
}
