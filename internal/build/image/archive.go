package image

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// archiveSource is an image in a docker-archive tar. An archive has no manifest
// with digests; the configuration's diff IDs verify its layers.
type archiveSource struct{ image v1.Image }

// openArchive opens "FILE" or "FILE:TAG".
func openArchive(reference string) (source, error) {
	file, tagText := splitTag(reference)
	var tag *name.Tag
	if tagText != "" {
		// An archive's tags are full names; the user gives the name or its last part.
		full, err := archiveTag(file, tagText)
		if err != nil {
			return nil, err
		}
		tag = full
	}
	img, err := tarball.ImageFromPath(file, tag)
	if err != nil {
		return nil, err
	}
	return &archiveSource{image: img}, nil
}

// archiveTag finds the one name in the archive that ends in ":tag".
func archiveTag(file, tag string) (*name.Tag, error) {
	manifest, err := tarball.LoadManifest(func() (io.ReadCloser, error) { return os.Open(file) })
	if err != nil {
		return nil, err
	}
	var found *name.Tag
	for _, image := range manifest {
		for _, text := range image.RepoTags {
			t, err := name.NewTag(text, name.WeakValidation)
			if err != nil || t.TagStr() != tag {
				continue
			}
			if found != nil {
				return nil, fmt.Errorf("the archive has several images with the tag %q", tag)
			}
			found = &t
		}
	}
	if found == nil {
		return nil, fmt.Errorf("the archive has no image with the tag %q", tag)
	}
	return found, nil
}

func (s *archiveSource) config() ([]byte, error) { return s.image.RawConfigFile() }

func (s *archiveSource) layers() ([]layer, error) {
	config, err := s.image.ConfigFile()
	if err != nil {
		return nil, err
	}
	var list []layer
	for _, id := range config.RootFS.DiffIDs {
		list = append(list, layer{open: func(context.Context) (io.ReadCloser, error) {
			l, err := s.image.LayerByDiffID(id)
			if err != nil {
				return nil, err
			}
			return l.Uncompressed()
		}})
	}
	return list, nil
}

func (s *archiveSource) artifacts() artifactStore { return nil }
