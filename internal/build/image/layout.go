package image

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/renameio/v2"
)

// refName is the annotation that holds a manifest's tag in a layout (OCI image
// specification, "Pre-Defined Annotation Keys").
const refName = "org.opencontainers.image.ref.name"

// layoutSource is an image in an OCI image layout directory. go-containerregistry
// opens and writes the blobs; reading is bounded and verified here, as the library
// trusts the directory.
type layoutSource struct {
	dir      layout.Path
	subject  v1.Descriptor
	manifest *v1.Manifest
}

// openLayout opens "DIR", "DIR:TAG" or "DIR@sha256:…".
func openLayout(reference string, platform v1.Platform) (source, error) {
	dir, digest, byDigest := strings.Cut(reference, "@")
	tag := ""
	if !byDigest {
		dir, tag = splitTag(reference)
	}
	path := layout.Path(dir)
	if _, err := os.Stat(filepath.Join(dir, "oci-layout")); err != nil {
		return nil, fmt.Errorf("%s is not an OCI image layout directory: %w", dir, err)
	}
	index, err := readIndex(path)
	if err != nil {
		return nil, err
	}
	var found []v1.Descriptor
	for _, d := range index.Manifests {
		switch {
		case byDigest && d.Digest.String() == digest,
			tag != "" && d.Annotations[refName] == tag,
			!byDigest && tag == "" && isImage(d):
			found = append(found, d)
		}
	}
	chosen, err := choose(found, platform)
	if err != nil {
		return nil, err
	}
	for depth := 0; chosen.MediaType.IsIndex(); depth++ {
		if depth == 4 {
			return nil, errors.New("its indexes nest too deep")
		}
		var nested v1.IndexManifest
		if err := readJSON(path, "index", chosen.Digest, &nested); err != nil {
			return nil, err
		}
		if chosen, err = choose(nested.Manifests, platform); err != nil {
			return nil, err
		}
	}
	s := &layoutSource{dir: path, subject: chosen, manifest: &v1.Manifest{}}
	if err := readJSON(path, "manifest", chosen.Digest, s.manifest); err != nil {
		return nil, err
	}
	// A descriptor that refers to the image must not carry its tag.
	s.subject = v1.Descriptor{MediaType: chosen.MediaType, Size: chosen.Size, Digest: chosen.Digest}
	return s, nil
}

// isImage tells images from artifacts. Some tools set an image's artifactType to
// the media type of its configuration.
func isImage(d v1.Descriptor) bool {
	t := types.MediaType(d.ArtifactType)
	return t == "" || t.IsConfig()
}

// choose takes the one manifest for the platform, else the one that names none.
func choose(list []v1.Descriptor, platform v1.Platform) (v1.Descriptor, error) {
	var matching, unnamed []v1.Descriptor
	for _, d := range list {
		switch {
		case d.Platform == nil:
			unnamed = append(unnamed, d)
		case d.Platform.Satisfies(platform):
			matching = append(matching, d)
		}
	}
	if len(matching) == 0 {
		matching = unnamed
	}
	switch {
	case len(matching) == 1:
		return matching[0], nil
	case len(list) == 0:
		return v1.Descriptor{}, errors.New("there is no such image in the layout")
	case len(matching) == 0:
		return v1.Descriptor{}, fmt.Errorf("none of its %d images is for %s", len(list), platform.String())
	default:
		return v1.Descriptor{}, fmt.Errorf("the layout has %d images: name one by :TAG or @sha256:…", len(matching))
	}
}

func (s *layoutSource) config() ([]byte, error) {
	return readBlob(s.dir, "configuration", s.manifest.Config.Digest, maxConfig)
}

func (s *layoutSource) layers() ([]layer, error) {
	return manifestLayers(s.manifest, func(_ context.Context, digest v1.Hash) (io.ReadCloser, error) {
		return s.dir.Blob(digest)
	})
}

// manifestLayers gives the layers that a manifest names.
func manifestLayers(m *v1.Manifest, open func(context.Context, v1.Hash) (io.ReadCloser, error)) ([]layer, error) {
	var list []layer
	for _, d := range m.Layers {
		if err := checkHash(d.Digest); err != nil {
			return nil, fmt.Errorf("layer: %w", err)
		}
		if d.Size < 0 {
			return nil, fmt.Errorf("layer %s: its size is negative", d.Digest)
		}
		list = append(list, layer{digest: d.Digest, size: d.Size, open: func(ctx context.Context) (io.ReadCloser, error) {
			return open(ctx, d.Digest)
		}})
	}
	return list, nil
}

func (s *layoutSource) artifacts() artifactStore { return s }

// list gives the artifacts of the type whose subject is the image.
func (s *layoutSource) list(_ context.Context, artifactType string) ([]Artifact, error) {
	index, err := readIndex(s.dir)
	if err != nil {
		return nil, err
	}
	var list []Artifact
	for _, d := range index.Manifests {
		if d.ArtifactType != artifactType {
			continue
		}
		var m v1.Manifest
		if err := readJSON(s.dir, "artifact manifest", d.Digest, &m); err != nil {
			return nil, err
		}
		if m.Subject == nil || m.Subject.Digest != s.subject.Digest {
			continue
		}
		a, err := artifactOf(d.Digest, &m, func(b v1.Descriptor) ([]byte, error) {
			return readBlob(s.dir, "artifact", b.Digest, maxArtifact)
		})
		if err != nil {
			return nil, err
		}
		list = append(list, a)
	}
	return list, nil
}

// put writes the artifact's blobs, then the index, each by rename, so that the
// layout is whole at any instant.
func (s *layoutSource) put(_ context.Context, a Artifact, replaced []v1.Hash) error {
	image, err := a.image(s.subject)
	if err != nil {
		return err
	}
	for _, blob := range append(image.blobs(), image.manifest) {
		if err := s.dir.WriteBlob(digestOf(blob), io.NopCloser(bytes.NewReader(blob))); err != nil {
			return fmt.Errorf("write blob: %w", err)
		}
	}
	index, err := readIndex(s.dir)
	if err != nil {
		return err
	}
	drop := map[v1.Hash]bool{digestOf(image.manifest): true}
	for _, h := range replaced {
		drop[h] = true
	}
	kept := []v1.Descriptor{}
	for _, d := range index.Manifests {
		if !drop[d.Digest] {
			kept = append(kept, d)
		}
	}
	index.Manifests = append(kept, v1.Descriptor{
		MediaType:    types.OCIManifestSchema1,
		Size:         int64(len(image.manifest)),
		Digest:       digestOf(image.manifest),
		ArtifactType: a.Type,
		Annotations:  a.Annotations,
	})
	text, err := json.MarshalIndent(index, "", "  ")
	if err != nil {
		return fmt.Errorf("encode index.json: %w", err)
	}
	if err := renameio.WriteFile(filepath.Join(string(s.dir), "index.json"), append(text, '\n'), 0o644); err != nil {
		return fmt.Errorf("write index.json: %w", err)
	}
	return nil
}

func readIndex(dir layout.Path) (*v1.IndexManifest, error) {
	f, err := os.Open(filepath.Join(string(dir), "index.json"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := readBounded("index.json", f, maxManifest)
	if err != nil {
		return nil, err
	}
	var index v1.IndexManifest
	if err := json.Unmarshal(text, &index); err != nil {
		return nil, fmt.Errorf("index.json: %w", err)
	}
	return &index, nil
}

func readJSON(dir layout.Path, what string, digest v1.Hash, v any) error {
	text, err := readBlob(dir, what, digest, maxManifest)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, v); err != nil {
		return fmt.Errorf("%s %s: %w", what, digest, err)
	}
	return nil
}

func readBlob(dir layout.Path, what string, digest v1.Hash, limit int64) ([]byte, error) {
	// Before the digest becomes a path.
	if err := checkHash(digest); err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	f, err := dir.Blob(digest)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	defer f.Close()
	return readVerified(what, f, digest, limit)
}
