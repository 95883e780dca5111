// Package audit is the broker's append-only record of its decisions.
//
// The records are the leaves of a Merkle tree (RFC 6962, by x/mod/sumdb/tlog).
// With every commit the tree's head is signed as a checkpoint (a C2SP
// tlog-checkpoint, by x/mod/sumdb/note), so that an edit, a removal or a reorder
// shows. Whoever keeps an old checkpoint also sees that the log was cut back or
// replaced: see [Verify].
//
// A [Log] is the only writer of the store that it lives in: a write and the
// record of it are one transaction, and decisions made at the same time share a
// commit. The package imports the store interface; a new kind of decision is a
// new event in record.go.
package audit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/adyton-dev/adyton/internal/broker/store"
	"github.com/adyton-dev/adyton/refusal"
)

// ErrClosed: the log is closed.
var ErrClosed = errors.New("the audit log is closed")

// Bounds of what shares a commit.
const (
	maxBatchOps   = store.MaxOps - 1 // one more for the checkpoint
	maxBatchBytes = 1 << 20
	queueLength   = 1024
	commitTimeout = 30 * time.Second
)

// MaxOps is how many writes Append accepts.
const MaxOps = maxBatchOps - 1

// Log appends records to the tree in one store.
type Log struct {
	store    store.Store
	signer   note.Signer
	verifier note.Verifier
	now      func() time.Time

	queue chan *entry
	// closing is closed by Close; done is closed when the committer has ended.
	closing   chan struct{}
	closeOnce sync.Once
	done      chan struct{}

	// mu guards what the newest checkpoint says, for readers.
	mu         sync.Mutex
	tree       tlog.Tree
	checkpoint []byte
	revision   int64
}

// entry is a record on its way into the log, with the writes that go with it.
type entry struct {
	record  Record
	compare []store.Compare
	ops     []store.Op
	// result gets one value.
	result chan error
}

// Create starts the log of a new broker with its first record.
func Create(ctx context.Context, s store.Store, signer note.Signer, first Record, ops ...store.Op) error {
	l := &Log{store: s, signer: signer, now: time.Now}
	e := &entry{record: first, ops: ops}
	if _, err := s.Get(ctx, checkpointKey); !errors.Is(err, store.ErrNotFound) {
		return errors.New("create audit log: there is one already")
	}
	if err := l.commit(ctx, []*entry{e}); err != nil {
		return fmt.Errorf("create audit log: %w", err)
	}
	return nil
}

// Open opens the log that Create made. It refuses, with AuditCorrupt, a log whose
// newest checkpoint is missing, not signed by signer, or not of the stored tree.
// The caller closes it.
func Open(ctx context.Context, s store.Store, signer note.Signer, verifier note.Verifier) (*Log, error) {
	l := &Log{
		store: s, signer: signer, verifier: verifier, now: time.Now,
		queue: make(chan *entry, queueLength), closing: make(chan struct{}), done: make(chan struct{}),
	}
	if err := l.load(ctx); err != nil {
		return nil, err
	}
	go l.run()
	return l, nil
}

// Append makes the writes of ops if the comparisons hold and records r, together
// or not at all, and returns once they are durable. It sets the record's number
// and time. If a comparison fails the error is store.ErrConflict. If ctx ends
// first, the outcome is unknown.
func (l *Log) Append(ctx context.Context, r Record, compare []store.Compare, ops ...store.Op) error {
	if len(ops) > MaxOps {
		return fmt.Errorf("append to audit log: %d writes; the limit is %d", len(ops), MaxOps)
	}
	e := &entry{record: r, compare: compare, ops: ops, result: make(chan error, 1)}
	select {
	case l.queue <- e:
	case <-l.closing:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-e.result:
		return err
	case <-l.done:
		// The committer may have answered just before it ended.
		select {
		case err := <-e.result:
			return err
		default:
			return ErrClosed
		}
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Checkpoint gives the newest signed checkpoint.
func (l *Log) Checkpoint() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]byte(nil), l.checkpoint...)
}

// Size gives the number of records.
func (l *Log) Size() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.tree.N
}

// Records gives up to limit records from number from on, as the bytes that the
// tree covers.
func (l *Log) Records(ctx context.Context, from int64, limit int) ([][]byte, error) {
	return readRecords(ctx, l.store, from, limit)
}

// ProveRecord gives the inclusion proof (RFC 6962 §2.1.1) of record n in the tree
// of the first size records.
func (l *Log) ProveRecord(ctx context.Context, size, n int64) (tlog.RecordProof, error) {
	if size < 1 || size > l.Size() || n < 0 || n >= size {
		return nil, fmt.Errorf("no record %d in a tree of %d records", n, size)
	}
	return tlog.ProveRecord(size, n, hashReader{ctx: ctx, store: l.store})
}

// ProveTree gives the consistency proof (RFC 6962 §2.1.2) of the tree of the first
// old records in the tree of the first size records.
func (l *Log) ProveTree(ctx context.Context, size, old int64) (tlog.TreeProof, error) {
	if size < 1 || size > l.Size() || old < 1 || old > size {
		return nil, fmt.Errorf("no tree of %d records in one of %d", old, size)
	}
	return tlog.ProveTree(size, old, hashReader{ctx: ctx, store: l.store})
}

// Close waits for the records that are queued to be durable and ends the log. It
// does not close the store.
func (l *Log) Close() {
	l.closeOnce.Do(func() { close(l.closing) })
	<-l.done
}

// run is the committer: it takes what is queued, commits it together, and takes
// what was queued meanwhile.
func (l *Log) run() {
	defer close(l.done)
	var held *entry // did not fit into the last batch
	for {
		batch, next, ok := l.gather(held)
		if !ok {
			return
		}
		held = next
		l.settle(batch)
	}
}

// gather waits for an entry and adds those that are queued behind it and fit.
// The first that does not fit is given as held.
func (l *Log) gather(first *entry) (batch []*entry, held *entry, ok bool) {
	if first == nil {
		select {
		case first = <-l.queue:
		case <-l.closing:
			select {
			case first = <-l.queue: // queued before the close
			default:
				return nil, nil, false
			}
		}
	}
	keys := make(map[string]bool)
	ops, size := 0, 0
	for e := first; ; {
		ops += len(e.ops) + 1
		size += e.size()
		if len(batch) > 0 && (ops > maxBatchOps || size > maxBatchBytes || e.touches(keys)) {
			return batch, e, true
		}
		for _, op := range e.ops {
			keys[op.Key] = true
		}
		batch = append(batch, e)
		select {
		case e = <-l.queue:
		default:
			return batch, nil, true
		}
	}
}

// settle commits a batch and answers its entries. If the batch's comparisons do
// not all hold, each entry is committed alone, so that one conflict refuses one.
func (l *Log) settle(batch []*entry) {
	// A commit is not abandoned because one of those who wait for it has gone.
	ctx, cancel := context.WithTimeout(context.Background(), commitTimeout)
	defer cancel()
	err := l.commit(ctx, batch)
	if !errors.Is(err, store.ErrConflict) {
		for _, e := range batch {
			e.result <- err
		}
		if err != nil {
			// The outcome is unknown: go on from what the store says.
			_ = l.load(ctx)
		}
		return
	}
	for _, e := range batch {
		e.result <- l.commitAlone(ctx, e)
	}
}

// commitAlone commits one entry, again if another broker on the same store has
// moved the log meanwhile.
func (l *Log) commitAlone(ctx context.Context, e *entry) error {
	for {
		err := l.commit(ctx, []*entry{e})
		if !errors.Is(err, store.ErrConflict) {
			return err
		}
		before := l.revision
		if err := l.load(ctx); err != nil {
			return err
		}
		if l.revision == before {
			return err // the conflict is the entry's own
		}
	}
}

// commit appends the batch's records behind l.tree in one transaction. Only the
// committer calls it.
func (l *Log) commit(ctx context.Context, batch []*entry) error {
	txn := store.Txn{Compare: []store.Compare{{Key: checkpointKey, Revision: l.revision}}}
	reader := hashReader{ctx: ctx, store: l.store, fresh: make(map[int64][]tlog.Hash, len(batch))}
	n := l.tree.N
	for _, e := range batch {
		e.record.Sequence = n
		e.record.Time = l.now().UTC()
		data, err := json.Marshal(e.record)
		if err != nil {
			return fmt.Errorf("audit record: %w", err)
		}
		hashes, err := tlog.StoredHashes(n, data, reader)
		if err != nil {
			return fmt.Errorf("audit tree: %w", err)
		}
		reader.fresh[n] = hashes
		txn.Compare = append(txn.Compare, e.compare...)
		txn.Ops = append(append(txn.Ops, e.ops...), store.Op{Key: recordKey(n), Value: encodeLeaf(hashes, data)})
		n++
	}
	hash, err := tlog.TreeHash(n, reader)
	if err != nil {
		return fmt.Errorf("audit tree: %w", err)
	}
	tree := tlog.Tree{N: n, Hash: hash}
	checkpoint, err := signCheckpoint(tree, l.signer)
	if err != nil {
		return err
	}
	txn.Ops = append(txn.Ops, store.Op{Key: checkpointKey, Value: checkpoint})
	revision, err := l.store.Commit(ctx, txn)
	if err != nil {
		return err
	}
	l.set(tree, checkpoint, revision)
	return nil
}

// load takes the newest checkpoint from the store and checks it.
func (l *Log) load(ctx context.Context) error {
	item, err := l.store.Get(ctx, checkpointKey)
	if errors.Is(err, store.ErrNotFound) {
		return refusal.New(refusal.AuditCorrupt, "the audit log has no checkpoint: it was removed")
	}
	if err != nil {
		return err
	}
	tree, err := OpenCheckpoint(item.Value, l.verifier)
	if err != nil {
		return err
	}
	hash, err := tlog.TreeHash(tree.N, hashReader{ctx: ctx, store: l.store})
	if err != nil {
		return refusal.New(refusal.AuditCorrupt, "audit tree: %w", err)
	}
	if hash != tree.Hash {
		return refusal.New(refusal.AuditCorrupt, "the stored tree of %d records is %v, the checkpoint signs %v", tree.N, hash, tree.Hash)
	}
	l.set(tree, item.Value, item.Revision)
	return nil
}

func (l *Log) set(tree tlog.Tree, checkpoint []byte, revision int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tree, l.checkpoint, l.revision = tree, checkpoint, revision
}

func (e *entry) size() int {
	n := 0
	for _, op := range e.ops {
		n += len(op.Value)
	}
	return n
}

// touches reports whether the entry reads or writes one of keys.
func (e *entry) touches(keys map[string]bool) bool {
	for _, op := range e.ops {
		if keys[op.Key] {
			return true
		}
	}
	for _, c := range e.compare {
		if keys[c.Key] {
			return true
		}
	}
	return false
}
