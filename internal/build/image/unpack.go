package image

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/klauspost/compress/zstd"

	"github.com/adyton-dev/adyton/refusal"
)

// UnpackOptions bound and report an unpacking.
type UnpackOptions struct {
	// MaxBytes bounds the content of all files together; 0 is 16 GiB.
	MaxBytes int64
	// Progress, if set, is called now and then with the bytes of layers read so far
	// and their sum, which is 0 where the source does not say it.
	Progress func(read, total int64)
}

// The default bounds of an unpacked image.
const (
	defaultMaxBytes = 16 << 30
	maxFiles        = 2 << 20
	maxZstdWindow   = 128 << 20
)

// Unpack makes dir, which must not exist, with the image's root file system. It
// verifies each layer's digest and diff ID while it reads; a layer that is not
// what the image's digest fixes is a MeasurementMismatch that names the part image
// and the layer. On any error dir does not exist.
//
// Directories, files, hard links and symbolic links are made, with modes and
// times, and with owners if the caller is root. Set-user-ID and set-group-ID bits
// and extended attributes (file capabilities) are dropped: an enclave runs with no
// new privileges, so they could only serve an attacker on the host. Device nodes,
// FIFOs and sockets are left out: the sandbox makes /dev.
//
// The result depends on Digest alone (and on being root), so a caller may keep it
// and use it again.
func (i *Image) Unpack(ctx context.Context, dir string, o UnpackOptions) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("unpack image %s: %w", i.reference, err)
		}
	}()
	if _, err := os.Lstat(dir); err == nil {
		return fmt.Errorf("%s exists already", dir)
	}
	temp, err := os.MkdirTemp(filepath.Dir(dir), "."+filepath.Base(dir)+".tmp-")
	if err != nil {
		return err
	}
	// After the rename there is nothing left to remove.
	defer os.RemoveAll(temp)
	if o.MaxBytes == 0 {
		o.MaxBytes = defaultMaxBytes
	}
	t, err := newTree(temp, o.MaxBytes)
	if err != nil {
		return err
	}
	defer t.close()
	if err := i.eachLayer(ctx, o.Progress, t.apply); err != nil {
		return err
	}
	if err := t.finish(); err != nil {
		return err
	}
	return os.Rename(temp, dir)
}

// Verify reads all layers and verifies them as Unpack does, and keeps nothing.
func (i *Image) Verify(ctx context.Context, progress func(read, total int64)) error {
	err := i.eachLayer(ctx, progress, func(r io.Reader) error {
		_, err := io.Copy(io.Discard, r)
		return err
	})
	if err != nil {
		return fmt.Errorf("verify image %s: %w", i.reference, err)
	}
	return nil
}

// eachLayer gives use the tar stream of each layer from the lowest, and verifies
// it. What use did with a layer counts only if eachLayer gives no error.
func (i *Image) eachLayer(ctx context.Context, progress func(read, total int64), use func(io.Reader) error) error {
	layers, err := i.source.layers()
	if err != nil {
		return err
	}
	ids := i.config.RootFS.DiffIDs
	if len(layers) != len(ids) {
		return mismatch("the manifest names %d layers, the configuration %d", len(layers), len(ids))
	}
	meter := &meter{report: progress}
	for _, l := range layers {
		meter.total += l.size
	}
	for n, l := range layers {
		if err := l.use(ctx, ids[n], meter, use); err != nil {
			return atLayer(n+1, len(layers), err)
		}
	}
	return nil
}

// atLayer says at which layer an error was, and keeps a refusal one.
func atLayer(n, of int, err error) error {
	if reason := refusal.Of(err); reason != "" {
		return refusal.New(reason, "image: layer %d of %d: %w", n, of, errors.Unwrap(err))
	}
	return fmt.Errorf("layer %d of %d: %w", n, of, err)
}

// use reads the layer once, through two digests: of what the source has, and of
// what it decompresses to.
func (l layer) use(ctx context.Context, diffID v1.Hash, m *meter, use func(io.Reader) error) error {
	blob, err := l.open(ctx)
	if err != nil {
		return err
	}
	defer blob.Close()
	limit := int64(1<<63 - 1)
	if l.digest.Hex != "" {
		limit = l.size + 1
	}
	stored := &digester{r: io.LimitReader(&contextReader{ctx: ctx, r: blob, meter: m}, limit), hash: sha256.New()}
	content, err := decompress(stored)
	if err != nil {
		return l.explain(stored, err)
	}
	defer content.Close()
	plain := &digester{r: content, hash: sha256.New()}
	if err := use(plain); err != nil {
		return l.explain(stored, err)
	}
	// The end of the archive is not the end of the layer: the digests are of all.
	if _, err := io.Copy(io.Discard, plain); err != nil {
		return l.explain(stored, err)
	}
	if err := l.verify(stored); err != nil {
		return err
	}
	if got := plain.sum(); got != diffID {
		return refusal.New(refusal.MeasurementMismatch, "%w", fmt.Errorf("its content is %s, the image's configuration names %s", got, diffID))
	}
	return nil
}

// verify reads the blob to its end and compares its digest.
func (l layer) verify(stored *digester) error {
	if l.digest.Hex == "" {
		return nil
	}
	if _, err := io.Copy(io.Discard, stored); err != nil {
		return err
	}
	if got := stored.sum(); got != l.digest {
		return refusal.New(refusal.MeasurementMismatch, "%w", fmt.Errorf("its blob is %s, the manifest names %s", got, l.digest))
	}
	return nil
}

// explain tells a tampered blob, which may fail anywhere before its digest is
// known, from a genuine one that cannot be used.
func (l layer) explain(stored *digester, err error) error {
	if stored.failed {
		return err
	}
	if verifyErr := l.verify(stored); refusal.Of(verifyErr) != "" {
		return verifyErr
	}
	return err
}

// decompress tells gzip, zstd and plain tar apart by their first bytes, as media
// types are often wrong.
func decompress(r io.Reader) (io.ReadCloser, error) {
	b := bufio.NewReaderSize(r, 64<<10)
	head, err := b.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		return gzip.NewReader(b)
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		d, err := zstd.NewReader(b, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxZstdWindow))
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil
	default:
		return io.NopCloser(b), nil
	}
}

// digester is a reader that keeps a digest of what it read.
type digester struct {
	r      io.Reader
	hash   hash.Hash
	failed bool // the source could not be read
}

func (d *digester) Read(p []byte) (int, error) {
	n, err := d.r.Read(p)
	d.hash.Write(p[:n])
	d.failed = d.failed || err != nil && !errors.Is(err, io.EOF)
	return n, err
}

func (d *digester) sum() v1.Hash {
	return v1.Hash{Algorithm: "sha256", Hex: fmt.Sprintf("%x", d.hash.Sum(nil))}
}

// contextReader reads until its context ends, and tells a meter.
type contextReader struct {
	ctx   context.Context
	r     io.Reader
	meter *meter
}

func (c *contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := c.r.Read(p)
	c.meter.add(int64(n))
	return n, err
}

// meter reports progress about every MiB.
type meter struct {
	report            func(read, total int64)
	read, told, total int64
}

func (m *meter) add(n int64) {
	m.read += n
	if m.report != nil && (m.read-m.told >= 1<<20 || n == 0) {
		m.told = m.read
		m.report(m.read, m.total)
	}
}
