// Package store says what the broker needs of a key-value store: ordered keys,
// revisions, and transactions that compare revisions before they write. It
// imports only the standard library.
//
// [github.com/adyton-dev/adyton/internal/broker/store/bolt] is the embedded
// store. To add another (etcd), implement [Store] and run
// [github.com/adyton-dev/adyton/internal/broker/store/storetest.Run] against it:
// the broker depends on nothing that the suite does not check.
package store

import (
	"context"
	"errors"
	"fmt"
)

// MaxKey and MaxValue bound what a store must accept, in bytes. The value's
// bound is below etcd's default request limit of 1.5 MiB.
const (
	MaxKey   = 1024
	MaxValue = 1400 << 10
)

// MaxOps is how many writes every store must accept in one transaction.
const MaxOps = 128

var (
	// ErrNotFound: there is no such key.
	ErrNotFound = errors.New("key not found")
	// ErrConflict: a transaction's comparison failed and nothing was written.
	ErrConflict = errors.New("the key was changed by someone else")
)

// Item is a key with its value.
type Item struct {
	Key   string
	Value []byte
	// Revision is the store-wide revision of the transaction that wrote the
	// value: at least 1, and higher for every later transaction.
	Revision int64
}

// Compare is a condition of a transaction: that Key was last written at
// Revision, or does not exist if Revision is 0.
type Compare struct {
	Key      string
	Revision int64
}

// Op is one write of a transaction.
type Op struct {
	Key   string
	Value []byte
	// Delete removes the key, whether or not it exists.
	Delete bool
}

// Txn is a set of writes made together if all comparisons hold. No key may be
// written twice in one transaction.
type Txn struct {
	Compare []Compare
	Ops     []Op
}

// Store is a key-value store. Its methods may be called concurrently. Values
// given and returned belong to the caller.
type Store interface {
	// Get gives the newest committed value of key, or ErrNotFound.
	Get(ctx context.Context, key string) (Item, error)

	// List gives, in the order of their bytes, up to limit items whose key
	// begins with prefix and is greater than after ("" for the first page).
	List(ctx context.Context, prefix, after string, limit int) ([]Item, error)

	// Commit makes all writes of t or none. It returns after they are durable,
	// with the revision that they got. If a comparison fails it gives
	// ErrConflict. After any other error the writes may have been made or not.
	Commit(ctx context.Context, t Txn) (int64, error)

	// Close waits for calls under way and releases the store.
	Close() error
}

// ListAll gives every item under prefix, in pages.
func ListAll(ctx context.Context, s Store, prefix string) ([]Item, error) {
	const page = 1000
	var all []Item
	after := ""
	for {
		items, err := s.List(ctx, prefix, after, page)
		if err != nil {
			return nil, err
		}
		all = append(all, items...)
		if len(items) < page {
			return all, nil
		}
		after = items[len(items)-1].Key
	}
}

// Check reports what makes t unacceptable to any store.
func (t Txn) Check() error {
	if len(t.Ops) > MaxOps {
		return fmt.Errorf("a transaction of %d writes; the limit is %d", len(t.Ops), MaxOps)
	}
	seen := make(map[string]bool, len(t.Ops))
	for _, op := range t.Ops {
		switch {
		case op.Key == "" || len(op.Key) > MaxKey:
			return fmt.Errorf("a key of %d bytes; the limit is 1 to %d", len(op.Key), MaxKey)
		case len(op.Value) > MaxValue:
			return fmt.Errorf("write %s: a value of %d bytes; the limit is %d", op.Key, len(op.Value), MaxValue)
		case seen[op.Key]:
			return fmt.Errorf("write %s: twice in one transaction", op.Key)
		}
		seen[op.Key] = true
	}
	return nil
}
