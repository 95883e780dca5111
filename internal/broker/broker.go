// Package broker releases keys and secrets to code that proved what it is.
//
// A [Broker] owns a directory: a store of sealed records and the audit log in it.
// It appraises evidence and gives tokens ([Broker.Attest]), releases resources
// under their owners' policies ([Broker.Release]), and lets owners and the
// administrator change both ([Broker.PutResource] and the like). Each of these is
// recorded in the audit log before it is answered, and a change is one
// transaction with its record.
//
// Around it: store (where), vault (how it is sealed), policy (who may have it),
// audit (what was decided), owner (who may change it), server (HTTP), admin (the
// client). The broker knows nothing of HTTP, and of TEEs only what package
// appraise claims. To protect a new kind of thing, add its operations here, its
// record in records.go and its event in audit/record.go.
package broker

import (
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"strings"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/mod/sumdb/note"

	"github.com/adyton-dev/adyton/appraise"
	"github.com/adyton-dev/adyton/attest"
	"github.com/adyton-dev/adyton/attest/kbs"
	"github.com/adyton-dev/adyton/internal/broker/audit"
	"github.com/adyton-dev/adyton/internal/broker/policy"
	"github.com/adyton-dev/adyton/internal/broker/store"
	"github.com/adyton-dev/adyton/internal/broker/store/bolt"
	"github.com/adyton-dev/adyton/internal/broker/vault"
	"github.com/adyton-dev/adyton/refusal"
)

// The kinds of errors that are no refusals and are the caller's to mend.
var (
	// ErrExists: the resource exists and was to be created only.
	ErrExists = errors.New("it exists already")
	// ErrConflict: the change contradicts what is there. The text says what to do.
	ErrConflict = errors.New("conflict")
	// ErrInvalid: what is to be stored is malformed. The text says how.
	ErrInvalid = errors.New("invalid")
)

// Appraiser verifies evidence and gives its claims, or a refusal.
type Appraiser interface {
	Appraise(ctx context.Context, e *attest.Evidence, expect appraise.Expect) (*appraise.Claims, error)
}

// TokenLifetime is how long an attestation is good for.
const TokenLifetime = 5 * time.Minute

// cachedPolicies bounds the compiled policies that are kept.
const cachedPolicies = 256

// Options configures a Broker.
type Options struct {
	// Means unwrap the root key.
	Means vault.Means
	// Appraiser may be nil for administration only: then every evidence is refused.
	Appraiser Appraiser
	// OnDecision is called with every record after it is durable; it may be nil.
	OnDecision func(audit.Record)
	// Now is the clock; time.Now if nil.
	Now func() time.Time
}

// Broker is an open broker directory. Its methods may be called concurrently.
type Broker struct {
	store      store.Store
	vault      *vault.Vault
	protection vault.Protection
	log        *audit.Log
	verifier   note.Verifier
	appraiser  Appraiser
	compiler   *policy.Compiler
	policies   *lru.Cache[string, *policy.Policy]
	tokenKey   *ecdsa.PrivateKey
	tlsCert    tls.Certificate
	onDecision func(audit.Record)
	now        func() time.Time
}

// Open opens the broker in dir. The caller closes it.
func Open(ctx context.Context, dir string, opts Options) (*Broker, error) {
	v, protection, err := vault.Open(filepath.Join(dir, rootKeyFile), opts.Means)
	if err != nil {
		return nil, fmt.Errorf("open broker %s: %w", dir, err)
	}
	s, err := bolt.Open(filepath.Join(dir, storeFile))
	if err != nil {
		return nil, fmt.Errorf("open broker %s: %w", dir, err)
	}
	b, err := open(ctx, s, v, opts)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open broker %s: %w", dir, err), s.Close())
	}
	b.protection = protection
	return b, nil
}

func open(ctx context.Context, s store.Store, v *vault.Vault, opts Options) (*Broker, error) {
	b := &Broker{store: s, vault: v, appraiser: opts.Appraiser, onDecision: opts.OnDecision, now: opts.Now}
	if b.now == nil {
		b.now = time.Now
	}
	var err error
	if b.compiler, err = NewPolicyCompiler(); err != nil {
		return nil, err
	}
	if b.policies, err = lru.New[string, *policy.Policy](cachedPolicies); err != nil {
		return nil, err
	}
	signer, err := b.loadKeys(ctx)
	if err != nil {
		return nil, err
	}
	if b.log, err = audit.Open(ctx, s, signer, b.verifier); err != nil {
		return nil, err
	}
	return b, nil
}

// NewPolicyCompiler makes the compiler of release policies over appraise.Claims.
func NewPolicyCompiler() (*policy.Compiler, error) {
	return policy.NewCompiler(reflect.TypeFor[appraise.Claims]())
}

// Close waits for decisions under way to be durable and closes the store.
func (b *Broker) Close() error {
	b.log.Close()
	return b.store.Close()
}

// Protection says what protects the root key.
func (b *Broker) Protection() vault.Protection { return b.protection }

// TLSCertificate gives the self-signed certificate that was made with the broker.
func (b *Broker) TLSCertificate() tls.Certificate { return b.tlsCert }

// Pin gives the SPKI pin of TLSCertificate.
func (b *Broker) Pin() string { return kbs.Pin(b.tlsCert.Leaf) }

// Audit gives the audit log.
func (b *Broker) Audit() *audit.Log { return b.log }

// Ready reports whether the store answers.
func (b *Broker) Ready(ctx context.Context) error {
	_, err := b.store.List(ctx, ownerPrefix, "", 1)
	return err
}

// Started records that the broker was started.
func (b *Broker) Started(ctx context.Context) error {
	return b.record(ctx, audit.Record{Event: audit.EventStart, Allowed: true, Detail: b.protection.Describe()}, nil)
}

// Refused records a refusal that the caller made itself, of a challenge for
// example, and gives it, or the reason why it could not be recorded.
func (b *Broker) Refused(ctx context.Context, r audit.Record, cause error) error {
	return b.refuse(ctx, r, cause)
}

// refuse is Refused.
func (b *Broker) refuse(ctx context.Context, r audit.Record, cause error) error {
	var refused *refusal.Error
	if errors.As(cause, &refused) {
		r.Reason, r.Detail = refused.Reason, refused.Detail
	}
	r.Allowed = false
	r.Detail = truncate(r.Detail)
	r.Resource = truncate(r.Resource)
	// It is decided: a client cannot keep it out of the log by hanging up.
	if err := b.record(context.WithoutCancel(ctx), r, nil); err != nil {
		return fmt.Errorf("record refusal (%w): %w", cause, err)
	}
	return cause
}

// record appends to the audit log, with the writes that belong to the record.
func (b *Broker) record(ctx context.Context, r audit.Record, compare []store.Compare, ops ...store.Op) error {
	if err := b.log.Append(ctx, r, compare, ops...); err != nil {
		return err
	}
	if b.onDecision != nil {
		b.onDecision(r)
	}
	return nil
}

// truncate bounds text from outside in the audit log.
func truncate(s string) string {
	const limit = 1024
	if len(s) > limit {
		return strings.ToValidUTF8(s[:limit], "") + "…"
	}
	return s
}
