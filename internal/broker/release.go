package broker

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/adyton-dev/adyton/appraise"
	"github.com/adyton-dev/adyton/attest"
	"github.com/adyton-dev/adyton/attest/kbs"
	"github.com/adyton-dev/adyton/internal/broker/audit"
	"github.com/adyton-dev/adyton/internal/broker/policy"
	"github.com/adyton-dev/adyton/internal/broker/store"
	"github.com/adyton-dev/adyton/refusal"
)

// Attestation is what someone shows to be given a token.
type Attestation struct {
	// Session names the exchange in the audit log.
	Session string
	// Client is the IP address that the request came from.
	Client   string
	Evidence *attest.Evidence
	// Expect is what the evidence must be bound to.
	Expect appraise.Expect
	// TEEPubKey is the JWK that resources are encrypted to. Expect binds it.
	TEEPubKey json.RawMessage
}

// Attested is the outcome of an attestation: who may ask for resources until
// Expires. It comes from Attest or ParseToken.
type Attested struct {
	Session   string
	Claims    json.RawMessage
	TEEPubKey json.RawMessage
	Expires   time.Time

	identity *audit.Identity
}

// Attest appraises evidence and gives a token for it, or a refusal. Either is
// recorded before it returns.
func (b *Broker) Attest(ctx context.Context, a Attestation) (string, *Attested, error) {
	record := audit.Record{Event: audit.EventAttest, Client: a.Client, Session: a.Session}
	if b.appraiser == nil {
		return "", nil, errors.New("attest: this broker has no trust policy")
	}
	claims, err := b.appraiser.Appraise(ctx, a.Evidence, a.Expect)
	if refusal.Of(err) != "" {
		record.Identity = &audit.Identity{TEE: a.Evidence.TEE}
		return "", nil, b.refuse(ctx, record, err)
	}
	if err != nil {
		return "", nil, fmt.Errorf("attest: %w", err)
	}
	attested, err := newAttested(claims, a.Session, a.TEEPubKey, b.now().Add(TokenLifetime))
	if err != nil {
		return "", nil, fmt.Errorf("attest: %w", err)
	}
	token, err := b.signToken(attested, claims)
	if err != nil {
		return "", nil, fmt.Errorf("attest: %w", err)
	}
	record.Allowed, record.Identity = true, attested.identity
	if err := b.record(ctx, record, nil); err != nil {
		return "", nil, fmt.Errorf("record attestation: %w", err)
	}
	return token, attested, nil
}

func newAttested(claims *appraise.Claims, session string, teePubKey json.RawMessage, expires time.Time) (*Attested, error) {
	raw, err := json.Marshal(claims)
	if err != nil {
		return nil, fmt.Errorf("encode claims: %w", err)
	}
	return &Attested{Session: session, Claims: raw, TEEPubKey: teePubKey, Expires: expires, identity: identify(claims, raw)}, nil
}

// identify gives the part of the claims that the audit log keeps.
func identify(c *appraise.Claims, raw []byte) *audit.Identity {
	sum := sha256.Sum256(raw)
	id := &audit.Identity{TEE: c.TEE, Debug: c.Debug, Root: c.Root.Name, TCB: c.TCB.Status, Claims: hex.EncodeToString(sum[:])}
	switch {
	case c.SGX != nil:
		id.Measurement, id.Signer = c.SGX.MRENCLAVE, c.SGX.MRSIGNER
		id.Product, id.SVN = uint32(c.SGX.ISVProdID), uint32(c.SGX.ISVSVN)
	case c.TDX != nil:
		id.Measurement = c.TDX.MRTD
	case c.SNP != nil:
		id.Measurement, id.Signer, id.SVN = c.SNP.Measurement, c.SNP.IDKeyDigest, c.SNP.GuestSVN
	}
	return id
}

// Release gives a resource, encrypted to the key of who attested, if the policies
// allow it, else a refusal. It returns after the decision is recorded; an allowed
// one only if what it was based on had not changed by then.
func (b *Broker) Release(ctx context.Context, a *Attested, r kbs.ResourceURI, client string) (*kbs.Response, error) {
	record := audit.Record{
		Event: audit.EventRelease, Client: client, Session: a.Session, Resource: r.Path(), Identity: a.identity,
	}
	for range attempts {
		resource, basis, err := b.decide(ctx, a, r, &record)
		if refusal.Of(err) != "" {
			return nil, b.refuse(ctx, record, err)
		}
		if err != nil {
			return nil, fmt.Errorf("release %s: %w", r, err)
		}
		sealed, err := kbs.Encrypt(a.TEEPubKey, resource.Value)
		clear(resource.Value)
		if err != nil {
			return nil, fmt.Errorf("release %s: %w", r, err)
		}
		record.Allowed = true
		err = b.record(ctx, record, basis)
		if err == nil {
			return sealed, nil
		}
		if !errors.Is(err, store.ErrConflict) {
			return nil, fmt.Errorf("record release of %s: %w", r, err)
		}
	}
	return nil, fmt.Errorf("%w: resource %s or its policy keeps changing; try again", ErrConflict, r)
}

// decide gives the resource if the broker-wide policy, if there is one, and the
// resource's own policy, or else its repository's, allow the release; with it the
// conditions under which the decision holds. Without a policy it is refused.
func (b *Broker) decide(ctx context.Context, a *Attested, r kbs.ResourceURI, record *audit.Record) (*resourceRecord, []store.Compare, error) {
	resource, err := load[resourceRecord](ctx, b, resourceKey(r))
	if err != nil {
		return nil, nil, err
	}
	wide, err := load[policyRecord](ctx, b, brokerPolicyKey)
	if err != nil {
		return nil, nil, err
	}
	shared, err := load[policyRecord](ctx, b, policyPrefix+r.Repository)
	if err != nil {
		return nil, nil, err
	}
	in := policy.Input{
		Claims:   a.Claims,
		Resource: policy.Resource{Repository: r.Repository, Type: r.Type, Tag: r.Tag, URI: r.String()},
		Now:      b.now(),
	}
	record.BrokerPolicy = "" // of an attempt before
	if wide.exists() {
		if record.BrokerPolicy, err = b.apply(ctx, wide.value.Text, in); err != nil {
			return nil, nil, err
		}
	}
	if !resource.exists() {
		return nil, nil, refusal.New(refusal.ResourceNotFound, "there is no resource %s", r)
	}
	record.Version = resource.version
	text := resource.value.Policy
	if text == "" {
		text = shared.value.Text
	}
	if text == "" {
		return nil, nil, refusal.New(refusal.PolicyDenied, "no release policy covers %s", r)
	}
	if record.Policy, err = b.apply(ctx, text, in); err != nil {
		return nil, nil, err
	}
	return &resource.value, []store.Compare{resource.unchanged(), wide.unchanged(), shared.unchanged()}, nil
}

// apply gives the policy's digest and what it decides.
func (b *Broker) apply(ctx context.Context, text string, in policy.Input) (digest string, err error) {
	p, err := b.compile(text)
	if err != nil {
		return "", err
	}
	return p.Digest(), p.Decide(ctx, in)
}
