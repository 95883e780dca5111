package audit_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/adyton-dev/adyton/internal/broker/audit"
	"github.com/adyton-dev/adyton/internal/broker/store"
	"github.com/adyton-dev/adyton/internal/broker/store/bolt"
	"github.com/adyton-dev/adyton/refusal"
)

type fixture struct {
	store    store.Store
	signer   note.Signer
	verifier note.Verifier
}

func newFixture(t testing.TB) *fixture {
	t.Helper()
	s, err := bolt.Open(filepath.Join(t.TempDir(), "store.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	f := &fixture{store: s}
	f.signer, f.verifier = newKey(t)
	if err := audit.Create(t.Context(), s, f.signer, audit.Record{Event: audit.EventInit, Allowed: true}); err != nil {
		t.Fatal(err)
	}
	return f
}

func newKey(t testing.TB) (note.Signer, note.Verifier) {
	t.Helper()
	skey, vkey, err := note.GenerateKey(rand.Reader, "adyton.dev/test")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		t.Fatal(err)
	}
	return signer, verifier
}

func (f *fixture) open(t testing.TB) *audit.Log {
	t.Helper()
	l, err := audit.Open(t.Context(), f.store, f.signer, f.verifier)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

// fill appends n records, some at the same time.
func fill(t testing.TB, l *audit.Log, n int) {
	t.Helper()
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			r := audit.Record{Event: audit.EventRelease, Resource: fmt.Sprint("r/t/", i)}
			if err := l.Append(context.Background(), r, nil, store.Op{Key: fmt.Sprint("data/", i), Value: []byte("v")}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func TestEveryRecordIsVerifiedWithItsWrite(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	l := f.open(t)
	fill(t, l, 300)
	tree, err := audit.VerifyStore(t.Context(), f.store, f.verifier)
	if err != nil {
		t.Fatal(err)
	}
	if tree.N != 301 || l.Size() != 301 {
		t.Errorf("%d records, log says %d", tree.N, l.Size())
	}
	items, err := store.ListAll(t.Context(), f.store, "data/")
	if err != nil || len(items) != 300 {
		t.Errorf("%d writes, %v", len(items), err)
	}
}

func TestAConflictRefusesOnlyItsOwnEntry(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	l := f.open(t)
	var wg sync.WaitGroup
	var mu sync.Mutex
	conflicts := 0
	for i := range 50 {
		wg.Go(func() {
			create := []store.Compare{{Key: fmt.Sprint("k", i/2)}}
			err := l.Append(context.Background(), audit.Record{Event: audit.EventResourcePut}, create, store.Op{Key: create[0].Key})
			mu.Lock()
			defer mu.Unlock()
			if errors.Is(err, store.ErrConflict) {
				conflicts++
			} else if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if conflicts != 25 || l.Size() != 26 {
		t.Errorf("%d conflicts, %d records; want 25, 26", conflicts, l.Size())
	}
	if _, err := audit.VerifyStore(t.Context(), f.store, f.verifier); err != nil {
		t.Error(err)
	}
}

// rewrite changes the store behind the log's back, as the host can.
func (f *fixture) rewrite(t *testing.T, key string, change func([]byte) []byte) {
	t.Helper()
	item, err := f.store.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	op := store.Op{Key: key}
	if op.Value = change(item.Value); op.Value == nil {
		op.Delete = true
	}
	if _, err := f.store.Commit(t.Context(), store.Txn{Ops: []store.Op{op}}); err != nil {
		t.Fatal(err)
	}
}

func recordKey(n int) string { return fmt.Sprintf("audit/record/%016x", n) }

const checkpointKey = "audit/checkpoint"

func TestVerifyDetectsTampering(t *testing.T) {
	t.Parallel()
	const records = 20
	get := func(f *fixture, t *testing.T, key string) []byte {
		item, err := f.store.Get(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		return item.Value
	}
	for name, tamper := range map[string]func(t *testing.T, f *fixture, old []byte){
		"an edited record": func(t *testing.T, f *fixture, _ []byte) {
			f.rewrite(t, recordKey(7), func(v []byte) []byte {
				return bytes.Replace(v, []byte(`"allowed":false`), []byte(`"allowed":true`), 1)
			})
		},
		"an edited record with its hash made to fit": func(t *testing.T, f *fixture, _ []byte) {
			f.rewrite(t, recordKey(8), func(v []byte) []byte { // completes one subtree: its own
				data := bytes.Replace(v[33:], []byte(`"allowed":false`), []byte(`"allowed":true`), 1)
				h := tlog.RecordHash(data)
				return append(append([]byte{1}, h[:]...), data...)
			})
		},
		"a removed record": func(t *testing.T, f *fixture, _ []byte) {
			f.rewrite(t, recordKey(5), func([]byte) []byte { return nil })
		},
		"a removed last one": func(t *testing.T, f *fixture, _ []byte) {
			f.rewrite(t, recordKey(records), func([]byte) []byte { return nil })
		},
		"two records swapped": func(t *testing.T, f *fixture, _ []byte) {
			a, b := get(f, t, recordKey(4)), get(f, t, recordKey(6))
			f.rewrite(t, recordKey(4), func([]byte) []byte { return b })
			f.rewrite(t, recordKey(6), func([]byte) []byte { return a })
		},
		"an added record": func(t *testing.T, f *fixture, _ []byte) {
			forged := get(f, t, recordKey(records-2))
			if _, err := f.store.Commit(t.Context(), store.Txn{Ops: []store.Op{{Key: recordKey(records + 1), Value: forged}}}); err != nil {
				t.Fatal(err)
			}
		},
		"a removed checkpoint": func(t *testing.T, f *fixture, _ []byte) {
			f.rewrite(t, checkpointKey, func([]byte) []byte { return nil })
		},
		"an edited checkpoint": func(t *testing.T, f *fixture, _ []byte) {
			f.rewrite(t, checkpointKey, func(v []byte) []byte { return bytes.Replace(v, []byte("\n21\n"), []byte("\n20\n"), 1) })
		},
		"a log cut back to an older checkpoint": func(t *testing.T, f *fixture, old []byte) {
			f.rewrite(t, checkpointKey, func([]byte) []byte { return old })
			for n := 11; n <= records; n++ {
				f.rewrite(t, recordKey(n), func([]byte) []byte { return nil })
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			l := f.open(t)
			fill(t, l, 10)
			old := l.Checkpoint()
			fill(t, l, records-10)
			kept := l.Checkpoint()
			l.Close()
			if _, err := audit.VerifyStore(t.Context(), f.store, f.verifier, old, kept); err != nil {
				t.Fatalf("before: %v", err)
			}
			tamper(t, f, old)
			_, err := audit.VerifyStore(t.Context(), f.store, f.verifier, kept)
			if refusal.Of(err) != refusal.AuditCorrupt {
				t.Errorf("got %v, want AuditCorrupt", err)
			}
			t.Log(err)
		})
	}
}

func TestVerifyDetectsALogThatWasReplaced(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	l := f.open(t)
	fill(t, l, 5)
	kept := l.Checkpoint()
	l.Close()

	other := newFixture(t)
	other.signer, other.verifier = f.signer, f.verifier
	for _, key := range []string{checkpointKey, recordKey(0)} {
		other.rewrite(t, key, func([]byte) []byte { return nil })
	}
	if err := audit.Create(t.Context(), other.store, f.signer, audit.Record{Event: audit.EventInit}); err != nil {
		t.Fatal(err)
	}
	l = other.open(t)
	fill(t, l, 9)
	if _, err := audit.VerifyStore(t.Context(), other.store, f.verifier); err != nil {
		t.Fatal(err)
	}
	if _, err := audit.VerifyStore(t.Context(), other.store, f.verifier, kept); refusal.Of(err) != refusal.AuditCorrupt {
		t.Errorf("got %v, want AuditCorrupt", err)
	}
}

func TestACheckpointOfAnotherKeyIsRefused(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	_, other := newKey(t)
	if _, err := audit.VerifyStore(t.Context(), f.store, other); refusal.Of(err) != refusal.AuditCorrupt {
		t.Errorf("got %v, want AuditCorrupt", err)
	}
	if _, err := audit.Open(t.Context(), f.store, f.signer, other); refusal.Of(err) != refusal.AuditCorrupt {
		t.Errorf("open: got %v, want AuditCorrupt", err)
	}
}

func TestAnExportedLogIsVerifiedOffline(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	l := f.open(t)
	fill(t, l, 40)
	records, err := l.Records(t.Context(), 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	verify := func(records [][]byte) error {
		_, err := audit.Verify(audit.FromLines(bytes.NewReader(bytes.Join(records, []byte("\n")))), f.verifier, l.Checkpoint())
		return err
	}
	if err := verify(records); err != nil {
		t.Fatal(err)
	}
	for name, changed := range map[string][][]byte{
		"cut":       records[:30],
		"removed":   slices.Delete(slices.Clone(records), 3, 4),
		"reordered": append(slices.Clone(records[1:]), records[0]),
		"edited":    append([][]byte{[]byte(strings.Replace(string(records[0]), "init", "INIT", 1))}, records[1:]...),
	} {
		if err := verify(changed); refusal.Of(err) != refusal.AuditCorrupt {
			t.Errorf("%s: got %v, want AuditCorrupt", name, err)
		}
	}
}

func TestProofsConvinceAClientThatHasOnlyCheckpoints(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	l := f.open(t)
	fill(t, l, 12)
	old, err := audit.OpenCheckpoint(l.Checkpoint(), f.verifier)
	if err != nil {
		t.Fatal(err)
	}
	fill(t, l, 20)
	tree, err := audit.OpenCheckpoint(l.Checkpoint(), f.verifier)
	if err != nil {
		t.Fatal(err)
	}
	consistency, err := l.ProveTree(t.Context(), tree.N, old.N)
	if err != nil {
		t.Fatal(err)
	}
	if err := tlog.CheckTree(consistency, tree.N, tree.Hash, old.N, old.Hash); err != nil {
		t.Error(err)
	}
	records, err := l.Records(t.Context(), 9, 1)
	if err != nil {
		t.Fatal(err)
	}
	var r audit.Record
	if err := json.Unmarshal(records[0], &r); err != nil || r.Sequence != 9 {
		t.Errorf("record 9 is %+v, %v", r, err)
	}
	inclusion, err := l.ProveRecord(t.Context(), tree.N, 9)
	if err != nil {
		t.Fatal(err)
	}
	if err := tlog.CheckRecord(inclusion, tree.N, tree.Hash, 9, tlog.RecordHash(records[0])); err != nil {
		t.Error(err)
	}
	if _, err := l.ProveTree(t.Context(), tree.N+1, 1); err == nil {
		t.Error("proof of a tree that does not exist")
	}
}

func TestAppendAfterCloseIsRefusedAndBeforeItIsKept(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	l := f.open(t)
	var wg sync.WaitGroup
	var mu sync.Mutex
	kept := int64(1)
	for range 100 {
		wg.Go(func() {
			if err := l.Append(context.Background(), audit.Record{Event: audit.EventAttest}, nil); err == nil {
				mu.Lock()
				kept++
				mu.Unlock()
			} else if !errors.Is(err, audit.ErrClosed) {
				t.Error(err)
			}
		})
	}
	l.Close()
	wg.Wait()
	tree, err := audit.VerifyStore(t.Context(), f.store, f.verifier)
	if err != nil || tree.N < kept {
		t.Errorf("%d records of %d acknowledged, %v", tree.N, kept, err)
	}
	if err := l.Append(t.Context(), audit.Record{}, nil); !errors.Is(err, audit.ErrClosed) {
		t.Errorf("got %v, want ErrClosed", err)
	}
}

func FuzzOpenCheckpoint(f *testing.F) {
	fx := newFixture(f)
	item, err := fx.store.Get(f.Context(), checkpointKey)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(item.Value)
	f.Add([]byte("adyton.dev/test\n1\nAAAA\n\n— adyton.dev/test AAAA\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		tree, err := audit.OpenCheckpoint(data, fx.verifier)
		if err == nil && !bytes.Contains(data, []byte(fmt.Sprintf("\n%d\n", tree.N))) {
			t.Errorf("size %d is not in the checkpoint", tree.N)
		}
	})
}

func BenchmarkAppend(b *testing.B) {
	f := newFixture(b)
	l := f.open(b)
	b.SetParallelism(64)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := l.Append(context.Background(), audit.Record{Event: audit.EventRelease, Resource: "r/t/n"}, nil); err != nil {
				b.Error(err)
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
}
