// Package descriptor is what is measured of a container enclave, and how its
// MRENCLAVE follows from it.
//
// # Canonical form
//
// A [Descriptor] is written as JSON in the canonical form of RFC 8785 (JCS):
// one value has one encoding, members in a fixed order, no white space. JCS
// rather than Go's own field order, so that a data owner can recompute an
// MRENCLAVE with any language's JSON library and SHA-256. [Parse] accepts only
// that form, so the bytes of a descriptor may be compared and hashed as they are.
//
// # Layout of the synthetic enclave
//
// The software TEE has no pages of machine code to measure. It measures an
// enclave whose pages hold the descriptor's parts, in the order of [Parts]:
//
//	offset 0   for each part: a region of REG|R pages
//	             0..7    "ADYTPART"
//	             8..15   length of the content in bytes, little-endian
//	             16..63  the part's name, zero-padded
//	             64..    the content: the part's value in RFC 8785 form
//	             then zeros to the end of the page
//	then       for each thread: a TCS page (OSSA is the offset of the page after
//	           it, NSSA is 1, the rest is zero) and a zero REG|R|W page, its SSA
//
// Each page is EADDed and wholly EEXTENDed in that order. SSAFRAMESIZE is 1.
// SECS.SIZE is the smallest power of two that holds these pages and `memory`
// bytes of heap; heap pages are not measured, as pages that SGX2's EAUG adds are
// not. Length and name begin each region, so no two descriptors have the same
// pages, and a change of any byte of any part gives another MRENCLAVE. Debug,
// product id and SVN are not measured: they are in SIGSTRUCT, as on hardware.
//
// The package imports the standard library, a JCS library, sgx and refusal, as
// the first program inside the enclave is built from it. To measure one more
// thing, add a field and a line in [Descriptor.Parts]; the golden test shows
// which measurements change.
package descriptor

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/gowebpki/jcs"
)

// Version is the descriptor's apiVersion.
const Version = "adyton.dev/v1alpha1"

// MaxSize bounds an encoded descriptor in bytes.
const MaxSize = 1 << 20

// Descriptor is everything that is measured of one container enclave.
type Descriptor struct {
	// APIVersion is [Version].
	APIVersion string `json:"apiVersion"`
	// Name tells the enclaves of one image apart.
	Name string `json:"name"`
	// Image is the file system and the defaults that the enclave was built from.
	Image Image `json:"image"`
	// Init is the SHA-256 of the adyton-init binary, "sha256:" and 64 hex digits.
	Init string `json:"init"`
	// Arguments is the whole argument vector of the application, at least one.
	Arguments []string `json:"arguments"`
	// Environment has the variables that the owner fixed, the image's included.
	Environment map[string]string `json:"environment"`
	// PassEnvironment has the names of the variables that whoever launches the
	// enclave may set, sorted. A value so given replaces one of Environment.
	PassEnvironment []string `json:"passEnvironment"`
	// WorkingDirectory is an absolute path.
	WorkingDirectory string `json:"workingDirectory"`
	// User is "uid:gid", both decimal.
	User string `json:"user"`
	// Mounts are sorted by destination.
	Mounts []Mount `json:"mounts"`
	// ReadOnlyRoot says that the root file system cannot be written.
	ReadOnlyRoot bool `json:"readOnlyRoot"`
	// Memory is the limit of the enclave's memory in bytes.
	Memory uint64 `json:"memory"`
	// Threads is the number of TCS pages.
	Threads uint32 `json:"threads"`
	// Unlock says what the init fetches before it starts the application, in order.
	Unlock []Unlock `json:"unlock"`
	// Broker is the key broker that the enclave trusts, or nil.
	Broker *Broker `json:"broker"`
}

// Image identifies an image by its configuration.
type Image struct {
	// Digest is the digest of the image's configuration (the image ID), "sha256:"
	// and 64 hex digits. The configuration names each layer's uncompressed digest,
	// so it fixes the whole file system, and it is the same in an archive, a layout
	// directory and a registry, however the layers are compressed there.
	Digest string `json:"digest"`
	// Platform is "os/architecture" with "/variant" if there is one.
	Platform string `json:"platform"`
}

// The kinds of mounts.
const (
	MountBind  = "bind"  // a directory or file of the host; the launcher names the source
	MountTmpfs = "tmpfs" // memory
)

// Mount is a place in the enclave's file system that is not the image's.
type Mount struct {
	Destination string `json:"destination"` // absolute path
	Kind        string `json:"kind"`        // MountBind or MountTmpfs
	ReadOnly    bool   `json:"readOnly"`
	Size        uint64 `json:"size"` // of a tmpfs in bytes; 0 is no limit but Memory
}

// Unlock is one resource that the enclave fetches from its broker. Exactly one of
// File, Env and Open is set.
type Unlock struct {
	// Resource is "kbs:///repository/type/tag".
	Resource string `json:"resource"`
	// File is where the value is written, in memory.
	File string `json:"file,omitempty"`
	// Env is the environment variable that is set to the value.
	Env string `json:"env,omitempty"`
	// Open says that the value is a key, and what it opens.
	Open *Open `json:"open,omitempty"`
}

// Open is sealed data and where its plaintext goes.
type Open struct {
	From string `json:"from"` // the sealed file, an absolute path
	To   string `json:"to"`   // the plaintext, in memory
}

// Broker is a key broker and the key that it must prove.
type Broker struct {
	// URL is where the broker is; the launcher may give another, as whoever answers
	// must hold the key that SPKI names. It may be empty.
	URL string `json:"url"`
	// SPKI is the SHA-256 of the broker's TLS public key (DER SubjectPublicKeyInfo),
	// "sha256:" and 64 hex digits.
	SPKI string `json:"spki"`
}

// Parse reads a descriptor in its canonical form and validates it.
func Parse(text []byte) (*Descriptor, error) {
	if len(text) > MaxSize {
		return nil, fmt.Errorf("enclave descriptor is %d bytes long, at most %d are allowed", len(text), MaxSize)
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	var d Descriptor
	if err := dec.Decode(&d); err != nil {
		return nil, fmt.Errorf("parse enclave descriptor: %w", err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errors.New("parse enclave descriptor: there is more after its end")
	}
	if err := d.Validate(); err != nil {
		return nil, err
	}
	canonical, err := d.JSON()
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(canonical, text) {
		return nil, errors.New("parse enclave descriptor: it is not in canonical form (RFC 8785)")
	}
	return &d, nil
}

// JSON gives the canonical form. It is an error if it is larger than [MaxSize].
func (d *Descriptor) JSON() ([]byte, error) {
	text, err := canonical(d.complete())
	if err != nil {
		return nil, fmt.Errorf("encode enclave descriptor: %w", err)
	}
	if len(text) > MaxSize {
		return nil, fmt.Errorf("encode enclave descriptor: it would be %d bytes long, at most %d are allowed", len(text), MaxSize)
	}
	return text, nil
}

// Clone gives a deep copy, for instance to describe what is about to run.
func (d *Descriptor) Clone() *Descriptor {
	c := *d
	c.Arguments = slices.Clone(d.Arguments)
	c.Environment = maps.Clone(d.Environment)
	c.PassEnvironment = slices.Clone(d.PassEnvironment)
	c.Mounts = slices.Clone(d.Mounts)
	c.Unlock = slices.Clone(d.Unlock)
	for i, u := range c.Unlock {
		if u.Open != nil {
			open := *u.Open
			c.Unlock[i].Open = &open
		}
	}
	if d.Broker != nil {
		broker := *d.Broker
		c.Broker = &broker
	}
	return &c
}

// complete gives a copy with empty instead of nil lists, so that nil and empty
// have one encoding, and with the lists that have no order sorted.
func (d *Descriptor) complete() *Descriptor {
	c := d.Clone()
	c.Arguments = append([]string{}, c.Arguments...)
	c.PassEnvironment = append([]string{}, c.PassEnvironment...)
	slices.Sort(c.PassEnvironment)
	c.Mounts = append([]Mount{}, c.Mounts...)
	slices.SortFunc(c.Mounts, func(a, b Mount) int {
		return bytes.Compare([]byte(a.Destination), []byte(b.Destination))
	})
	c.Unlock = append([]Unlock{}, c.Unlock...)
	if c.Environment == nil {
		c.Environment = map[string]string{}
	}
	return c
}

func canonical(v any) ([]byte, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return jcs.Transform(text)
}
