// Package api holds the messages of the broker's administration API. Server and
// clients share it. The messages of the KBS protocol, the names of resources and
// the form of errors are those of attest/kbs, its only import of the project.
package api

import (
	"fmt"
	"time"

	"github.com/adyton-dev/adyton/attest/kbs"
)

// Limits of what an owner may store, in bytes.
const (
	MaxResource = 1 << 20
	MaxPolicy   = 64 << 10
)

// CheckRepository reports whether name may name a repository: the first segment
// of a resource's name.
func CheckRepository(name string) error {
	if _, err := kbs.ParseResourceURI(name + "/type/tag"); err != nil {
		return fmt.Errorf("repository %q: use letters, digits, '_', '-' and, not first, '.'", name)
	}
	return nil
}

// PutResource is the body of PUT /adyton/v1/resource/{repository}/{type}/{tag}:
// a resource and the policy under which it is released, stored together.
type PutResource struct {
	// Value is base64 in JSON.
	Value []byte `json:"value"`
	// Policy is a ReleasePolicy in YAML. Empty: the resource keeps the policy it
	// has, or else is released under its repository's policy.
	Policy string `json:"policy,omitempty"`
}

// Metadata is what the broker tells of a resource; never its value.
type Metadata struct {
	Resource string    `json:"resource"`
	Version  int64     `json:"version"`
	Size     int       `json:"size"`
	Owner    string    `json:"owner"`
	Created  time.Time `json:"created"`
	Updated  time.Time `json:"updated"`
	// Policy is "resource" or "repository": whose policy decides; "" if none does,
	// so that the resource is never released.
	Policy string `json:"policy"`
}

// Owner is someone who may store resources.
type Owner struct {
	Name string `json:"name"`
	// PublicKey is an Ed25519 key in PEM.
	PublicKey string `json:"public_key"`
	// Repositories are those that the owner owns. A repository has one owner.
	Repositories []string  `json:"repositories"`
	Created      time.Time `json:"created"`
}

// ResourcePolicy is the body of POST /kbs/v0/resource-policy.
type ResourcePolicy struct {
	// Policy is base64 in JSON.
	Policy []byte `json:"policy"`
}
