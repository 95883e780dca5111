package server_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/adyton-dev/adyton/appraise"
	"github.com/adyton-dev/adyton/attest"
	"github.com/adyton-dev/adyton/attest/kbs"
	"github.com/adyton-dev/adyton/internal/broker"
	"github.com/adyton-dev/adyton/internal/broker/audit"
	"github.com/adyton-dev/adyton/internal/broker/store"
	"github.com/adyton-dev/adyton/internal/broker/store/bolt"
	"github.com/adyton-dev/adyton/internal/broker/vault"
	"github.com/adyton-dev/adyton/refusal"
)

// The host of a broker in a TEE cannot open its records, but it can put an old one
// back, or take one away, and leave the rest. A release that rests on it must show
// in the log.
func TestAReleaseByARecordThatTheHostPutBackShowsInTheAuditLog(t *testing.T) {
	t.Parallel()
	const wide = "broker-policy"
	refuse := "{expression: 'false', reason: SVNTooLow}"
	for name, c := range map[string]struct {
		key    string // of the record that the host changes
		put    bool   // back to what it was first; else the host removes it
		broken bool
	}{
		"the host changes nothing":             {},
		"an old resource with its policy":      {key: "resource/" + key, put: true, broken: true},
		"an old policy of the repository":      {key: "policy/hospital-a", put: true, broken: true},
		"the broker-wide policy is taken away": {key: wide, broken: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := start(t)
			ctx := t.Context()
			must := func(err error) {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
			}
			allow := releasePolicy("expression: 'true'")
			if c.key == "policy/hospital-a" {
				must(f.hospital.PutResource(ctx, key, []byte("secret"), nil, false))
				must(f.hospital.SetPolicy(ctx, "hospital-a", allow))
			} else {
				must(f.hospital.PutResource(ctx, key, []byte("secret"), allow, false))
			}
			old := f.stored(c.key)
			switch c.key {
			case wide:
				must(f.admin.SetPolicy(ctx, "", releasePolicy(refuse)))
			case "policy/hospital-a":
				must(f.hospital.SetPolicy(ctx, "hospital-a", releasePolicy(refuse)))
			case "resource/" + key:
				must(f.hospital.SetPolicy(ctx, key, releasePolicy(refuse)))
			}
			f.http.Close()
			must(f.broker.Close())

			db := filepath.Join(f.dir, broker.StoreFile)
			s, err := bolt.Open(db)
			must(err)
			if c.key != "" {
				_, err = s.Commit(ctx, store.Txn{Ops: []store.Op{{Key: c.key, Value: old, Delete: !c.put}}})
				must(err)
			}
			must(s.Close())

			b, err := broker.Open(ctx, f.dir, broker.Options{
				Means: vault.Means{KeyFile: filepath.Join(f.dir, broker.KeyFile)}, Appraiser: appraiser{},
			})
			must(err)
			evidence := &attest.Evidence{TEE: attest.SGX, Quote: make([]byte, 64)}
			_, attested, err := b.Attest(ctx, broker.Attestation{Session: "s", Evidence: evidence, Expect: appraise.Expect{}, TEEPubKey: jwk(t)})
			must(err)
			uri, err := kbs.ParseResourceURI(key)
			must(err)
			_, err = b.Release(ctx, attested, uri, "")
			must(err)
			must(b.Close())

			verifier, err := broker.AuditVerifier(f.dir)
			must(err)
			s, err = bolt.Open(db)
			must(err)
			defer s.Close()
			_, err = audit.VerifyStore(ctx, s, verifier)
			if broken := refusal.Of(err) == refusal.AuditCorrupt && strings.Contains(err.Error(), key); broken != c.broken || err != nil && !broken {
				t.Errorf("audit: %v", err)
			}
		})
	}
}

// stored gives the sealed bytes of a record as the host finds them on its disk;
// nil if there is none.
func (f *fixture) stored(key string) []byte {
	f.t.Helper()
	data, err := os.ReadFile(filepath.Join(f.dir, broker.StoreFile))
	if err != nil {
		f.t.Fatal(err)
	}
	copied := filepath.Join(f.t.TempDir(), "copy.db")
	if err := os.WriteFile(copied, data, 0o600); err != nil {
		f.t.Fatal(err)
	}
	s, err := bolt.Open(copied)
	if err != nil {
		f.t.Fatal(err)
	}
	defer s.Close()
	items, err := store.ListAll(f.t.Context(), s, key)
	if err != nil {
		f.t.Fatal(err)
	}
	for _, item := range items {
		if item.Key == key {
			return item.Value
		}
	}
	return nil
}
