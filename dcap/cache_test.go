package dcap_test

import (
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/adyton-dev/adyton/dcap"
	"github.com/adyton-dev/adyton/refusal"
)

// TestMemoryNeverChangesAVerdict runs random interleavings of good and bad
// collateral at many moments through verifiers that remember, at once and with
// little room, and holds each verdict against one that remembers nothing.
func TestMemoryNeverChangesAVerdict(t *testing.T) {
	t.Parallel()
	f := newForge(t, dcap.TDX)
	quote, good := f.make()
	type attempt struct {
		quote      []byte
		collateral *dcap.Collateral
		at         time.Time
		reason     refusal.Reason
		status     dcap.Status
		expired    int
	}
	documents := []*dcap.Collateral{good}
	add := func(change func(c *dcap.Collateral)) {
		c := *good
		change(&c)
		documents = append(documents, &c)
	}
	add(func(c *dcap.Collateral) { c.TCBInfo = append([]byte(" "), c.TCBInfo...) })
	add(func(c *dcap.Collateral) { c.TCBInfo = flip(c.TCBInfo, 40) })
	add(func(c *dcap.Collateral) { c.QEIdentity = flip(c.QEIdentity, 40) })
	add(func(c *dcap.Collateral) { c.PCKCRL = flip(c.PCKCRL, len(c.PCKCRL)-1) })
	add(func(c *dcap.Collateral) { c.RootCACRL = nil })
	f.tcbInfo["tcbLevels"] = []any{forgedLevel(5, 5, 13, "Revoked")}
	add(func(c *dcap.Collateral) { c.TCBInfo = f.collateral().TCBInfo })
	f.revokedByCA = append(f.revokedByCA, f.leaf.SerialNumber)
	add(func(c *dcap.Collateral) { c.PCKCRL = f.collateral().PCKCRL })
	quotes := [][]byte{quote, flip(quote, 60), flip(quote, 48+584+4+3), flip(quote, 48+584+4+64+3), append(quote[:len(quote):len(quote)], 0)}
	moments := []time.Time{now, now.AddDate(0, 0, 25), now.AddDate(0, 0, -11), now.AddDate(2, 0, 0)}

	var attempts []attempt
	for _, q := range quotes {
		for _, c := range documents {
			for _, at := range moments {
				a := attempt{quote: q, collateral: c, at: at}
				result, err := f.verifier().Verify(q, c, at)
				if a.reason = refusal.Of(err); err == nil {
					a.status, a.expired = result.Status, len(result.Expired)
				}
				attempts = append(attempts, a)
			}
		}
	}
	roots := []dcap.Root{{Name: "forged", PublicKey: &f.rootKey.PublicKey, Software: true}}
	for _, size := range []int{1, 2, 0} {
		v := newVerifier(t, dcap.VerifierOptions{Roots: roots, CacheSize: size})
		var wait sync.WaitGroup
		for worker := range 4 {
			random := rand.New(rand.NewPCG(uint64(size), uint64(worker)))
			wait.Go(func() {
				for range 300 {
					a := attempts[random.IntN(len(attempts))]
					result, err := v.Verify(a.quote, a.collateral, a.at)
					if refusal.Of(err) != a.reason {
						t.Errorf("with memory: %v, without: %q", err, a.reason)
						continue
					}
					if err == nil && (result.Status != a.status || len(result.Expired) != a.expired) {
						t.Errorf("with memory: %s, %v; without: %s, %d expired", result.Status, result.Expired, a.status, a.expired)
					}
					if err == nil && len(result.Advisories) > 0 {
						result.Advisories[0] = "changed by the caller"
					}
				}
			})
		}
		wait.Wait()
	}
}

func flip(b []byte, i int) []byte {
	changed := append([]byte(nil), b...)
	changed[i] ^= 1
	return changed
}
