package audit

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/adyton-dev/adyton/internal/broker/store"
	"github.com/adyton-dev/adyton/refusal"
)

// maxRecord bounds one record of an exported log, in bytes.
const maxRecord = 1 << 20

// Verify recomputes the tree of all records and compares it with the log's
// checkpoint and with checkpoints that were kept from earlier. It gives the tree.
//
// An edited, removed, inserted or reordered record is an error of reason
// AuditCorrupt, and so is a release by another version or policy than the log says
// was last written: then the host put back a part of the store, or took it away.
// That the whole log was cut back to an older state of itself, or
// replaced by another one under the same key, shows only against an earlier
// checkpoint: keep one elsewhere.
func Verify(records iter.Seq2[[]byte, error], verifier note.Verifier, checkpoint []byte, earlier ...[]byte) (tlog.Tree, error) {
	want, err := OpenCheckpoint(checkpoint, verifier)
	if err != nil {
		return tlog.Tree{}, err
	}
	var kept []tlog.Tree
	for _, e := range earlier {
		tree, err := OpenCheckpoint(e, verifier)
		if err != nil {
			return tlog.Tree{}, fmt.Errorf("earlier %w", err)
		}
		if tree.N > want.N {
			return tlog.Tree{}, corrupt("the log was cut back: it has %d records, an earlier checkpoint signs %d", want.N, tree.N)
		}
		kept = append(kept, tree)
	}
	var f frontier
	state := newReplay()
	for data, err := range records {
		if err != nil {
			return tlog.Tree{}, err
		}
		if f.n == want.N {
			return tlog.Tree{}, corrupt("there are more records than the %d that the checkpoint signs", want.N)
		}
		var r struct {
			Record
			Sequence *int64 `json:"seq"` // goes before the record's own: it must be there
		}
		if err := json.Unmarshal(data, &r); err != nil || r.Sequence == nil {
			return tlog.Tree{}, corrupt("record %d is not a record", f.n)
		}
		if *r.Sequence != f.n {
			return tlog.Tree{}, corrupt("record %d is in the place of record %d", *r.Sequence, f.n)
		}
		if err := state.next(f.n, &r.Record); err != nil {
			return tlog.Tree{}, err
		}
		f.add(data)
		for _, k := range kept {
			if k.N == f.n && f.hash() != k.Hash {
				return tlog.Tree{}, corrupt("the first %d records are not those that an earlier checkpoint signs", k.N)
			}
		}
	}
	if f.n < want.N {
		return tlog.Tree{}, corrupt("the log has %d records, the checkpoint signs %d", f.n, want.N)
	}
	if hash := f.hash(); hash != want.Hash {
		return tlog.Tree{}, corrupt("a record was changed: the tree of %d records is %v, the checkpoint signs %v", f.n, hash, want.Hash)
	}
	return want, nil
}

// VerifyStore is Verify of the log in a store, including the tree's stored hashes.
func VerifyStore(ctx context.Context, s store.Store, verifier note.Verifier, earlier ...[]byte) (tlog.Tree, error) {
	item, err := s.Get(ctx, checkpointKey)
	if errors.Is(err, store.ErrNotFound) {
		return tlog.Tree{}, corrupt("the audit log has no checkpoint: it was removed")
	}
	if err != nil {
		return tlog.Tree{}, err
	}
	return Verify(FromStore(ctx, s), verifier, item.Value, earlier...)
}

// StoredCheckpoint gives the newest checkpoint of the log in a store, unverified.
func StoredCheckpoint(ctx context.Context, s store.Store) ([]byte, error) {
	item, err := s.Get(ctx, checkpointKey)
	return item.Value, err
}

// FromStore reads the records of the log in a store, and checks that none is
// missing and that each is what its stored hashes say.
func FromStore(ctx context.Context, s store.Store) iter.Seq2[[]byte, error] {
	const page = 512
	return func(yield func([]byte, error) bool) {
		var f frontier
		for after := ""; ; {
			items, err := s.List(ctx, recordPrefix, after, page)
			if err != nil {
				yield(nil, err)
				return
			}
			for _, item := range items {
				if item.Key != recordKey(f.n) {
					yield(nil, corrupt("record %d is missing", f.n))
					return
				}
				hashes, data, err := decodeLeaf(f.n, item.Value)
				if err != nil {
					yield(nil, corrupt("%w", err))
					return
				}
				if n := f.n; !slices.Equal(f.add(data), hashes) {
					yield(nil, corrupt("record %d was changed", n))
					return
				}
				if !yield(data, nil) {
					return
				}
			}
			if len(items) < page {
				return
			}
			after = items[len(items)-1].Key
		}
	}
}

// FromLines reads records that were exported one a line.
func FromLines(r io.Reader) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		lines := bufio.NewScanner(r)
		lines.Buffer(nil, maxRecord)
		for lines.Scan() {
			if !yield(bytes.Clone(lines.Bytes()), nil) {
				return
			}
		}
		if err := lines.Err(); err != nil {
			yield(nil, fmt.Errorf("read audit records: %w", err))
		}
	}
}

func corrupt(format string, args ...any) error {
	return refusal.New(refusal.AuditCorrupt, format, args...)
}

// frontier is a Merkle tree that only grows: the roots of its complete subtrees,
// largest first.
type frontier struct {
	n     int64
	roots []tlog.Hash
}

// add appends a record and gives the hashes of the subtrees that it completes,
// level 0 first.
func (f *frontier) add(data []byte) []tlog.Hash {
	h := tlog.RecordHash(data)
	done := []tlog.Hash{h}
	for range completed(f.n) - 1 {
		last := len(f.roots) - 1
		h = tlog.NodeHash(f.roots[last], h)
		f.roots = f.roots[:last]
		done = append(done, h)
	}
	f.roots = append(f.roots, h)
	f.n++
	return done
}

// hash gives the tree's hash, as RFC 6962 §2.1 defines it for at least one record.
func (f *frontier) hash() tlog.Hash {
	if len(f.roots) == 0 {
		return tlog.Hash{}
	}
	h := f.roots[len(f.roots)-1]
	for _, root := range slices.Backward(f.roots[:len(f.roots)-1]) {
		h = tlog.NodeHash(root, h)
	}
	return h
}
