// Package bolt is the broker's embedded store: one bbolt file. It imports the
// store interface and bbolt only.
package bolt

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/adyton-dev/adyton/internal/broker/store"
)

// ErrInUse: another process holds the file.
var ErrInUse = errors.New("the broker's database is in use by another process")

// lockWait is how long Open waits for another process to let go of the file.
const lockWait = 500 * time.Millisecond

// The file holds one bucket. A value is its revision, 8 bytes big-endian, then
// the bytes. The bucket's sequence number is the newest revision.
var bucketName = []byte("adyton")

const revisionSize = 8

// Store is a bbolt file as a store.Store.
type Store struct{ db *bbolt.DB }

// Open opens the file, and creates it with mode 0600 if there is none. While it
// is open no other process can open it: they get ErrInUse.
func Open(path string) (*Store, error) {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{
		Timeout: lockWait,
		// The free list is rebuilt at open instead of being written at each commit.
		NoFreelistSync: true,
		FreelistType:   bbolt.FreelistMapType,
	})
	if errors.Is(err, berrors.ErrTimeout) {
		return nil, fmt.Errorf("open %s: %w", path, ErrInUse)
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucketIfNotExists(bucketName)
		return err
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", path, err), db.Close())
	}
	return &Store{db: db}, nil
}

// OpenReadOnly opens an existing file and never writes to it. While another
// process has it open to write, it gives ErrInUse.
func OpenReadOnly(path string) (*Store, error) {
	db, err := bbolt.Open(path, 0, &bbolt.Options{Timeout: lockWait, ReadOnly: true})
	if errors.Is(err, berrors.ErrTimeout) {
		return nil, fmt.Errorf("open %s: %w", path, ErrInUse)
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return &Store{db: db}, nil
}

// Get implements store.Store.
func (s *Store) Get(ctx context.Context, key string) (store.Item, error) {
	if err := ctx.Err(); err != nil {
		return store.Item{}, err
	}
	var item store.Item
	err := s.db.View(func(tx *bbolt.Tx) error {
		raw := tx.Bucket(bucketName).Get([]byte(key))
		if raw == nil {
			return store.ErrNotFound
		}
		var err error
		item, err = decode([]byte(key), raw)
		return err
	})
	if err != nil {
		return store.Item{}, fmt.Errorf("get %s: %w", key, err)
	}
	return item, nil
}

// List implements store.Store.
func (s *Store) List(ctx context.Context, prefix, after string, limit int) ([]store.Item, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var items []store.Item
	err := s.db.View(func(tx *bbolt.Tx) error {
		c := tx.Bucket(bucketName).Cursor()
		start := max(prefix, after)
		for k, v := c.Seek([]byte(start)); k != nil && bytes.HasPrefix(k, []byte(prefix)) && len(items) < limit; k, v = c.Next() {
			if after != "" && string(k) <= after {
				continue
			}
			item, err := decode(k, v)
			if err != nil {
				return err
			}
			items = append(items, item)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", prefix, err)
	}
	return items, nil
}

// Commit implements store.Store. It returns after fdatasync.
func (s *Store) Commit(ctx context.Context, t store.Txn) (int64, error) {
	if err := t.Check(); err != nil {
		return 0, err
	}
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	var revision uint64
	err := s.db.Update(func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucketName)
		for _, c := range t.Compare {
			if current(b, c.Key) != c.Revision {
				return fmt.Errorf("write %s: %w", c.Key, store.ErrConflict)
			}
		}
		var err error
		if revision, err = b.NextSequence(); err != nil {
			return err
		}
		for _, op := range t.Ops {
			if op.Delete {
				if err := b.Delete([]byte(op.Key)); err != nil {
					return err
				}
				continue
			}
			raw := binary.BigEndian.AppendUint64(make([]byte, 0, revisionSize+len(op.Value)), revision)
			if err := b.Put([]byte(op.Key), append(raw, op.Value...)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("commit: %w", err)
	}
	return int64(revision), nil
}

// Close implements store.Store.
func (s *Store) Close() error { return s.db.Close() }

// current gives the revision of key, or 0 if there is none.
func current(b *bbolt.Bucket, key string) int64 {
	raw := b.Get([]byte(key))
	if len(raw) < revisionSize {
		return 0
	}
	return int64(binary.BigEndian.Uint64(raw))
}

// decode copies a value out of the memory that belongs to the transaction.
func decode(key, raw []byte) (store.Item, error) {
	if len(raw) < revisionSize {
		return store.Item{}, fmt.Errorf("%s: a value of %d bytes has no revision; the file is damaged", key, len(raw))
	}
	return store.Item{
		Key:      string(key),
		Value:    bytes.Clone(raw[revisionSize:]),
		Revision: int64(binary.BigEndian.Uint64(raw)),
	}, nil
}
