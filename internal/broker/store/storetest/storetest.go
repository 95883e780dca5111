// Package storetest is the conformance suite of store.Store. An implementation's
// own test calls [Run].
package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/adyton-dev/adyton/internal/broker/store"
)

// Run checks every promise of store.Store. open gives an empty store for one
// subtest; reopen closes it and opens the same data again.
func Run(t *testing.T, open func(t *testing.T) (s store.Store, reopen func() store.Store)) {
	for _, rule := range []struct {
		name  string
		check func(t *testing.T, s store.Store, reopen func() store.Store)
	}{
		{"a missing key is ErrNotFound", missing},
		{"a committed value is read back with its revision", readBack},
		{"revisions rise with every transaction", revisionsRise},
		{"revision 0 means must not exist", createOnly},
		{"a failed comparison writes nothing", failedCompare},
		{"a comparison may be of a key that is not written", compareOther},
		{"delete removes and may be of a missing key", deleted},
		{"list is ordered, by prefix and paged", listed},
		{"values belong to the caller", ownership},
		{"a cancelled context is honoured", cancelled},
		{"sizes are bounded", bounded},
		{"commits survive reopening", reopened},
		{"concurrent compare-and-swap loses no update", concurrent},
	} {
		t.Run(rule.name, func(t *testing.T) {
			t.Parallel()
			s, reopen := open(t)
			rule.check(t, s, reopen)
		})
	}
}

func put(t *testing.T, s store.Store, key, value string) int64 {
	t.Helper()
	rev, err := s.Commit(t.Context(), store.Txn{Ops: []store.Op{{Key: key, Value: []byte(value)}}})
	if err != nil {
		t.Fatal(err)
	}
	return rev
}

func missing(t *testing.T, s store.Store, _ func() store.Store) {
	if _, err := s.Get(t.Context(), "none"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
}

func readBack(t *testing.T, s store.Store, _ func() store.Store) {
	rev := put(t, s, "a/b", "value")
	put(t, s, "empty", "")
	got, err := s.Get(t.Context(), "a/b")
	want := store.Item{Key: "a/b", Value: []byte("value"), Revision: rev}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("err %v, diff %s", err, diff)
	}
	if got, err := s.Get(t.Context(), "empty"); err != nil || len(got.Value) != 0 {
		t.Errorf("empty value: got %q, %v", got.Value, err)
	}
}

func revisionsRise(t *testing.T, s store.Store, _ func() store.Store) {
	last := int64(0)
	for range 5 {
		rev := put(t, s, "k", "v")
		if rev <= last {
			t.Fatalf("revision %d after %d", rev, last)
		}
		last = rev
	}
}

func createOnly(t *testing.T, s store.Store, _ func() store.Store) {
	create := store.Txn{Compare: []store.Compare{{Key: "k"}}, Ops: []store.Op{{Key: "k", Value: []byte("first")}}}
	if _, err := s.Commit(t.Context(), create); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Commit(t.Context(), create); !errors.Is(err, store.ErrConflict) {
		t.Errorf("second create: got %v, want ErrConflict", err)
	}
}

func failedCompare(t *testing.T, s store.Store, _ func() store.Store) {
	rev := put(t, s, "k", "old")
	_, err := s.Commit(t.Context(), store.Txn{
		Compare: []store.Compare{{Key: "k", Revision: rev}, {Key: "k2", Revision: 77}},
		Ops:     []store.Op{{Key: "k", Value: []byte("new")}, {Key: "k3", Value: []byte("new")}},
	})
	if !errors.Is(err, store.ErrConflict) {
		t.Fatalf("got %v, want ErrConflict", err)
	}
	if got, _ := s.Get(t.Context(), "k"); string(got.Value) != "old" {
		t.Errorf("k is %q", got.Value)
	}
	if _, err := s.Get(t.Context(), "k3"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("k3 was written: %v", err)
	}
}

func compareOther(t *testing.T, s store.Store, _ func() store.Store) {
	rev := put(t, s, "guard", "x")
	txn := store.Txn{Compare: []store.Compare{{Key: "guard", Revision: rev}}, Ops: []store.Op{{Key: "k", Value: []byte("v")}}}
	if _, err := s.Commit(t.Context(), txn); err != nil {
		t.Fatal(err)
	}
	put(t, s, "guard", "y")
	if _, err := s.Commit(t.Context(), txn); !errors.Is(err, store.ErrConflict) {
		t.Errorf("got %v, want ErrConflict", err)
	}
}

func deleted(t *testing.T, s store.Store, _ func() store.Store) {
	put(t, s, "k", "v")
	for range 2 {
		if _, err := s.Commit(t.Context(), store.Txn{Ops: []store.Op{{Key: "k", Delete: true}}}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Get(t.Context(), "k"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
	if _, err := s.Commit(t.Context(), store.Txn{Compare: []store.Compare{{Key: "k"}}, Ops: []store.Op{{Key: "k"}}}); err != nil {
		t.Errorf("create after delete: %v", err)
	}
}

func listed(t *testing.T, s store.Store, _ func() store.Store) {
	for _, k := range []string{"b/2", "a", "b/10", "b", "b/1", "c", "b/", "b0"} {
		put(t, s, k, k)
	}
	keys := func(prefix, after string, limit int) []string {
		items, err := s.List(t.Context(), prefix, after, limit)
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, i := range items {
			if string(i.Value) != i.Key || i.Revision == 0 {
				t.Errorf("item %+v", i)
			}
			out = append(out, i.Key)
		}
		return out
	}
	for _, c := range []struct {
		prefix, after string
		limit         int
		want          []string
	}{
		{"b/", "", 10, []string{"b/", "b/1", "b/10", "b/2"}},
		{"b/", "", 2, []string{"b/", "b/1"}},
		{"b/", "b/1", 2, []string{"b/10", "b/2"}},
		{"b/", "b/2", 2, nil},
		{"b/", "b/15", 5, []string{"b/2"}},
		{"x", "", 5, nil},
	} {
		if diff := cmp.Diff(c.want, keys(c.prefix, c.after, c.limit)); diff != "" {
			t.Errorf("list %q after %q limit %d: %s", c.prefix, c.after, c.limit, diff)
		}
	}
	all, err := store.ListAll(t.Context(), s, "")
	if err != nil || len(all) != 8 {
		t.Errorf("ListAll: %d items, %v", len(all), err)
	}
}

func ownership(t *testing.T, s store.Store, _ func() store.Store) {
	value := []byte("value")
	if _, err := s.Commit(t.Context(), store.Txn{Ops: []store.Op{{Key: "k", Value: value}}}); err != nil {
		t.Fatal(err)
	}
	value[0] = 'X'
	first, _ := s.Get(t.Context(), "k")
	first.Value[1] = 'X'
	if second, _ := s.Get(t.Context(), "k"); string(second.Value) != "value" {
		t.Errorf("stored value changed to %q", second.Value)
	}
}

func cancelled(t *testing.T, s store.Store, _ func() store.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Commit(ctx, store.Txn{Ops: []store.Op{{Key: "k"}}}); !errors.Is(err, context.Canceled) {
		t.Errorf("commit: %v", err)
	}
	if _, err := s.Get(ctx, "k"); !errors.Is(err, context.Canceled) {
		t.Errorf("get: %v", err)
	}
	if _, err := s.List(ctx, "", "", 1); !errors.Is(err, context.Canceled) {
		t.Errorf("list: %v", err)
	}
}

func bounded(t *testing.T, s store.Store, _ func() store.Store) {
	if _, err := s.Commit(t.Context(), store.Txn{Ops: []store.Op{{Key: "k", Value: make([]byte, store.MaxValue)}}}); err != nil {
		t.Errorf("largest value: %v", err)
	}
	many := make([]store.Op, store.MaxOps)
	for i := range many {
		many[i].Key = fmt.Sprint(i)
	}
	if _, err := s.Commit(t.Context(), store.Txn{Ops: many}); err != nil {
		t.Errorf("largest transaction: %v", err)
	}
	for name, ops := range map[string][]store.Op{
		"value too large": {{Key: "k", Value: make([]byte, store.MaxValue+1)}},
		"empty key":       {{Key: ""}},
		"key too long":    {{Key: string(bytes.Repeat([]byte{'k'}, store.MaxKey+1))}},
		"too many":        append(many, store.Op{Key: "more"}),
		"same key twice":  {{Key: "k"}, {Key: "k"}},
	} {
		if _, err := s.Commit(t.Context(), store.Txn{Ops: ops}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func reopened(t *testing.T, s store.Store, reopen func() store.Store) {
	rev := put(t, s, "k", "v")
	s = reopen()
	if got, err := s.Get(t.Context(), "k"); err != nil || got.Revision != rev || string(got.Value) != "v" {
		t.Errorf("got %+v, %v", got, err)
	}
	if next := put(t, s, "k", "w"); next <= rev {
		t.Errorf("revision %d after %d", next, rev)
	}
}

func concurrent(t *testing.T, s store.Store, _ func() store.Store) {
	const workers, each = 8, 10
	put(t, s, "counter", "")
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for done := 0; done < each; {
				item, err := s.Get(t.Context(), "counter")
				if err != nil {
					t.Error(err)
					return
				}
				_, err = s.Commit(t.Context(), store.Txn{
					Compare: []store.Compare{{Key: "counter", Revision: item.Revision}},
					Ops:     []store.Op{{Key: "counter", Value: append(item.Value, 'x')}},
				})
				switch {
				case err == nil:
					done++
				case !errors.Is(err, store.ErrConflict):
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if item, _ := s.Get(t.Context(), "counter"); len(item.Value) != workers*each {
		t.Errorf("%d updates of %d were kept", len(item.Value), workers*each)
	}
}
