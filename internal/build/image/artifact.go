package image

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Artifact is a small document that refers to an image (OCI image specification,
// "Guidelines for Artifact Usage"): a manifest whose subject is the image's.
type Artifact struct {
	// Type is the artifactType, and the media type of Config.
	Type string
	// Config and Layers are the content. Config must be JSON.
	Config []byte
	Layers []Blob
	// Annotations of the manifest.
	Annotations map[string]string
	// Digest of the manifest, "sha256:" and hex; set by Artifacts.
	Digest string
}

// Blob is a piece of an artifact.
type Blob struct {
	MediaType string
	Data      []byte
}

// The bounds of an artifact.
const (
	maxArtifact      = 2 << 20 // bytes of each blob
	maxArtifactBlobs = 16
)

// artifactStore keeps the artifacts of one image.
type artifactStore interface {
	list(ctx context.Context, artifactType string) ([]Artifact, error)
	// put keeps an artifact, and drops the replaced ones if the store can.
	put(ctx context.Context, a Artifact, replaced []v1.Hash) error
}

// CarriesArtifacts reports whether artifacts can be kept with the image; a docker
// archive cannot.
func (i *Image) CarriesArtifacts() bool { return i.source.artifacts() != nil }

// Artifacts gives the artifacts of the type that refer to the image.
func (i *Image) Artifacts(ctx context.Context, artifactType string) ([]Artifact, error) {
	store := i.source.artifacts()
	if store == nil {
		return nil, nil
	}
	list, err := store.list(ctx, artifactType)
	if err != nil {
		return nil, fmt.Errorf("list the artifacts of image %s: %w", i.reference, err)
	}
	return list, nil
}

// Attach keeps an artifact with the image, in the place of those that replaces
// reports true for. A registry keeps the old ones too.
func (i *Image) Attach(ctx context.Context, a Artifact, replaces func(Artifact) bool) error {
	store := i.source.artifacts()
	if store == nil {
		return errNoArtifacts
	}
	existing, err := i.Artifacts(ctx, a.Type)
	if err != nil {
		return err
	}
	var replaced []v1.Hash
	for _, old := range existing {
		if !replaces(old) {
			continue
		}
		h, err := v1.NewHash(old.Digest)
		if err != nil {
			return err
		}
		replaced = append(replaced, h)
	}
	if err := store.put(ctx, a, replaced); err != nil {
		return fmt.Errorf("write an artifact to image %s: %w", i.reference, err)
	}
	return nil
}

// artifactOf reads the blobs that an artifact's manifest names.
func artifactOf(digest v1.Hash, m *v1.Manifest, read func(v1.Descriptor) ([]byte, error)) (Artifact, error) {
	if len(m.Layers) > maxArtifactBlobs {
		return Artifact{}, fmt.Errorf("artifact %s has %d layers, at most %d are allowed", digest, len(m.Layers), maxArtifactBlobs)
	}
	a := Artifact{Type: m.ArtifactType, Annotations: m.Annotations, Digest: digest.String()}
	var err error
	if a.Config, err = read(m.Config); err != nil {
		return Artifact{}, fmt.Errorf("artifact %s: %w", digest, err)
	}
	for _, d := range m.Layers {
		data, err := read(d)
		if err != nil {
			return Artifact{}, fmt.Errorf("artifact %s: %w", digest, err)
		}
		a.Layers = append(a.Layers, Blob{MediaType: string(d.MediaType), Data: data})
	}
	return a, nil
}

// image gives the artifact as an OCI image that refers to subject.
func (a Artifact) image(subject v1.Descriptor) (*artifactImage, error) {
	m := v1.Manifest{
		SchemaVersion: 2,
		MediaType:     types.OCIManifestSchema1,
		ArtifactType:  a.Type,
		// A registry without the field artifactType takes the config's media type.
		Config:      v1.Descriptor{MediaType: types.MediaType(a.Type), Size: int64(len(a.Config)), Digest: digestOf(a.Config)},
		Layers:      []v1.Descriptor{},
		Subject:     &subject,
		Annotations: a.Annotations,
	}
	for _, b := range a.Layers {
		m.Layers = append(m.Layers, v1.Descriptor{MediaType: types.MediaType(b.MediaType), Size: int64(len(b.Data)), Digest: digestOf(b.Data)})
	}
	text, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode artifact manifest: %w", err)
	}
	return &artifactImage{artifact: a, manifest: text}, nil
}

// artifactImage is an artifact as go-containerregistry pushes it.
type artifactImage struct {
	artifact Artifact
	manifest []byte
}

// blobs gives the contents of the configuration and of the layers.
func (i *artifactImage) blobs() [][]byte {
	list := [][]byte{i.artifact.Config}
	for _, b := range i.artifact.Layers {
		list = append(list, b.Data)
	}
	return list
}

func (i *artifactImage) v1() (v1.Image, error) { return partial.CompressedToImage(i) }

// MediaType, RawManifest, RawConfigFile and LayerByDigest make it a
// partial.CompressedImageCore.
func (i *artifactImage) MediaType() (types.MediaType, error) { return types.OCIManifestSchema1, nil }

// RawManifest gives the manifest.
func (i *artifactImage) RawManifest() ([]byte, error) { return i.manifest, nil }

// RawConfigFile gives the configuration.
func (i *artifactImage) RawConfigFile() ([]byte, error) { return i.artifact.Config, nil }

// LayerByDigest gives a layer.
func (i *artifactImage) LayerByDigest(h v1.Hash) (partial.CompressedLayer, error) {
	for _, b := range i.artifact.Layers {
		if digestOf(b.Data) == h {
			return artifactLayer{b}, nil
		}
	}
	return nil, fmt.Errorf("artifact has no layer %s", h)
}

// artifactLayer is one blob as go-containerregistry pushes it.
type artifactLayer struct{ blob Blob }

// Digest gives the blob's digest.
func (l artifactLayer) Digest() (v1.Hash, error) { return digestOf(l.blob.Data), nil }

// Compressed gives the blob as it is.
func (l artifactLayer) Compressed() (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(l.blob.Data)), nil
}

// Size gives the blob's length in bytes.
func (l artifactLayer) Size() (int64, error) { return int64(len(l.blob.Data)), nil }

// MediaType gives the blob's media type.
func (l artifactLayer) MediaType() (types.MediaType, error) {
	return types.MediaType(l.blob.MediaType), nil
}
