package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// registrySource is an image in a registry.
type registrySource struct {
	repository name.Repository
	image      v1.Image
	manifest   *v1.Manifest
	subject    v1.Descriptor
}

func openRegistry(ctx context.Context, reference string, platform v1.Platform) (source, error) {
	ref, err := name.ParseReference(reference)
	if err != nil {
		return nil, fmt.Errorf("it is neither oci:DIR, docker-archive:FILE nor a registry's name: %w", err)
	}
	img, err := remote.Image(ref, append(registryOptions(ctx), remote.WithPlatform(platform))...)
	if err != nil {
		return nil, err
	}
	raw, err := img.RawManifest()
	if err != nil {
		return nil, err
	}
	s := &registrySource{repository: ref.Context(), image: img, manifest: &v1.Manifest{}}
	if err := json.Unmarshal(raw, s.manifest); err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	mediaType, err := img.MediaType()
	if err != nil {
		return nil, err
	}
	s.subject = v1.Descriptor{MediaType: mediaType, Size: int64(len(raw)), Digest: digestOf(raw)}
	return s, nil
}

func registryOptions(ctx context.Context) []remote.Option {
	return []remote.Option{remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain)}
}

func (s *registrySource) config() ([]byte, error) {
	raw, err := s.image.RawConfigFile()
	if err != nil {
		return nil, err
	}
	if got := digestOf(raw); got != s.manifest.Config.Digest {
		return nil, mismatch("the configuration is %s, want %s", got, s.manifest.Config.Digest)
	}
	return raw, nil
}

func (s *registrySource) layers() ([]layer, error) {
	return manifestLayers(s.manifest, func(ctx context.Context, digest v1.Hash) (io.ReadCloser, error) {
		l, err := remote.Layer(s.repository.Digest(digest.String()), registryOptions(ctx)...)
		if err != nil {
			return nil, err
		}
		return l.Compressed()
	})
}

func (s *registrySource) artifacts() artifactStore { return s }

// list asks the referrers API, or the referrers tag where a registry has none.
func (s *registrySource) list(ctx context.Context, artifactType string) ([]Artifact, error) {
	options := registryOptions(ctx)
	referrers, err := remote.Referrers(s.repository.Digest(s.subject.Digest.String()), append(options, remote.WithFilter("artifactType", artifactType))...)
	if err != nil {
		return nil, err
	}
	index, err := referrers.IndexManifest()
	if err != nil {
		return nil, err
	}
	var list []Artifact
	for _, d := range index.Manifests {
		if d.ArtifactType != artifactType {
			continue
		}
		img, err := remote.Image(s.repository.Digest(d.Digest.String()), options...)
		if notFound(err) {
			continue // deleted, but still on the referrers tag
		}
		if err != nil {
			return nil, err
		}
		a, ok, err := s.artifact(img, d.Digest)
		if err != nil {
			return nil, err
		}
		if ok {
			list = append(list, a)
		}
	}
	return list, nil
}

// artifact reads an artifact, and reports whether it is about this image.
func (s *registrySource) artifact(img v1.Image, digest v1.Hash) (Artifact, bool, error) {
	raw, err := img.RawManifest()
	if err != nil {
		return Artifact{}, false, err
	}
	if got := digestOf(raw); got != digest {
		return Artifact{}, false, mismatch("the artifact manifest is %s, want %s", got, digest)
	}
	var m v1.Manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		return Artifact{}, false, fmt.Errorf("artifact manifest: %w", err)
	}
	if m.Subject == nil || m.Subject.Digest != s.subject.Digest {
		return Artifact{}, false, nil
	}
	a, err := artifactOf(digest, &m, func(b v1.Descriptor) ([]byte, error) {
		l, err := img.LayerByDigest(b.Digest)
		if err != nil {
			return nil, err
		}
		r, err := l.Compressed()
		if err != nil {
			return nil, err
		}
		defer r.Close()
		return readVerified("artifact", r, b.Digest, maxArtifact)
	})
	return a, err == nil, err
}

// put pushes the artifact; the library keeps the referrers tag where the registry
// has no referrers API. What it replaces stays: a deleted manifest would leave a
// dangling entry on that tag, and most registries forbid deletion anyway.
func (s *registrySource) put(ctx context.Context, a Artifact, _ []v1.Hash) error {
	core, err := a.image(s.subject)
	if err != nil {
		return err
	}
	img, err := core.v1()
	if err != nil {
		return err
	}
	return remote.Write(s.repository.Digest(digestOf(core.manifest).String()), img, registryOptions(ctx)...)
}

func notFound(err error) bool {
	var t *transport.Error
	return errors.As(err, &t) && t.StatusCode == http.StatusNotFound
}
