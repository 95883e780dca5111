// Package image reads container images from where users keep them, unpacks them
// with every byte verified, and keeps artifacts beside them.
//
// A reference is one of
//
//	oci:DIR[:TAG]  oci:DIR@sha256:…    an OCI image layout directory
//	docker-archive:FILE[:TAG]          what docker save or podman save wrote
//	HOST/REPOSITORY[:TAG|@sha256:…]    a registry, with the user's docker login
//
// Each source gives the same [Image]: a configuration whose digest names it, and
// layers. The configuration is verified by Open, the layers while they are read.
//
// The package imports go-containerregistry and refusal, and nothing else of the
// project. To add a source, add a file with a function that gives a source, and a
// case to Open.
package image

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/adyton-dev/adyton/refusal"
)

// Options say how to open an image.
type Options struct {
	// Dir is the directory that relative paths begin at; "" is the working directory.
	Dir string
	// Platform is "os/architecture[/variant]" to take from an image for several; ""
	// is linux/amd64.
	Platform string
}

// Image is a container image whose configuration is verified.
type Image struct {
	reference string
	platform  v1.Platform
	config    *v1.ConfigFile
	digest    v1.Hash // of the configuration
	source    source
}

// The bounds of what is read into memory.
const (
	maxManifest = 4 << 20
	maxConfig   = 4 << 20
	maxLayers   = 1000
)

// source is where an image is kept.
type source interface {
	// config gives the bytes of the image's configuration.
	config() ([]byte, error)
	// layers gives the layers from the lowest.
	layers() ([]layer, error)
	// artifacts is where artifacts for the image are kept, or nil if nowhere.
	artifacts() artifactStore
}

// layer is a layer as its source has it.
type layer struct {
	// digest and size are those of what open gives, which may be compressed. The
	// digest is empty where the source has none.
	digest v1.Hash
	size   int64
	open   func(ctx context.Context) (io.ReadCloser, error)
}

// Open finds an image and verifies its manifest and configuration. If the source
// has another content than its digest says, the error is a MeasurementMismatch.
func Open(ctx context.Context, reference string, o Options) (*Image, error) {
	img, err := open(ctx, reference, o)
	if err != nil {
		return nil, fmt.Errorf("read image %s: %w", reference, err)
	}
	return img, nil
}

func open(ctx context.Context, reference string, o Options) (*Image, error) {
	if o.Platform == "" {
		o.Platform = "linux/amd64"
	}
	platform, err := v1.ParsePlatform(o.Platform)
	if err != nil {
		return nil, fmt.Errorf("platform %q: %w", o.Platform, err)
	}
	var src source
	if path, ok := strings.CutPrefix(reference, "oci:"); ok {
		src, err = openLayout(absolute(o.Dir, path), *platform)
	} else if path, ok := strings.CutPrefix(reference, "docker-archive:"); ok {
		src, err = openArchive(absolute(o.Dir, path))
	} else {
		src, err = openRegistry(ctx, reference, *platform)
	}
	if err != nil {
		return nil, err
	}
	raw, err := src.config()
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	config, err := v1.ParseConfigFile(strings.NewReader(string(raw)))
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	img := &Image{reference: reference, platform: *platform, config: config, digest: digestOf(raw), source: src}
	return img, img.check()
}

// check checks what the configuration says. One that names no platform is taken
// for the platform asked for.
func (i *Image) check() error {
	if own := i.config.Platform(); own != nil && own.OS != "" && own.Architecture != "" {
		if own.OS != i.platform.OS || own.Architecture != i.platform.Architecture {
			return fmt.Errorf("it is for %s/%s, want %s/%s", own.OS, own.Architecture, i.platform.OS, i.platform.Architecture)
		}
		i.platform = v1.Platform{OS: own.OS, Architecture: own.Architecture, Variant: own.Variant}
	}
	if n := len(i.config.RootFS.DiffIDs); n > maxLayers {
		return fmt.Errorf("it has %d layers, at most %d are allowed", n, maxLayers)
	}
	for _, id := range i.config.RootFS.DiffIDs {
		if err := checkHash(id); err != nil {
			return fmt.Errorf("configuration: %w", err)
		}
	}
	return nil
}

// Reference gives what Open was called with.
func (i *Image) Reference() string { return i.reference }

// Digest gives the digest of the configuration, the image ID: "sha256:" and hex.
func (i *Image) Digest() string { return i.digest.String() }

// Platform gives "os/architecture[/variant]".
func (i *Image) Platform() string {
	p := i.platform.OS + "/" + i.platform.Architecture
	if i.platform.Variant != "" {
		p += "/" + i.platform.Variant
	}
	return p
}

// Config gives the defaults that the image sets for its container.
func (i *Image) Config() v1.Config { return i.config.Config }

// absolute resolves path from dir, unless it is absolute.
func absolute(dir, path string) string {
	if dir == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

// splitTag splits "path:tag" at the last colon that no slash follows.
func splitTag(path string) (file, tag string) {
	if i := strings.LastIndexByte(path, ':'); i > strings.LastIndexByte(path, '/') {
		return path[:i], path[i+1:]
	}
	return path, ""
}

func digestOf(b []byte) v1.Hash {
	return v1.Hash{Algorithm: "sha256", Hex: fmt.Sprintf("%x", sha256.Sum256(b))}
}

// checkHash admits SHA-256 only: a weaker digest would fix nothing.
func checkHash(h v1.Hash) error {
	if h.Algorithm != "sha256" || len(h.Hex) != 64 {
		return fmt.Errorf("digest %q is not SHA-256", h.String())
	}
	return nil
}

// readVerified reads a small blob whole and checks its digest.
func readVerified(what string, r io.Reader, digest v1.Hash, limit int64) ([]byte, error) {
	if err := checkHash(digest); err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	b, err := readBounded(what, r, limit)
	if err != nil {
		return nil, err
	}
	if got := digestOf(b); got != digest {
		return nil, mismatch("the %s is %s, want %s", what, got, digest)
	}
	return b, nil
}

func readBounded(what string, r io.Reader, limit int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", what, err)
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("the %s is longer than %d bytes", what, limit)
	}
	return b, nil
}

// mismatch makes the refusal of an image that is not what its digests say.
func mismatch(format string, args ...any) error {
	return refusal.New(refusal.MeasurementMismatch, "image: "+format, args...)
}

var errNoArtifacts = errors.New("a docker archive cannot carry a signature: use a bundle file")
