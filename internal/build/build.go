// Package build turns an image and an enclave.yaml into a signed enclave image.
//
//	enclave.yaml ─ ParseConfig ─► Config ┐
//	image ─ image.Open ─► image.Image ───┼─ Describe ─► descriptor.Descriptor ─ Sign ─► Signed ─ Attach ─► beside the image
//	adyton-init ─ FindInit, DigestFile ──┘
//
// The measurement is reproducible: from the same enclave.yaml, the same image (by
// its configuration's digest) and the same adyton-init, every machine computes
// the same MRENCLAVE. Its definition is package descriptor's comment.
//
// A [Signed] enclave is a descriptor and a SIGSTRUCT for it. It travels as an OCI
// artifact that refers to the image (artifactType [ArtifactType]), in a registry
// and in a layout directory, or as a bundle file of its own. An image may carry
// several: they are told apart by name, and [Find] takes the newest of a name.
//
// The package imports descriptor, image, sgx, refusal and the broker's resource
// names. To support one more field of enclave.yaml, add it to [Config], its check
// to the table in config.go, and, if it is measured, a part to the descriptor.
package build

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/adyton-dev/adyton/internal/build/descriptor"
	"github.com/adyton-dev/adyton/internal/build/image"
	"github.com/adyton-dev/adyton/refusal"
)

// Describe gives what is measured of the enclave that the config makes of the
// image. initDigest is the SHA-256 of adyton-init ("sha256:" and hex); it must be
// the config's if the config names one, and may be empty then.
//
// As for containers elsewhere, entrypoint replaces the image's entry point and
// command, args replaces its command, and env is added to its environment.
func Describe(ctx context.Context, c *Config, img *image.Image, initDigest string) (*descriptor.Descriptor, error) {
	switch {
	case initDigest == "" && c.Init == "":
		return nil, errors.New("the digest of adyton-init is not known: name the binary by --init, or its digest by init in enclave.yaml")
	case initDigest == "":
		initDigest = c.Init
	case c.Init != "" && c.Init != initDigest:
		return nil, refusal.New(refusal.MeasurementMismatch, "init: enclave.yaml names %s, the adyton-init given is %s", c.Init, initDigest)
	}
	base := img.Config()
	user, err := img.ResolveUser(ctx, first(c.User, base.User))
	if err != nil {
		return nil, err
	}
	d := &descriptor.Descriptor{
		APIVersion:       descriptor.Version,
		Name:             c.Name,
		Image:            descriptor.Image{Digest: img.Digest(), Platform: img.Platform()},
		Init:             initDigest,
		Arguments:        arguments(c, base.Entrypoint, base.Cmd),
		Environment:      environment(c, base.Env),
		PassEnvironment:  slices.Clone(c.PassEnv),
		WorkingDirectory: filepath.Clean(first(c.WorkingDir, base.WorkingDir, "/")),
		User:             user,
		ReadOnlyRoot:     c.ReadOnlyRoot,
		Memory:           uint64(c.Memory),
		Threads:          c.Threads,
	}
	for _, m := range c.Mounts {
		d.Mounts = append(d.Mounts, m.descriptor())
	}
	for _, u := range c.Unlock {
		d.Unlock = append(d.Unlock, u.descriptor())
	}
	if c.Broker != nil {
		d.Broker = &descriptor.Broker{URL: c.Broker.URL, SPKI: c.Broker.SPKI}
	}
	if err := d.Validate(); err != nil {
		return nil, err
	}
	return d, nil
}

// InitName is the file name of the enclave's first program.
const InitName = "adyton-init"

// FindInit finds adyton-init: $ADYTON_INIT, else beside the running program.
func FindInit() (string, error) {
	if path := os.Getenv("ADYTON_INIT"); path != "" {
		if _, err := os.Stat(path); err != nil {
			return "", fmt.Errorf("find %s by $ADYTON_INIT: %w", InitName, err)
		}
		return path, nil
	}
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find %s: %w", InitName, err)
	}
	path := filepath.Join(filepath.Dir(self), InitName)
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("find %s beside %s: %w: build it, or name it by $ADYTON_INIT", InitName, self, errors.Unwrap(err))
	}
	return path, nil
}

// DigestFile gives the SHA-256 of a file, "sha256:" and 64 hex digits.
func DigestFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("digest: %w", err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("digest: %w", err)
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil)), nil
}

func arguments(c *Config, entrypoint, cmd []string) []string {
	if len(c.Entrypoint) > 0 {
		return slices.Concat(c.Entrypoint, c.Args)
	}
	if c.Args != nil {
		cmd = c.Args
	}
	return slices.Concat(entrypoint, cmd)
}

func environment(c *Config, base []string) map[string]string {
	env := map[string]string{}
	for _, variable := range base {
		if name, value, ok := strings.Cut(variable, "="); ok {
			env[name] = value
		}
	}
	maps.Copy(env, c.Env)
	return env
}

// first gives the first text that is not empty, or "".
func first(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}
