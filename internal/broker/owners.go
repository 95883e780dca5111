package broker

import (
	"context"
	"crypto/ed25519"
	"crypto/subtle"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/adyton-dev/adyton/attest/kbs"
	"github.com/adyton-dev/adyton/internal/broker/api"
	"github.com/adyton-dev/adyton/internal/broker/audit"
	"github.com/adyton-dev/adyton/internal/broker/owner"
	"github.com/adyton-dev/adyton/internal/broker/store"
	"github.com/adyton-dev/adyton/refusal"
)

// Principal is who makes an administrative request. It is made by Authenticate.
type Principal struct {
	// Name is the owner's, or owner.Admin.
	Name string
	// Client is the IP address that the request came from, for the audit log.
	Client string

	admin bool
	owner stored[ownerRecord]
}

// Admin gives the administrator, for changes made on the broker's own machine.
func Admin() *Principal { return &Principal{Name: owner.Admin, admin: true} }

// IsAdmin reports whether p is the administrator.
func (p *Principal) IsAdmin() bool { return p.admin }

// Owns reports whether p owns the repository.
func (p *Principal) Owns(repository string) bool {
	return !p.admin && slices.Contains(p.owner.value.Repositories, repository)
}

// Authenticate gives who signed the token of a request from the address client,
// or a refusal of reason Unauthorized, which is recorded.
func (b *Broker) Authenticate(ctx context.Context, token string, r owner.Request, client string) (*Principal, error) {
	p := &Principal{Client: client}
	err := owner.Verify(token, r, b.now(), func(keyID string) (ed25519.PublicKey, error) { return b.identify(ctx, p, keyID) })
	if refusal.Of(err) != "" {
		return nil, b.refuse(ctx, audit.Record{Event: audit.EventAdmin, Client: client, Resource: r.Path}, err)
	}
	if err != nil {
		return nil, err
	}
	return p, nil
}

// identify fills in p by the id of its key.
func (b *Broker) identify(ctx context.Context, p *Principal, keyID string) (ed25519.PublicKey, error) {
	admin, err := load[[]byte](ctx, b, adminKeyName)
	if err != nil {
		return nil, err
	}
	adminID, err := owner.KeyID(admin.value)
	if err != nil {
		return nil, err
	}
	if subtle.ConstantTimeCompare([]byte(keyID), []byte(adminID)) == 1 {
		p.Name, p.admin = owner.Admin, true
		return admin.value, nil
	}
	if len(keyID) > len(adminID) {
		return nil, refusal.New(refusal.Unauthorized, "the token's key id is malformed")
	}
	name, err := load[string](ctx, b, ownerKeyPrefix+keyID)
	if err != nil {
		return nil, err
	}
	if !name.exists() {
		return nil, refusal.New(refusal.Unauthorized, "no owner has the key %s", keyID)
	}
	if p.owner, err = load[ownerRecord](ctx, b, ownerPrefix+name.value); err != nil {
		return nil, err
	}
	if !p.owner.exists() {
		return nil, refusal.New(refusal.Unauthorized, "no owner has the key %s", keyID)
	}
	p.Name = name.value
	return p.owner.value.PublicKey, nil
}

// AddOwner registers an owner of repositories that nobody owns and that hold
// nothing: not even the administrator can make someone the owner of resources
// that another stored. Only the administrator may.
func (b *Broker) AddOwner(ctx context.Context, p *Principal, o api.Owner) error {
	record := audit.Record{Event: audit.EventOwnerAdd, Actor: p.Name, Client: p.Client, Resource: o.Name}
	if !p.admin {
		return b.refuse(ctx, record, refusal.New(refusal.Forbidden, "only the administrator registers owners"))
	}
	key, err := checkOwner(o)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	keyID, err := owner.KeyID(key)
	if err != nil {
		return err
	}
	s := stored[ownerRecord]{key: ownerPrefix + o.Name, value: ownerRecord{
		Name: o.Name, PublicKey: key, Repositories: o.Repositories, Created: b.now().UTC(),
	}}
	byKey := stored[string]{key: ownerKeyPrefix + keyID, value: o.Name}
	compare := []store.Compare{s.unchanged(), byKey.unchanged()}
	ops, err := b.writes(s.write, byKey.write)
	if err != nil {
		return err
	}
	for _, repository := range o.Repositories {
		if err := b.unused(ctx, repository); err != nil {
			return err
		}
		r := stored[string]{key: repositoryPrefix + repository, value: o.Name}
		op, err := r.write(b)
		if err != nil {
			return err
		}
		compare, ops = append(compare, r.unchanged()), append(ops, op)
	}
	record.Allowed = true
	record.Detail = fmt.Sprintf("key %s, repositories %s", keyID, strings.Join(o.Repositories, " "))
	err = b.record(ctx, record, compare, ops...)
	if errors.Is(err, store.ErrConflict) {
		return fmt.Errorf("%w: the owner, the key or one of the repositories is registered already", ErrConflict)
	}
	return err
}

// maxRepositories bounds an owner's repositories, so that they fit a transaction.
const maxRepositories = 32

func checkOwner(o api.Owner) (ed25519.PublicKey, error) {
	if err := owner.CheckName(o.Name); err != nil {
		return nil, err
	}
	if len(o.Repositories) == 0 || len(o.Repositories) > maxRepositories {
		return nil, fmt.Errorf("owner %s: %d repositories; name 1 to %d", o.Name, len(o.Repositories), maxRepositories)
	}
	for i, r := range o.Repositories {
		if err := api.CheckRepository(r); err != nil {
			return nil, fmt.Errorf("owner %s: %w", o.Name, err)
		}
		if slices.Contains(o.Repositories[:i], r) {
			return nil, fmt.Errorf("owner %s: repository %s is named twice", o.Name, r)
		}
	}
	return owner.ParsePublicKey([]byte(o.PublicKey))
}

// unused gives ErrConflict if the repository still holds something of an owner
// who was removed.
func (b *Broker) unused(ctx context.Context, repository string) error {
	items, err := b.store.List(ctx, resourcePrefix+repository+"/", "", 1)
	if err != nil {
		return err
	}
	if len(items) > 0 {
		return fmt.Errorf("%w: repository %s holds resources of another owner", ErrConflict, repository)
	}
	return nil
}

// RemoveOwner removes an owner. If its repositories hold resources it gives
// ErrConflict, unless shred is set: then they are removed too. Only the
// administrator may.
func (b *Broker) RemoveOwner(ctx context.Context, p *Principal, name string, shred bool) error {
	record := audit.Record{Event: audit.EventOwnerRemove, Actor: p.Name, Client: p.Client, Resource: name}
	if !p.admin {
		return b.refuse(ctx, record, refusal.New(refusal.Forbidden, "only the administrator removes owners"))
	}
	s, err := load[ownerRecord](ctx, b, ownerPrefix+name)
	if err != nil {
		return err
	}
	if !s.exists() {
		return refusal.New(refusal.ResourceNotFound, "there is no owner %s", name)
	}
	keyID, err := owner.KeyID(s.value.PublicKey)
	if err != nil {
		return err
	}
	ops := []store.Op{s.remove(), {Key: ownerKeyPrefix + keyID, Delete: true}}
	for _, repository := range s.value.Repositories {
		if shred {
			if err := b.shred(ctx, p, repository); err != nil {
				return err
			}
		}
		if err := b.unused(ctx, repository); err != nil {
			return fmt.Errorf("%w; remove them first or shred them", err)
		}
		ops = append(ops, store.Op{Key: repositoryPrefix + repository, Delete: true}, store.Op{Key: policyPrefix + repository, Delete: true})
	}
	record.Allowed = true
	err = b.record(ctx, record, []store.Compare{s.unchanged()}, ops...)
	if errors.Is(err, store.ErrConflict) {
		return fmt.Errorf("%w: owner %s was changed at the same time; try again", ErrConflict, name)
	}
	return err
}

// shred removes every resource of a repository.
func (b *Broker) shred(ctx context.Context, p *Principal, repository string) error {
	items, err := store.ListAll(ctx, b.store, resourcePrefix+repository+"/")
	if err != nil {
		return err
	}
	for _, item := range items {
		record := audit.Record{
			Event: audit.EventResourceDelete, Allowed: true, Actor: p.Name, Client: p.Client,
			Resource: strings.TrimPrefix(item.Key, resourcePrefix), Detail: "its owner was removed",
		}
		if err := b.record(ctx, record, nil, store.Op{Key: item.Key, Delete: true}); err != nil {
			return err
		}
	}
	return nil
}

// Owners lists all owners to the administrator, and an owner to itself.
func (b *Broker) Owners(ctx context.Context, p *Principal) ([]api.Owner, error) {
	records, err := loadAll[ownerRecord](ctx, b, ownerPrefix)
	if err != nil {
		return nil, err
	}
	owners := []api.Owner{}
	for _, r := range records {
		if !p.admin && r.value.Name != p.Name {
			continue
		}
		key, err := owner.MarshalPublicKey(r.value.PublicKey)
		if err != nil {
			return nil, err
		}
		owners = append(owners, api.Owner{Name: r.value.Name, PublicKey: string(key), Repositories: r.value.Repositories, Created: r.value.Created})
	}
	return owners, nil
}

// mayChange records and gives a refusal unless p owns the resource's repository.
func (b *Broker) mayChange(ctx context.Context, p *Principal, r kbs.ResourceURI, record audit.Record) error {
	if p.Owns(r.Repository) {
		return nil
	}
	return b.refuse(ctx, record, refusal.New(refusal.Forbidden, "%s does not own repository %s", p.Name, r.Repository))
}

// writes gives several writes, or the first error.
func (b *Broker) writes(writes ...func(*Broker) (store.Op, error)) ([]store.Op, error) {
	var ops []store.Op
	for _, write := range writes {
		op, err := write(b)
		if err != nil {
			return nil, err
		}
		ops = append(ops, op)
	}
	return ops, nil
}
