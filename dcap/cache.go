package dcap

import (
	"bytes"
	"container/list"
	"hash/maphash"
	"sync"
)

// memo remembers what was computed from bytes, for the most recently used ones.
//
// Only pure functions of the key's bytes may be remembered: parsing, and checking
// a signature under a key that is part of the memo's key. Dates, revocation and
// TCB levels are looked at anew each time. So a hit gives what computing anew
// would give, and can never turn a refusal into an acceptance. Failures are not
// remembered: only those who hold a trusted key can fill the memo.
//
// The key is found by a seeded hash and then compared in full, which for
// collateral is many times faster than a cryptographic hash and cannot collide.
type memo[T any] struct {
	seed  maphash.Seed
	limit int

	mu     sync.Mutex
	order  *list.List // of *memoized[T], most recently used first
	byHash map[uint64]*list.Element
}

// memoized is immutable once stored.
type memoized[T any] struct {
	hash     uint64
	document []byte
	signer   []byte
	value    T
}

func newMemo[T any](limit int) *memo[T] {
	return &memo[T]{seed: maphash.MakeSeed(), limit: limit, order: list.New(), byHash: make(map[uint64]*list.Element)}
}

// get gives what put stored for exactly these bytes.
func (m *memo[T]) get(document, signer []byte) (value T, ok bool) {
	entry := m.find(m.hash(document, signer))
	if entry == nil || !bytes.Equal(entry.document, document) || !bytes.Equal(entry.signer, signer) {
		return value, false
	}
	return entry.value, true
}

func (m *memo[T]) find(hash uint64) *memoized[T] {
	m.mu.Lock()
	defer m.mu.Unlock()
	element, ok := m.byHash[hash]
	if !ok {
		return nil
	}
	m.order.MoveToFront(element)
	return element.Value.(*memoized[T])
}

// put stores value, which nobody may change from now on, and forgets the least
// recently used one above the limit.
func (m *memo[T]) put(document, signer []byte, value T) {
	entry := &memoized[T]{m.hash(document, signer), bytes.Clone(document), bytes.Clone(signer), value}
	m.mu.Lock()
	defer m.mu.Unlock()
	if element, ok := m.byHash[entry.hash]; ok {
		element.Value = entry
		m.order.MoveToFront(element)
		return
	}
	m.byHash[entry.hash] = m.order.PushFront(entry)
	if m.order.Len() > m.limit {
		oldest := m.order.Remove(m.order.Back()).(*memoized[T])
		delete(m.byHash, oldest.hash)
	}
}

func (m *memo[T]) hash(document, signer []byte) uint64 {
	return maphash.Bytes(m.seed, document) ^ 3*maphash.Bytes(m.seed, signer)
}
