package dcap_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"testing"
	"time"

	"github.com/adyton-dev/adyton/dcap"
)

// BenchmarkVerify measures one verification beside one P-256 verification in the
// same run. Cold: nothing remembered. Warm: collateral, PCK chain and attestation
// key known, as for the further quotes of a machine. New-key: collateral and PCK
// chain known, the attestation key not.
func BenchmarkVerify(b *testing.B) {
	runs := loadRuns(b)
	for _, tee := range []string{"SGX", "TDX", "TDX1.5"} {
		r := lastRun(runs, tee)
		b.Run(tee+"/cold", func(b *testing.B) {
			unit := p256Verify(b)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := newVerifier(b, dcap.VerifierOptions{}).Verify(r.quote, r.collateral, r.Time); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed())/float64(b.N)/float64(unit), "×P-256")
		})
		b.Run(tee+"/warm", func(b *testing.B) {
			v := newVerifier(b, dcap.VerifierOptions{})
			unit := p256Verify(b)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := v.Verify(r.quote, r.collateral, r.Time); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed())/float64(b.N)/float64(unit), "×P-256")
		})
	}
	b.Run("TDX/new-key", func(b *testing.B) {
		// More attestation keys in turn than the verifier remembers.
		f := newForge(b, dcap.TDX)
		quote, collateral := f.make()
		quotes := [][]byte{quote}
		for range 15 {
			f.attestationKey = f.key()
			quotes = append(quotes, f.quote())
		}
		v := newVerifier(b, dcap.VerifierOptions{CacheSize: 8, Roots: []dcap.Root{{Name: "forged", PublicKey: &f.rootKey.PublicKey, Software: true}}})
		unit, i := p256Verify(b), 0
		b.ReportAllocs()
		for b.Loop() {
			i++
			if _, err := v.Verify(quotes[i%len(quotes)], collateral, now); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.Elapsed())/float64(b.N)/float64(unit), "×P-256")
	})
	r := lastRun(runs, "TDX")
	b.Run("TDX/warm-parallel", func(b *testing.B) {
		v := newVerifier(b, dcap.VerifierOptions{})
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if _, err := v.Verify(r.quote, r.collateral, r.Time); err != nil {
					b.Error(err)
				}
			}
		})
	})
}

// lastRun gives the last run of a TEE in runs.json: current documents, of full size.
func lastRun(runs []run, tee string) *run {
	var last *run
	for i := range runs {
		if runs[i].TEE == tee {
			last = &runs[i]
		}
	}
	return last
}

// p256Verify gives the time of one ecdsa.VerifyASN1, the fastest of some batches.
func p256Verify(b *testing.B) time.Duration {
	b.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	digest := sha256.Sum256([]byte("quote"))
	signature, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
	if err != nil {
		b.Fatal(err)
	}
	const batch = 200
	best := time.Duration(1<<63 - 1)
	for range 10 {
		start := time.Now()
		for range batch {
			if !ecdsa.VerifyASN1(&key.PublicKey, digest[:], signature) {
				b.Fatal("a good signature does not verify")
			}
		}
		best = min(best, time.Since(start)/batch)
	}
	return best
}
