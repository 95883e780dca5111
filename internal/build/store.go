package build

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/adyton-dev/adyton/internal/build/image"
	"github.com/adyton-dev/adyton/refusal"
	"github.com/adyton-dev/adyton/sgx"
)

// ArtifactType is the type of the OCI artifact that carries a signed enclave. Its
// configuration is the descriptor in canonical JSON; its one layer is the SIGSTRUCT
// of [SigStructType].
const ArtifactType = "application/vnd.adyton.enclave.v1+json"

// SigStructType is the media type of a SIGSTRUCT's 1,808 bytes.
const SigStructType = "application/vnd.intel.sgx.sigstruct"

// The annotations of the artifact. They are for tools that list artifacts; what
// Adyton decides by is signed.
const (
	annotationName    = "dev.adyton.enclave.name"
	annotationSigner  = "dev.adyton.enclave.mrsigner"
	annotationCreated = "org.opencontainers.image.created"
)

// Attach keeps the signed enclave with its image, in the place of any of the same
// name. A registry keeps the old ones too; [Find] prefers the newest.
func Attach(ctx context.Context, img *image.Image, s *Signed, created time.Time) error {
	text, err := s.Descriptor.JSON()
	if err != nil {
		return err
	}
	a := image.Artifact{
		Type:   ArtifactType,
		Config: text,
		Layers: []image.Blob{{MediaType: SigStructType, Data: s.SigStruct.Bytes()}},
		Annotations: map[string]string{
			annotationName:    s.Descriptor.Name,
			annotationSigner:  s.SigStruct.MRSIGNER().String(),
			annotationCreated: created.UTC().Format(time.RFC3339),
		},
	}
	return img.Attach(ctx, a, func(old image.Artifact) bool {
		return old.Annotations[annotationName] == s.Descriptor.Name
	})
}

// Query selects a signed enclave of an image.
type Query struct {
	Name   string           // "" is any, if all are of one name
	Signer *sgx.Measurement // nil is any
}

// Find gives the signed enclave of the image that the query selects. Of several of
// one name it gives the newest: the latest SIGSTRUCT date, then the highest SVN,
// then the latest time that the artifact claims to be made. The signature is not
// verified; see [Signed.Check]. If there is none the error is a SignatureMissing.
func Find(ctx context.Context, img *image.Image, q Query) (*Signed, error) {
	all, err := List(ctx, img)
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(s *Signed) bool {
		return q.Name != "" && s.Descriptor.Name != q.Name || q.Signer != nil && s.SigStruct.MRSIGNER() != *q.Signer
	})
	if len(all) == 0 {
		return nil, refusal.New(refusal.SignatureMissing, "image %s carries no signed enclave%s: sign it with `adyton enclave sign`", img.Reference(), q)
	}
	names := []string{}
	for _, s := range all {
		names = append(names, s.Descriptor.Name)
	}
	slices.Sort(names)
	if names = slices.Compact(names); len(names) > 1 {
		return nil, fmt.Errorf("image %s carries the enclaves %s: choose one by its name", img.Reference(), strings.Join(names, ", "))
	}
	return all[0], nil
}

// List gives all signed enclaves of the image, by name and the newest first. One
// that does not parse is a SignatureInvalid.
func List(ctx context.Context, img *image.Image) ([]*Signed, error) {
	artifacts, err := img.Artifacts(ctx, ArtifactType)
	if err != nil {
		return nil, err
	}
	// What is equal in all that is signed is ordered by what is not.
	slices.SortFunc(artifacts, func(a, b image.Artifact) int {
		return cmp.Or(-cmp.Compare(a.Annotations[annotationCreated], b.Annotations[annotationCreated]), cmp.Compare(a.Digest, b.Digest))
	})
	var all []*Signed
	for _, a := range artifacts {
		s, err := fromArtifact(a)
		if err != nil {
			return nil, refusal.New(refusal.SignatureInvalid, "image %s: artifact %s: %w", img.Reference(), a.Digest, err)
		}
		all = append(all, s)
	}
	slices.SortStableFunc(all, func(a, b *Signed) int {
		return cmp.Or(
			cmp.Compare(a.Descriptor.Name, b.Descriptor.Name),
			-cmp.Compare(a.SigStruct.Date, b.SigStruct.Date),
			-cmp.Compare(a.SigStruct.ISVSVN, b.SigStruct.ISVSVN),
		)
	})
	return all, nil
}

func fromArtifact(a image.Artifact) (*Signed, error) {
	if len(a.Layers) != 1 || a.Layers[0].MediaType != SigStructType {
		return nil, fmt.Errorf("it has not one layer of type %s", SigStructType)
	}
	return parseSigned(a.Config, a.Layers[0].Data)
}

// String says what the query asks for, to follow "no signed enclave".
func (q Query) String() string {
	text := ""
	if q.Name != "" {
		text += fmt.Sprintf(" named %q", q.Name)
	}
	if q.Signer != nil {
		text += " signed by " + q.Signer.String()
	}
	return text
}
