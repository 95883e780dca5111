// Package quote compares the verification of genuine quotes with the P-256
// verifications that it cannot do without, and TDX with Google's go-tdx-guest on
// the same quote, collateral and moment. The quotes are those of shared/vectors.
package quote

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/google/go-tdx-guest/verify"

	"github.com/adyton-dev/adyton/bench/ratio"
	"github.com/adyton-dev/adyton/dcap"
	"github.com/adyton-dev/adyton/internal/vectors"
)

const (
	// Verifications in one turn.
	few, many = 8, 100
	// coldTarget and warmTarget are the most P-256 verifications that one of a
	// quote may cost.
	coldTarget, warmTarget = 15, 2

	// The peers.
	unit  = "one P-256 verification"
	guest = "go-tdx-guest, with collateral and CRLs"
)

// Rows verifies an SGX and a TDX quote, with nothing remembered and with the
// platform known.
func Rows(ctx context.Context, rounds int) ([]ratio.Row, error) {
	loaded, err := loadVectors()
	if errors.Is(err, vectors.ErrMissing) {
		return []ratio.Row{{Job: "verify a quote", Peer: unit, Skipped: err.Error()}}, nil
	}
	if err != nil {
		return nil, err
	}
	sgx, err := adyton(loaded["SGX"])
	if err != nil {
		return nil, fmt.Errorf("SGX: %w", err)
	}
	tdx, err := adyton(loaded["TDX"])
	if err != nil {
		return nil, fmt.Errorf("TDX: %w", err)
	}
	one, err := p256()
	if err != nil {
		return nil, err
	}
	peer, err := google(loaded["TDX"])
	if err != nil {
		return nil, err
	}
	times, err := ratio.Rounds(ctx, rounds, one, sgx.cold, sgx.warm, tdx.cold, tdx.warm, peer)
	if err != nil {
		return nil, fmt.Errorf("verify quotes: %w", err)
	}
	var rows []ratio.Row
	for _, r := range []struct {
		job    string
		ours   ratio.Times
		peer   string
		peers  ratio.Times
		target float64
	}{
		{"verify an SGX quote, nothing remembered", times[1], unit, times[0], coldTarget},
		{"verify an SGX quote, platform known", times[2], unit, times[0], warmTarget},
		{"verify a TDX quote, nothing remembered", times[3], unit, times[0], coldTarget},
		{"verify a TDX quote, platform known", times[4], unit, times[0], warmTarget},
		{"verify a TDX quote, nothing remembered", times[3], guest, times[5], 0},
		{"verify a TDX quote, platform known", times[4], guest, times[5], 0},
	} {
		row := ratio.Compare(ratio.Time, r.ours, r.peers)
		row.Job, row.Figure = r.job, micro(r.ours)
		row.Peer, row.PeerFigure, row.Target = r.peer, micro(r.peers), r.target
		rows = append(rows, row)
	}
	return rows, nil
}

func micro(t ratio.Times) string {
	return fmt.Sprintf("%.0f µs", float64(t.Median())/float64(time.Microsecond))
}

type verification struct{ cold, warm ratio.Turn }

// adyton verifies with a verifier that is new, and with one that has seen the quote.
func adyton(v vector) (verification, error) {
	fresh := func() (*dcap.Verifier, error) { return dcap.NewVerifier(dcap.VerifierOptions{}) }
	known, err := fresh()
	if err != nil {
		return verification{}, err
	}
	if _, err := known.Verify(v.quote, v.collateral, v.at); err != nil {
		return verification{}, err
	}
	return verification{
		cold: ratio.Each(ratio.CPU(), few, func(context.Context) error {
			verifier, err := fresh()
			if err != nil {
				return err
			}
			_, err = verifier.Verify(v.quote, v.collateral, v.at)
			return err
		}),
		warm: ratio.Each(ratio.CPU(), many, func(context.Context) error {
			_, err := known.Verify(v.quote, v.collateral, v.at)
			return err
		}),
	}, nil
}

func p256() (ratio.Turn, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a P-256 key: %w", err)
	}
	digest := sha256.Sum256([]byte("quote"))
	signature, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	return ratio.Each(ratio.CPU(), many, func(context.Context) error {
		if !ecdsa.VerifyASN1(&key.PublicKey, digest[:], signature) {
			return errors.New("a good signature does not verify")
		}
		return nil
	}), nil
}

// google gives go-tdx-guest its root, for else it writes a warning each time.
func google(v vector) (ratio.Turn, error) {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(v.root) {
		return nil, errors.New("the vectors' root certificate is not PEM")
	}
	return ratio.Each(ratio.CPU(), few, func(context.Context) error {
		err := verify.RawTdxQuote(v.quote, &verify.Options{
			CheckRevocations: true, GetCollateral: true, Getter: served{v.collateral}, Now: v.at, TrustedRoots: roots,
		})
		if err != nil {
			return fmt.Errorf("go-tdx-guest: %w", err)
		}
		return nil
	}), nil
}
