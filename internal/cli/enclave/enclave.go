// Package enclave is the command group `adyton enclave`: from an image and an
// enclave.yaml to a signed enclave image, and back to what was signed.
//
// It speaks to the user; the work is done by internal/build. Each command is a
// file. To add one, write its file and list it in New.
package enclave

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/adyton-dev/adyton/internal/build"
	"github.com/adyton-dev/adyton/internal/build/descriptor"
	"github.com/adyton-dev/adyton/internal/build/image"
)

// New makes the command group.
func New() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "enclave",
		Short: "Build, sign and inspect enclave images",
		Long: `Build, sign and inspect enclave images.

An enclave is an image with an enclave.yaml: the command, the fixed environment, the
mounts, the memory, and the keys and data that it may unlock. All of that is measured
into MRENCLAVE, and the owner signs the measurement (SIGSTRUCT). The signature is kept
with the image, as an OCI artifact that refers to it, in a registry and in an OCI
layout directory; a docker archive cannot carry it, so there it is a bundle file.

Images are named as
  oci:DIR[:TAG]  oci:DIR@sha256:…   an OCI image layout directory
  docker-archive:FILE[:TAG]         what docker save or podman save wrote
  HOST/REPOSITORY[:TAG|@sha256:…]   a registry, with your docker login

The measurement is the same on every machine: it follows from the enclave.yaml, the
digest of the image's configuration and the digest of adyton-init, which is found by
$ADYTON_INIT or beside the adyton program.`,
		Example: `  adyton enclave pack --to image app=/app
  adyton enclave init --image oci:./image
  adyton enclave keygen key.pem
  adyton enclave sign --key key.pem
  adyton enclave inspect oci:./image
  adyton enclave verify oci:./image --signer 8c5f…`,
		Args: cobra.NoArgs,
	}
	cmd.AddCommand(newPack(), newInit(), newKeygen(), newMeasure(), newSign(), newInspect(), newVerify())
	return cmd
}

// input is what an enclave is described from.
type input struct {
	file, image, init, platform string
}

// addFlags gives cmd the flags for all of it.
func (in *input) addFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVarP(&in.file, "file", "f", "enclave.yaml", "the enclave's description")
	f.StringVar(&in.image, "image", "", "build from this image instead of the one in the file")
	in.addInit(cmd)
	in.addPlatform(cmd)
}

func (in *input) addInit(cmd *cobra.Command) {
	cmd.Flags().StringVar(&in.init, "init", "", "path of adyton-init (default $ADYTON_INIT, else beside adyton)")
}

func (in *input) addPlatform(cmd *cobra.Command) {
	cmd.Flags().StringVar(&in.platform, "platform", "linux/amd64", "which image to take from one for several platforms")
}

// describe reads the file and the image.
func (in *input) describe(ctx context.Context) (*build.Config, *image.Image, *descriptor.Descriptor, error) {
	config, err := build.LoadConfig(in.file)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil, nil, fmt.Errorf("%w: make one with `adyton enclave init`", err)
	}
	if err != nil {
		return nil, nil, nil, err
	}
	reference, dir := config.Image, config.Dir
	if in.image != "" {
		reference, dir = in.image, ""
	}
	img, err := image.Open(ctx, reference, image.Options{Dir: dir, Platform: in.platform})
	if err != nil {
		return nil, nil, nil, err
	}
	digest, err := in.initDigest()
	// A file that names the digest needs no binary at hand.
	if err != nil && (in.init != "" || config.Init == "") {
		return nil, nil, nil, err
	}
	d, err := build.Describe(ctx, config, img, digest)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("%s: %w", in.file, err)
	}
	return config, img, d, nil
}

// initDigest gives the digest of the adyton-init at hand.
func (in *input) initDigest() (string, error) {
	path := in.init
	if path == "" {
		var err error
		if path, err = build.FindInit(); err != nil {
			return "", fmt.Errorf("%w, or by --init", err)
		}
	}
	return build.DigestFile(path)
}

// now gives the time to sign at: $SOURCE_DATE_EPOCH (seconds since 1970) if it is
// set, so that a build can be repeated, else the clock's.
func now() (time.Time, error) {
	text := os.Getenv("SOURCE_DATE_EPOCH")
	if text == "" {
		return time.Now(), nil
	}
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("$SOURCE_DATE_EPOCH is %q, want seconds since 1970", text)
	}
	return time.Unix(seconds, 0).UTC(), nil
}

// signed is a signed enclave that is in a bundle file or with its image.
func signed(ctx context.Context, img *image.Image, bundle string, q build.Query) (*build.Signed, error) {
	if bundle == "" {
		return build.Find(ctx, img, q)
	}
	s, err := readBundle(bundle)
	if err != nil {
		return nil, err
	}
	if q.Name != "" && q.Name != s.Descriptor.Name {
		return nil, fmt.Errorf("%s is the enclave %q, not %q", bundle, s.Descriptor.Name, q.Name)
	}
	return s, nil
}

func readBundle(file string) (*build.Signed, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("read enclave bundle: %w", err)
	}
	defer f.Close()
	s, err := build.ParseBundle(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return s, nil
}
