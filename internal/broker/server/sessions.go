package server

import (
	"container/list"
	"crypto/rand"
	"encoding/base64"
	"sync"
	"time"

	"github.com/adyton-dev/adyton/internal/broker"
	"github.com/adyton-dev/adyton/refusal"
)

// session is one exchange of the KBS protocol. It is pending until its nonce is
// used and attested after that. It is not changed once it is in the table.
type session struct {
	id, tee, nonce string
	expires        time.Time
	// attested is nil while the session is pending.
	attested *broker.Attested
}

// sessions is a bounded table. Pending sessions, which anyone can open, have
// their own bound, so that they cannot displace attested ones.
type sessions struct {
	now      func() time.Time
	lifetime time.Duration

	mu   sync.Mutex
	byID map[string]*list.Element
	// Each list is in the order of expiry, because its lifetime is constant.
	pending, attested       *list.List
	maxPending, maxAttested int
}

func newSessions(now func() time.Time, lifetime time.Duration, maxPending, maxAttested int) *sessions {
	return &sessions{
		now: now, lifetime: lifetime, byID: make(map[string]*list.Element),
		pending: list.New(), attested: list.New(), maxPending: maxPending, maxAttested: maxAttested,
	}
}

// open gives a new pending session. If there are too many, the oldest is dropped:
// refusing new ones would let one client that never attests lock out all others,
// and at the rate limit it takes seconds to drop one that is about to attest.
func (t *sessions) open(tee string) *session {
	s := &session{id: random(24, base64.RawURLEncoding), tee: tee, nonce: random(32, base64.StdEncoding), expires: t.now().Add(t.lifetime)}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.expire()
	if t.pending.Len() >= t.maxPending {
		t.remove(t.pending, t.pending.Front())
	}
	t.byID[s.id] = t.pending.PushBack(s)
	return s
}

// take removes a pending session and gives it: its nonce is good for one try.
func (t *sessions) take(id string) (*session, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.expire()
	e, ok := t.byID[id]
	if !ok || e.Value.(*session).attested != nil {
		return nil, refusal.New(refusal.SessionInvalid, "the session is unknown, expired or already used; ask for a new challenge")
	}
	delete(t.byID, id)
	return t.pending.Remove(e).(*session), nil
}

// confirm keeps what a taken session attested, under the same id. If there are
// too many, the oldest is dropped: its client attests again.
func (t *sessions) confirm(s *session, a *broker.Attested) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.expire()
	if t.attested.Len() >= t.maxAttested {
		t.remove(t.attested, t.attested.Front())
	}
	t.byID[s.id] = t.attested.PushBack(&session{id: s.id, tee: s.tee, expires: a.Expires, attested: a})
}

// find gives what a session attested.
func (t *sessions) find(id string) (*broker.Attested, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.expire()
	e, ok := t.byID[id]
	if !ok || e.Value.(*session).attested == nil {
		return nil, refusal.New(refusal.SessionInvalid, "the session is unknown, expired or not attested; attest again")
	}
	return e.Value.(*session).attested, nil
}

// count gives the numbers of pending and attested sessions.
func (t *sessions) count() (pending, attested int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.expire()
	return t.pending.Len(), t.attested.Len()
}

// expire drops what is past its time. t.mu is held.
func (t *sessions) expire() {
	now := t.now()
	for _, l := range []*list.List{t.pending, t.attested} {
		for e := l.Front(); e != nil && now.After(e.Value.(*session).expires); e = l.Front() {
			t.remove(l, e)
		}
	}
}

func (t *sessions) remove(l *list.List, e *list.Element) {
	delete(t.byID, e.Value.(*session).id)
	l.Remove(e)
}

// random gives n random bytes as text.
func random(n int, encoding *base64.Encoding) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails (Go 1.24)
	return encoding.EncodeToString(b)
}
