package broker

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/adyton-dev/adyton/attest/kbs"
	"github.com/adyton-dev/adyton/internal/broker/store"
)

// Where the records are. All but the audit log's are sealed by the vault.
const (
	keyPrefix        = "key/"        // the broker's own keys
	ownerPrefix      = "owner/"      // + name: ownerRecord
	ownerKeyPrefix   = "owner-key/"  // + key id: the owner's name
	repositoryPrefix = "repository/" // + repository: the owner's name
	resourcePrefix   = "resource/"   // + repository/type/tag: resourceRecord
	policyPrefix     = "policy/"     // + repository: policyRecord
	brokerPolicyKey  = "broker-policy"
)

func resourceKey(r kbs.ResourceURI) string { return resourcePrefix + r.Path() }

// resourceRecord holds a resource together with its own policy, so that the host
// cannot take away the one and leave the other.
type resourceRecord struct {
	Value   []byte    `cbor:"1,keyasint"`
	Policy  string    `cbor:"2,keyasint,omitempty"`
	Owner   string    `cbor:"3,keyasint"`
	Created time.Time `cbor:"4,keyasint"`
	Updated time.Time `cbor:"5,keyasint"`
}

type policyRecord struct {
	Text    string    `cbor:"1,keyasint"`
	Updated time.Time `cbor:"2,keyasint"`
}

type ownerRecord struct {
	Name         string            `cbor:"1,keyasint"`
	PublicKey    ed25519.PublicKey `cbor:"2,keyasint"`
	Repositories []string          `cbor:"3,keyasint"`
	Created      time.Time         `cbor:"4,keyasint"`
}

// stored is a record as it is in the store. The zero value is one that is not.
type stored[T any] struct {
	key   string
	value T
	// version counts the writes of this record; revision is the store's.
	version, revision int64
}

func (s *stored[T]) exists() bool { return s.revision != 0 }

// unchanged is the condition that the record is still as it was read.
func (s *stored[T]) unchanged() store.Compare {
	return store.Compare{Key: s.key, Revision: s.revision}
}

// load reads the record under key; one that does not exist is no error.
func load[T any](ctx context.Context, b *Broker, key string) (stored[T], error) {
	s := stored[T]{key: key}
	item, err := b.store.Get(ctx, key)
	if errors.Is(err, store.ErrNotFound) {
		return s, nil
	}
	if err != nil {
		return s, err
	}
	return decode[T](b, item)
}

// loadAll reads the records under prefix.
func loadAll[T any](ctx context.Context, b *Broker, prefix string) ([]stored[T], error) {
	items, err := store.ListAll(ctx, b.store, prefix)
	if err != nil {
		return nil, err
	}
	all := make([]stored[T], len(items))
	for i, item := range items {
		if all[i], err = decode[T](b, item); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func decode[T any](b *Broker, item store.Item) (stored[T], error) {
	s := stored[T]{key: item.Key, revision: item.Revision}
	plain, version, err := b.vault.Open(item.Key, item.Value)
	if err != nil {
		return s, err
	}
	s.version = version
	if err := cbor.Unmarshal(plain, &s.value); err != nil {
		return s, fmt.Errorf("record %s: %w", item.Key, err)
	}
	return s, nil
}

// write gives the write of s.value as the record's next version.
func (s *stored[T]) write(b *Broker) (store.Op, error) {
	s.version++
	plain, err := cbor.Marshal(s.value)
	if err != nil {
		return store.Op{}, fmt.Errorf("record %s: %w", s.key, err)
	}
	sealed, err := b.vault.Seal(s.key, s.version, plain)
	return store.Op{Key: s.key, Value: sealed}, err
}

func (s *stored[T]) remove() store.Op { return store.Op{Key: s.key, Delete: true} }
