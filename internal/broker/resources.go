package broker

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/adyton-dev/adyton/attest/kbs"
	"github.com/adyton-dev/adyton/internal/broker/api"
	"github.com/adyton-dev/adyton/internal/broker/audit"
	"github.com/adyton-dev/adyton/internal/broker/policy"
	"github.com/adyton-dev/adyton/internal/broker/store"
	"github.com/adyton-dev/adyton/refusal"
)

// attempts is how often a change or decision is tried anew when what it was
// based on changed meanwhile.
const attempts = 5

// PutResource stores a resource of p's and, unless policyText is empty, its
// policy with it. With createOnly an existing one is ErrExists. It returns after
// the write is durable.
func (b *Broker) PutResource(ctx context.Context, p *Principal, r kbs.ResourceURI, value []byte, policyText string, createOnly bool) error {
	record := audit.Record{Event: audit.EventResourcePut, Actor: p.Name, Client: p.Client, Resource: r.Path()}
	if err := b.mayChange(ctx, p, r, record); err != nil {
		return err
	}
	if len(value) == 0 || len(value) > api.MaxResource {
		return fmt.Errorf("%w: resource %s has %d bytes; want 1 to %d", ErrInvalid, r, len(value), api.MaxResource)
	}
	return b.change(ctx, p, r, record, func(s *stored[resourceRecord]) error {
		if createOnly && s.exists() {
			return fmt.Errorf("resource %s: %w", r, ErrExists)
		}
		s.value.Value = value
		if policyText != "" {
			s.value.Policy = policyText
		}
		return nil
	})
}

// SetResourcePolicy sets a resource's own policy; empty removes it, so that the
// repository's decides.
func (b *Broker) SetResourcePolicy(ctx context.Context, p *Principal, r kbs.ResourceURI, text string) error {
	record := audit.Record{Event: audit.EventPolicyPut, Actor: p.Name, Client: p.Client, Resource: r.Path()}
	if text == "" {
		record.Event = audit.EventPolicyDelete
	}
	if err := b.mayChange(ctx, p, r, record); err != nil {
		return err
	}
	return b.change(ctx, p, r, record, func(s *stored[resourceRecord]) error {
		if !s.exists() || text == "" && s.value.Policy == "" {
			return refusal.New(refusal.ResourceNotFound, "there is no resource %s, or it has no policy of its own", r)
		}
		s.value.Policy = text
		return nil
	})
}

// change reads a resource, edits it and writes it as its next version, if p is
// still its owner then.
func (b *Broker) change(ctx context.Context, p *Principal, r kbs.ResourceURI, record audit.Record, edit func(*stored[resourceRecord]) error) error {
	for range attempts {
		s, err := load[resourceRecord](ctx, b, resourceKey(r))
		if err != nil {
			return err
		}
		if err := edit(&s); err != nil {
			return err
		}
		if s.value.Policy != "" {
			compiled, err := b.compile(s.value.Policy)
			if err != nil {
				return err
			}
			record.Policy = compiled.Digest()
		}
		now := b.now().UTC()
		if !s.exists() {
			s.value.Created = now
		}
		s.value.Updated, s.value.Owner = now, p.Name
		op, err := s.write(b)
		if err != nil {
			return err
		}
		record.Version, record.Allowed = s.version, true
		err = b.record(ctx, record, []store.Compare{s.unchanged(), p.owner.unchanged()}, op)
		if !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
	return fmt.Errorf("%w: resource %s or its owner keeps changing; try again", ErrConflict, r)
}

// DeleteResource removes a resource of p's with its policy.
func (b *Broker) DeleteResource(ctx context.Context, p *Principal, r kbs.ResourceURI) error {
	record := audit.Record{Event: audit.EventResourceDelete, Actor: p.Name, Client: p.Client, Resource: r.Path()}
	if err := b.mayChange(ctx, p, r, record); err != nil {
		return err
	}
	s, err := load[resourceRecord](ctx, b, resourceKey(r))
	if err != nil {
		return err
	}
	if !s.exists() {
		return refusal.New(refusal.ResourceNotFound, "there is no resource %s", r)
	}
	record.Allowed, record.Version = true, s.version
	err = b.record(ctx, record, []store.Compare{s.unchanged()}, s.remove())
	if errors.Is(err, store.ErrConflict) {
		return fmt.Errorf("%w: resource %s was changed at the same time; try again", ErrConflict, r)
	}
	return err
}

// Metadata tells p of a resource of its own.
func (b *Broker) Metadata(ctx context.Context, p *Principal, r kbs.ResourceURI) (*api.Metadata, error) {
	if !p.admin && !p.Owns(r.Repository) {
		return nil, refusal.New(refusal.Forbidden, "%s does not own repository %s", p.Name, r.Repository)
	}
	s, err := load[resourceRecord](ctx, b, resourceKey(r))
	if err != nil {
		return nil, err
	}
	if !s.exists() {
		return nil, refusal.New(refusal.ResourceNotFound, "there is no resource %s", r)
	}
	return b.describe(ctx, &s)
}

// Resources tells p of all resources of its own, and the administrator of all.
func (b *Broker) Resources(ctx context.Context, p *Principal) ([]api.Metadata, error) {
	list := []api.Metadata{}
	prefixes := []string{resourcePrefix}
	if !p.admin {
		prefixes = nil
		for _, r := range p.owner.value.Repositories {
			prefixes = append(prefixes, resourcePrefix+r+"/")
		}
	}
	for _, prefix := range prefixes {
		records, err := loadAll[resourceRecord](ctx, b, prefix)
		if err != nil {
			return nil, err
		}
		for i := range records {
			m, err := b.describe(ctx, &records[i])
			if err != nil {
				return nil, err
			}
			list = append(list, *m)
		}
	}
	return list, nil
}

func (b *Broker) describe(ctx context.Context, s *stored[resourceRecord]) (*api.Metadata, error) {
	name := strings.TrimPrefix(s.key, resourcePrefix)
	m := &api.Metadata{
		Resource: name, Version: s.version, Size: len(s.value.Value),
		Owner: s.value.Owner, Created: s.value.Created, Updated: s.value.Updated,
	}
	if s.value.Policy != "" {
		m.Policy = "resource"
		return m, nil
	}
	repository, _, _ := strings.Cut(name, "/")
	shared, err := load[policyRecord](ctx, b, policyPrefix+repository)
	if err == nil && shared.exists() {
		m.Policy = "repository"
	}
	return m, err
}

// SetPolicy sets the policy of a repository of p's, or, if repository is empty,
// the broker-wide policy, which only the administrator may and which every
// release must pass besides the owner's. An empty text removes it.
func (b *Broker) SetPolicy(ctx context.Context, p *Principal, repository, text string) error {
	record := audit.Record{Event: audit.EventPolicyPut, Actor: p.Name, Client: p.Client, Resource: repository}
	if text == "" {
		record.Event = audit.EventPolicyDelete
	}
	key, err := b.policyKey(p, repository)
	if err != nil {
		return b.refuse(ctx, record, err)
	}
	s, err := load[policyRecord](ctx, b, key)
	if err != nil {
		return err
	}
	op := s.remove()
	if text == "" {
		if !s.exists() {
			return refusal.New(refusal.ResourceNotFound, "there is no such policy")
		}
	} else {
		compiled, err := b.compile(text)
		if err != nil {
			return err
		}
		record.Policy = compiled.Digest()
		s.value = policyRecord{Text: text, Updated: b.now().UTC()}
		if op, err = s.write(b); err != nil {
			return err
		}
	}
	compare := []store.Compare{s.unchanged()}
	if !p.admin {
		compare = append(compare, p.owner.unchanged())
	}
	record.Allowed = true
	err = b.record(ctx, record, compare, op)
	if errors.Is(err, store.ErrConflict) {
		return fmt.Errorf("%w: the policy was changed at the same time; try again", ErrConflict)
	}
	return err
}

// Policy gives the text of a policy, as for SetPolicy.
func (b *Broker) Policy(ctx context.Context, p *Principal, repository string) (string, error) {
	key, err := b.policyKey(p, repository)
	if err != nil {
		return "", err
	}
	s, err := load[policyRecord](ctx, b, key)
	if err == nil && !s.exists() {
		err = refusal.New(refusal.ResourceNotFound, "there is no such policy")
	}
	return s.value.Text, err
}

// ResourcePolicy gives the text of a resource's own policy.
func (b *Broker) ResourcePolicy(ctx context.Context, p *Principal, r kbs.ResourceURI) (string, error) {
	if !p.Owns(r.Repository) {
		return "", refusal.New(refusal.Forbidden, "%s does not own repository %s", p.Name, r.Repository)
	}
	s, err := load[resourceRecord](ctx, b, resourceKey(r))
	if err == nil && s.value.Policy == "" {
		err = refusal.New(refusal.ResourceNotFound, "there is no resource %s, or it has no policy of its own", r)
	}
	return s.value.Policy, err
}

func (b *Broker) policyKey(p *Principal, repository string) (string, error) {
	switch {
	case repository == "" && p.admin:
		return brokerPolicyKey, nil
	case repository == "":
		return "", refusal.New(refusal.Forbidden, "the broker-wide policy is the administrator's")
	case p.Owns(repository):
		return policyPrefix + repository, nil
	default:
		return "", refusal.New(refusal.Forbidden, "%s does not own repository %s", p.Name, repository)
	}
}

// compile compiles a policy or takes it from the cache.
func (b *Broker) compile(text string) (*policy.Policy, error) {
	if p, ok := b.policies.Get(text); ok {
		return p, nil
	}
	p, err := b.compiler.Compile([]byte(text))
	if err != nil {
		return nil, err
	}
	b.policies.Add(text, p)
	return p, nil
}
