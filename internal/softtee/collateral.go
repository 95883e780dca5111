package softtee

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"slices"
	"time"

	"github.com/adyton-dev/adyton/dcap"
	"github.com/adyton-dev/adyton/internal/softtee/collateral"
	"github.com/adyton-dev/adyton/internal/softtee/pcs"
	"github.com/adyton-dev/adyton/internal/softtee/pki"
	"github.com/adyton-dev/adyton/internal/softtee/qe"
	"github.com/adyton-dev/adyton/sgx"
)

// Documents are valid for 30 days, as Intel's. They are dated at the full hour, so
// that they are the same bytes for an hour and verifiers can cache them.
const (
	validity = 30 * 24 * time.Hour
	issueAt  = time.Hour
)

// Collateral gives all that is needed to verify quotes of a platform, as
// [Installation.PCS] would serve it now.
func (i *Installation) Collateral(platform string, tee dcap.TEE) (*dcap.Collateral, error) {
	state, err := i.loadPlatform(platform)
	if err != nil {
		return nil, fmt.Errorf("collateral of platform %q: %w", platform, err)
	}
	c := &dcap.Collateral{
		TCBInfoIssuerChain:    i.SignerChain(),
		QEIdentityIssuerChain: i.SignerChain(),
		PCKCRLIssuerChain:     i.CAChain(state.pck.CA),
		PCKCertChain:          append(pki.PEM(state.certificate), i.CAChain(state.pck.CA)...),
	}
	parts := []struct {
		to   *[]byte
		make func() ([]byte, error)
	}{
		{&c.TCBInfo, func() ([]byte, error) { return i.TCBInfo(tee, 3, state.fmspc) }},
		{&c.QEIdentity, func() ([]byte, error) { return i.QEIdentity(tee) }},
		{&c.PCKCRL, func() ([]byte, error) { return i.PCKCRL(state.pck.CA) }},
		{&c.RootCACRL, i.RootCRL},
	}
	for _, part := range parts {
		// What is missing on purpose is missing here as well.
		if *part.to, err = part.make(); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("collateral of platform %q: %w", platform, err)
		}
	}
	return c, nil
}

// TCBInfo gives the signed TCB info of a platform family, version 2 or 3. The error
// is fs.ErrNotExist if no platform has that FMSPC.
func (i *Installation) TCBInfo(tee dcap.TEE, version int, fmspc dcap.FMSPC) ([]byte, error) {
	states, err := i.platforms()
	if err != nil {
		return nil, err
	}
	k := slices.IndexFunc(states, func(s *platformState) bool { return s.fmspc == fmspc })
	if k < 0 || states[k].Spec.TCBInfo == Missing {
		return nil, fmt.Errorf("no TCB info for FMSPC %s: %w", fmspc, fs.ErrNotExist)
	}
	spec := &states[k].Spec
	svns, err := spec.resolve()
	if err != nil {
		return nil, err
	}
	info := &collateral.TCBInfo{Header: i.header(), TEE: tee, Version: version, FMSPC: fmspc, Levels: collateral.PlatformLevels()}
	if spec.EvaluationNumber != 0 {
		info.EvaluationNumber = spec.EvaluationNumber
	}
	if spec.Advisories != nil {
		own := slices.IndexFunc(info.Levels, func(l collateral.Level) bool { return l.Status == svns.level })
		info.Levels[own].Advisories = spec.Advisories
	}
	key := i.tcb.Key
	switch spec.TCBInfo {
	case Expired:
		info.Shift(-2 * validity)
	case NotYetValid:
		info.Shift(validity)
	case WrongFMSPC:
		info.FMSPC[0] ^= 0xff
	case BadSignature:
		key = i.root.Key
	}
	return info.Sign(key)
}

// QEIdentity gives the signed identity of the quoting enclaves for SGX or TDX.
func (i *Installation) QEIdentity(tee dcap.TEE) ([]byte, error) {
	identity := &collateral.QEIdentity{Header: i.header(), TEE: tee, MRSIGNER: i.qeSigner(), ISVProdID: qe.ProdIDSGX}
	if tee == dcap.TDX {
		identity.ISVProdID = qe.ProdIDTDX
	}
	return identity.Sign(i.tcb.Key)
}

// EvaluationNumbers gives the signed list of evaluation numbers.
func (i *Installation) EvaluationNumbers(tee dcap.TEE) ([]byte, error) {
	return (&collateral.EvaluationNumbers{Header: i.header(), TEE: tee}).Sign(i.tcb.Key)
}

// PCKCRL gives the DER CRL of a PCK CA.
func (i *Installation) PCKCRL(ca dcap.PCKCA) ([]byte, error) {
	authority, ok := i.cas[ca]
	if !ok {
		return nil, fmt.Errorf("no PCK CA %q: %w", ca, fs.ErrNotExist)
	}
	states, err := i.platforms()
	if err != nil {
		return nil, err
	}
	var revoked []*big.Int
	for _, s := range states {
		if s.Spec.RevokedPCK && s.pck.CA == ca {
			revoked = append(revoked, s.certificate.SerialNumber)
		}
	}
	h := i.header()
	return authority.CRL(revoked, h.Issued, h.NextUpdate)
}

// RootCRL gives the root's DER CRL.
func (i *Installation) RootCRL() ([]byte, error) {
	states, err := i.platforms()
	if err != nil {
		return nil, err
	}
	var revoked []*big.Int
	add := func(serial *big.Int) {
		if !slices.ContainsFunc(revoked, func(other *big.Int) bool { return other.Cmp(serial) == 0 }) {
			revoked = append(revoked, serial)
		}
	}
	for _, s := range states {
		if s.Spec.RevokedCA {
			add(i.cas[s.pck.CA].Certificate.SerialNumber)
		}
		if s.Spec.RevokedTCBSigner {
			add(i.tcb.Certificate.SerialNumber)
		}
	}
	h := i.header()
	return i.root.CRL(revoked, h.Issued, h.NextUpdate)
}

// SignerChain is PEM: the TCB signing certificate, the root.
func (i *Installation) SignerChain() []byte {
	return pki.PEM(i.tcb.Certificate, i.root.Certificate)
}

// CAChain is PEM: a PCK CA, the root; nil if there is no such CA.
func (i *Installation) CAChain(ca dcap.PCKCA) []byte {
	authority, ok := i.cas[ca]
	if !ok {
		return nil
	}
	return pki.PEM(authority.Certificate, i.root.Certificate)
}

// PCKCertificate gives the PCK certificate of the platform with this QE_ID. The
// error is fs.ErrNotExist if there is none.
func (i *Installation) PCKCertificate(qeID [16]byte) (*pcs.PCKCertificate, error) {
	states, err := i.platforms()
	if err != nil {
		return nil, err
	}
	for _, s := range states {
		if [16]byte(s.QEID) == qeID {
			return &pcs.PCKCertificate{PEM: pki.PEM(s.certificate), PCK: s.pck}, nil
		}
	}
	return nil, fmt.Errorf("no platform with QE_ID %x: %w", qeID, fs.ErrNotExist)
}

// FMSPCs lists the platform families.
func (i *Installation) FMSPCs() ([]dcap.FMSPC, error) {
	states, err := i.platforms()
	if err != nil {
		return nil, err
	}
	var all []dcap.FMSPC
	for _, s := range states {
		all = append(all, s.fmspc)
	}
	return all, nil
}

func (i *Installation) header() collateral.Header {
	issued := i.now().UTC().Truncate(issueAt)
	return collateral.Header{Issued: issued, NextUpdate: issued.Add(validity), EvaluationNumber: EvaluationNumber}
}

// qeSigner is the MRSIGNER of the quoting enclaves: SHA-256 of the modulus, 384
// bytes little-endian.
func (i *Installation) qeSigner() sgx.Measurement {
	modulus := i.qeKey.N.FillBytes(make([]byte, 384))
	slices.Reverse(modulus)
	return sha256.Sum256(modulus)
}
