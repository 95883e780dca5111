package dcap

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/adyton-dev/adyton/refusal"
)

// Collateral is what a PCS or PCCS serves for a platform, each document exactly as
// served: its signature covers the bytes.
type Collateral struct {
	// TCBInfo is {"tcbInfo":{…},"signature":"…"}: version 3, or 2 for SGX.
	TCBInfo []byte
	// TCBInfoIssuerChain is PEM: TCB signing certificate, root.
	TCBInfoIssuerChain []byte
	// QEIdentity is {"enclaveIdentity":{…},"signature":"…"}: id QE for SGX, TD_QE for TDX.
	QEIdentity []byte
	// QEIdentityIssuerChain is PEM: TCB signing certificate, root.
	QEIdentityIssuerChain []byte
	// PCKCRL is the DER CRL of the CA that issued the PCK certificate.
	PCKCRL []byte
	// PCKCRLIssuerChain is PEM: PCK CA, root. Verification does not read it: the
	// CRL must be signed by the very CA of the PCK chain. It is here so that
	// collateral can be stored and passed on whole.
	PCKCRLIssuerChain []byte
	// RootCACRL is the root's DER CRL.
	RootCACRL []byte
	// PCKCertChain is PEM: PCK certificate, CA, root. It is read only for quotes
	// with certification data of types 1–4, which do not carry the chain.
	PCKCertChain []byte
}

// Result is what verification found: everything in Quote is genuine, and the
// platform is in the state described. Whether that is good enough is for a Policy.
type Result struct {
	Quote *Quote
	// Root is the root of trust of both the PCK chain and the collateral.
	Root Root
	// At is the time for which this holds.
	At time.Time

	// Status, TCBDate and Advisories sum up Platform, Module and QE as they were at
	// launch: the worst status, the oldest date, all advisories, sorted. For a TD
	// 1.5 the status also takes Current into account (TDRelaunchAdvised).
	Status     Status
	TCBDate    time.Time
	Advisories []string

	// Platform is the state of CPU, firmware and, for a TD, the TDX module by its
	// components. QE is the quoting enclave's. Module is the TDX module's by its
	// identity; nil for an enclave and for modules with major version 0.
	Platform TCB
	QE       TCB
	Module   *TCB
	// Current sums up the state with the TDX module that runs now; nil unless the
	// quote has a TD 1.5 body.
	Current *TCB

	// EvaluationNumber is the lower tcbEvaluationDataNumber of TCB info and QE identity.
	EvaluationNumber uint32
	// Expires is when the first document or certificate expires or has expired.
	Expires time.Time
	// Expired lists what was past its date at At. A Policy refuses it without grace.
	Expired []Expiry

	PCK *PCK
}

// Expiry names a document or certificate and its last moment.
type Expiry struct {
	Document string
	NotAfter time.Time
}

// VerifierOptions configure a Verifier.
type VerifierOptions struct {
	// Roots are trusted besides Intel's, typically of software TEEs. Names must be
	// unique and not "intel".
	Roots []Root
	// CacheSize bounds how many PCK chains and attestation keys are remembered, and,
	// of each kind, how many collateral documents. 0 means 1024.
	CacheSize int
}

// Verifier verifies quotes. It remembers the certificates and documents that it
// has verified, so that a quote of a known platform costs two P-256 verifications,
// and one if its quoting enclave's attestation key is known too. It is safe for
// concurrent use.
type Verifier struct {
	roots        []Root
	pckChains    *memo[*chain]
	signerChains *memo[*chain]
	crls         *memo[*crl]
	tcbInfos     *memo[*tcbInfo]
	identities   *memo[*qeIdentity]
	keys         *memo[attestationKey]
}

// NewVerifier makes a Verifier that trusts Intel's root and those of the options.
func NewVerifier(options VerifierOptions) (*Verifier, error) {
	if options.CacheSize < 0 {
		return nil, fmt.Errorf("dcap: cache size %d is negative", options.CacheSize)
	}
	size := options.CacheSize
	if size == 0 {
		size = 1024
	}
	roots := []Root{IntelRoot()}
	for _, root := range options.Roots {
		if root.Name == "" || root.PublicKey == nil || root.PublicKey.Curve != elliptic.P256() {
			return nil, fmt.Errorf("dcap: root %q must have a name and a P-256 key", root.Name)
		}
		for _, other := range roots {
			if other.Name == root.Name || other.PublicKey.Equal(root.PublicKey) {
				return nil, fmt.Errorf("dcap: root %q has the name or the key of root %q", root.Name, other.Name)
			}
		}
		roots = append(roots, root)
	}
	return &Verifier{
		roots:        roots,
		pckChains:    newMemo[*chain](size),
		signerChains: newMemo[*chain](size),
		crls:         newMemo[*crl](size),
		tcbInfos:     newMemo[*tcbInfo](size),
		identities:   newMemo[*qeIdentity](size),
		keys:         newMemo[attestationKey](size),
	}, nil
}

// Verify checks a quote against collateral as of a moment.
//
// The error, a refusal, means that the quote could not be verified: its reason is
// EvidenceMalformed, EvidenceUnsupported, RootNotTrusted, CertificateInvalid,
// CertificateRevoked, CollateralMissing, CollateralInvalid, CollateralNotYetValid,
// QEIdentityMismatch, TDXModuleMismatch or QuoteSignatureInvalid. Expired
// collateral and every TCB status are left for a Policy to judge.
func (v *Verifier) Verify(quote []byte, c *Collateral, at time.Time) (*Result, error) {
	q, err := ParseQuote(quote)
	if err != nil {
		return nil, fmt.Errorf("parse quote: %w", err)
	}
	pck, err := v.pckChainOf(q, c)
	if err != nil {
		return nil, fmt.Errorf("verify quote: %w", err)
	}
	platform := *pck.pck // a copy: the chain is shared
	r := &Result{Quote: q, Root: *pck.root, At: at, PCK: &platform}
	dates := validity{at: at}
	dates.chain(pck, pckCertificateNames)
	info, identity, err := v.collateral(q, pck, c, &dates)
	if err != nil {
		return nil, fmt.Errorf("verify collateral: %w", err)
	}
	if dates.early != nil {
		return nil, fmt.Errorf("verify collateral: %w", dates.early)
	}
	r.Expires, r.Expired = dates.first, dates.expired
	r.EvaluationNumber = min(info.evaluationNumber, identity.evaluationNumber)
	if err := v.verifySignatures(q, pck); err != nil {
		return nil, fmt.Errorf("verify quote: %w", err)
	}
	if err := identity.match(q.QEReport); err != nil {
		return nil, fmt.Errorf("verify quote: %w", refusal.New(refusal.QEIdentityMismatch, "quoting enclave: %w", err))
	}
	if err := r.appraiseTCB(info, identity); err != nil {
		return nil, fmt.Errorf("verify quote: %w", err)
	}
	return r, nil
}

// CheckPCKChain verifies the PCK certificate chain that a quote carries, up to a
// trusted root and without collateral, so that a caller can do it before it fetches
// any. Verify does it as well. It gives nil for quotes that carry no chain
// (certification data of types 1–4), RootNotTrusted or CertificateInvalid.
func (v *Verifier) CheckPCKChain(q *Quote) error {
	if q.CertificationData.Type != PCKChain {
		return nil
	}
	_, err := v.pckChain(q.CertificationData.Data)
	return err
}

// pckChainOf gives the verified chain that certifies the quote's quoting enclave.
func (v *Verifier) pckChainOf(q *Quote, c *Collateral) (*chain, error) {
	if q.CertificationData.Type == PCKChain {
		return v.pckChain(q.CertificationData.Data)
	}
	if c == nil || len(c.PCKCertChain) == 0 {
		return nil, refusal.New(refusal.CollateralMissing, "the quote has certification data of type %d and the collateral no PCK certificate chain", q.CertificationData.Type)
	}
	return v.pckChain(c.PCKCertChain)
}

// Names of certificates in an Expiry, in chain order without the root.
var (
	pckCertificateNames = []string{"PCK certificate", "PCK CA certificate"}
	tcbSignerNames      = []string{"TCB info signing certificate"}
	qeSignerNames       = []string{"QE identity signing certificate"}
)

// collateral verifies everything but the quote, and notes all dates.
func (v *Verifier) collateral(q *Quote, pck *chain, c *Collateral, dates *validity) (*tcbInfo, *qeIdentity, error) {
	if err := c.complete(); err != nil {
		return nil, nil, err
	}
	rootCRL, err := v.verifiedCRL("root CA CRL", c.RootCACRL, pck.certs[2])
	if err != nil {
		return nil, nil, err
	}
	pckCRL, err := v.verifiedCRL("PCK CRL", c.PCKCRL, pck.certs[1])
	if err != nil {
		return nil, nil, err
	}
	dates.period("root CA CRL", rootCRL.period)
	dates.period("PCK CRL", pckCRL.period)
	if err := errors.Join(rootCRL.check(pck, 1), pckCRL.check(pck, 0)); err != nil {
		return nil, nil, err
	}

	signer, err := v.signer(c.TCBInfoIssuerChain, pck.root, rootCRL)
	if err != nil {
		return nil, nil, fmt.Errorf("TCB info: %w", err)
	}
	info, err := document(v.tcbInfos, "tcbInfo", c.TCBInfo, signer, parseTCBInfo)
	if err != nil {
		return nil, nil, fmt.Errorf("TCB info: %w", err)
	}
	dates.chain(signer, tcbSignerNames)
	dates.period("TCB info", info.period)
	if info.tee != q.TEE || info.fmspc != pck.pck.FMSPC || info.pceid != pck.pck.PCEID {
		return nil, nil, refusal.New(refusal.CollateralInvalid, "TCB info is for %s, FMSPC %s, PCEID %s; the quote is from %s, FMSPC %s, PCEID %s",
			info.tee, info.fmspc, info.pceid, q.TEE, pck.pck.FMSPC, pck.pck.PCEID)
	}

	signer, err = v.signer(c.QEIdentityIssuerChain, pck.root, rootCRL)
	if err != nil {
		return nil, nil, fmt.Errorf("QE identity: %w", err)
	}
	identity, err := document(v.identities, "enclaveIdentity", c.QEIdentity, signer, parseQEIdentity)
	if err != nil {
		return nil, nil, fmt.Errorf("QE identity: %w", err)
	}
	dates.chain(signer, qeSignerNames)
	dates.period("QE identity", identity.period)
	if identity.tee != q.TEE {
		return nil, nil, refusal.New(refusal.CollateralInvalid, "QE identity is for %s, the quote is from %s", identity.tee, q.TEE)
	}
	return info, identity, nil
}

func (c *Collateral) complete() error {
	if c == nil {
		return refusal.New(refusal.CollateralMissing, "no collateral given")
	}
	for _, part := range []struct {
		name  string
		bytes []byte
	}{
		{"TCB info", c.TCBInfo}, {"TCB info issuer chain", c.TCBInfoIssuerChain},
		{"QE identity", c.QEIdentity}, {"QE identity issuer chain", c.QEIdentityIssuerChain},
		{"PCK CRL", c.PCKCRL}, {"root CA CRL", c.RootCACRL},
	} {
		if len(part.bytes) == 0 {
			return refusal.New(refusal.CollateralMissing, "the collateral has no %s", part.name)
		}
	}
	return nil
}

// signer gives a TCB signing chain that ends in the given root and is not revoked.
func (v *Verifier) signer(text []byte, root *Root, rootCRL *crl) (*chain, error) {
	signer, err := v.signerChain(text)
	if err != nil {
		return nil, err
	}
	if signer.root != root {
		return nil, refusal.New(refusal.CollateralInvalid, "signed under root %q, the quote under root %q", signer.root.Name, root.Name)
	}
	return signer, rootCRL.check(signer, 0)
}

// document gives the parsed form of a signed document, after verifying its signature.
func document[T any](known *memo[T], name string, text []byte, signer *chain, parse func([]byte) (T, error)) (T, error) {
	if parsed, ok := known.get(text, signer.certs[0].Raw); ok {
		return parsed, nil
	}
	var none T
	signed, err := parseSigned(text, name)
	if err != nil {
		return none, refusal.New(refusal.CollateralInvalid, "%w", err)
	}
	if !signed.verify(signer.key) {
		return none, refusal.New(refusal.CollateralInvalid, "its signature does not verify")
	}
	parsed, err := parse(signed.body)
	if err != nil {
		return none, refusal.New(refusal.CollateralInvalid, "%w", err)
	}
	known.put(text, signer.certs[0].Raw, parsed)
	return parsed, nil
}

// verifySignatures checks PCK key → QE report → attestation key → quote.
func (v *Verifier) verifySignatures(q *Quote, pck *chain) error {
	wrapped := q.Version > 3
	known, ok := v.keys.get(q.keyCertification, pck.certs[0].Raw)
	if !ok || known.wrapped != wrapped {
		key, err := certifiedKey(q, pck.key)
		if err != nil {
			return refusal.New(refusal.QuoteSignatureInvalid, "%w", err)
		}
		known = attestationKey{key, wrapped}
		v.keys.put(q.keyCertification, pck.certs[0].Raw, known)
	}
	if !verifyP256(known.key, q.signed, &q.Signature) {
		return refusal.New(refusal.QuoteSignatureInvalid, "the quote is not signed by its attestation key")
	}
	return nil
}

// attestationKey is a key that a QE report certifies.
type attestationKey struct {
	key *ecdsa.PublicKey
	// wrapped tells the layout of v4 and v5 from that of v3: the same bytes read in
	// the other way would be another QE report.
	wrapped bool
}

// certifiedKey gives the attestation key, after checking that the QE report
// certifies it. It reads nothing of the quote outside keyCertification.
func certifiedKey(q *Quote, pckKey *ecdsa.PublicKey) (*ecdsa.PublicKey, error) {
	if !verifyP256(pckKey, q.qeReportRaw, &q.QEReportSignature) {
		return nil, errors.New("the QE report is not signed by the PCK key")
	}
	h := sha256.New()
	h.Write(q.AttestationKey[:])
	h.Write(q.QEAuthData)
	var want [64]byte // the second half is zero
	h.Sum(want[:0])
	if want != q.QEReport.ReportData {
		return nil, errors.New("the QE report does not certify the attestation key")
	}
	var point [65]byte
	point[0] = 4
	copy(point[1:], q.AttestationKey[:])
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point[:])
	if err != nil {
		return nil, fmt.Errorf("attestation key: %w", err)
	}
	return key, nil
}

// appraiseTCB matches platform, TDX module and quoting enclave against their levels.
func (r *Result) appraiseTCB(info *tcbInfo, identity *qeIdentity) error {
	qe := stateOf(identity.levels, r.Quote.QEReport.ISVSVN)
	r.QE = merge(qe)
	td := r.Quote.TD
	if td == nil {
		platform := info.platform(r.PCK, nil)
		r.Platform = merge(platform)
		r.sum(merge(platform, qe))
		return nil
	}
	if err := info.checkModule(td); err != nil {
		return refusal.New(refusal.TDXModuleMismatch, "%w", err)
	}
	platform, module, err := info.td(r.PCK, &td.TEETCBSVN)
	if err != nil {
		return refusal.New(refusal.TDXModuleMismatch, "%w", err)
	}
	r.Platform = merge(platform)
	if td.TEETCBSVN[1] > 0 {
		of := merge(module)
		r.Module = &of
	}
	launch := merge(platform, module, qe)
	if r.Quote.BodyType == BodyTD15 || r.Quote.BodyType == BodyTD15Ex {
		platform, module, err := info.td(r.PCK, &td.TEETCBSVN2)
		if err != nil {
			return refusal.New(refusal.TDXModuleMismatch, "current module: %w", err)
		}
		current := merge(platform, module, qe)
		r.Current = &current
		launch.Status = relaunch(launch.Status, current.Status)
	}
	r.sum(launch)
	return nil
}

func (r *Result) sum(all TCB) {
	r.Status, r.TCBDate, r.Advisories = all.Status, all.Date, all.Advisories
}

// checkModule checks that the TDX module is the one that TCB info describes:
// signer and attributes, which must also be zero.
func (t *tcbInfo) checkModule(td *TDReport) error {
	module, err := t.moduleFor(&td.TEETCBSVN)
	if err != nil {
		return err
	}
	if td.MRSIGNERSEAM != module.mrsigner {
		return fmt.Errorf("MRSIGNERSEAM %x, want %x", td.MRSIGNERSEAM, module.mrsigner)
	}
	if td.SEAMAttributes != module.attributes || td.SEAMAttributes != [8]byte{} {
		return fmt.Errorf("SEAMATTRIBUTES %x, want %x and zero", td.SEAMAttributes, module.attributes)
	}
	return nil
}

// td gives the states of platform and TDX module for a TEE_TCB_SVN. A module of
// major version 0 has no levels of its own and counts as up to date: the
// platform's components 0 and 1 judge it.
func (t *tcbInfo) td(p *PCK, teeSVN *[16]byte) (platform, module TCB, err error) {
	platform, module = t.platform(p, teeSVN), TCB{Status: UpToDate}
	identity, err := t.moduleFor(teeSVN)
	if err == nil && teeSVN[1] > 0 {
		module = stateOf(identity.levels, uint16(teeSVN[0]))
	}
	return platform, module, err
}

// validity gathers the dates of everything that a verification rests on.
type validity struct {
	at      time.Time
	first   time.Time // the earliest end
	expired []Expiry
	early   error // the first that is not valid yet
}

func (v *validity) chain(c *chain, names []string) {
	for i, name := range names {
		v.period(name, period{c.certs[i].NotBefore, c.certs[i].NotAfter})
	}
}

func (v *validity) period(name string, p period) {
	if v.early == nil && p.from.After(v.at) {
		v.early = refusal.New(refusal.CollateralNotYetValid, "%s is valid from %s, it is %s: check the clock",
			name, p.from.UTC().Format(time.RFC3339), v.at.UTC().Format(time.RFC3339))
	}
	if v.first.IsZero() || p.until.Before(v.first) {
		v.first = p.until
	}
	if v.at.After(p.until) {
		v.expired = append(v.expired, Expiry{name, p.until})
	}
}
