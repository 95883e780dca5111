package dcap_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/adyton-dev/adyton/dcap"
)

// now is when forged evidence is verified, in the middle of its dates.
var now = time.Date(2026, 6, 15, 12, 0, 0, 0, time.UTC)

// forge makes evidence and collateral under a root of its own. A test changes its
// fields, then calls quote and collateral.
type forge struct {
	t testing.TB

	tee        dcap.TEE
	version    uint16
	bodyType   dcap.BodyType // v5
	bodySize   uint32        // declared by v5; 0 is the right one
	certType   dcap.CertificationDataType
	outerType  uint16
	vendor     string // hex
	keyType    uint16
	authData   []byte
	trailing   []byte
	chainTail  string // appended to the PCK chain's PEM
	qeRDSuffix [32]byte
	edit       func(body []byte) // before signing
	editQE     func(report []byte)

	ca            string // "Processor" or "Platform"
	pckExtension  []byte // nil: the right one
	pckComponents [16]uint8
	pckPCESVN     uint16
	leafName      string
	chainLength   int

	// JSON documents, before signing.
	tcbInfo, qeIdentity map[string]any
	revokedByRoot       []*big.Int
	revokedByCA         []*big.Int
	crlFrom, crlUntil   time.Time
	certFrom, certUntil time.Time

	root, caCert, leaf, signer *x509.Certificate
	rootKey, caKey, leafKey    *ecdsa.PrivateKey
	signerKey, attestationKey  *ecdsa.PrivateKey
}

const (
	forgedFMSPC    = "00906ED50000"
	forgedPCEID    = "0000"
	forgedMRSIGNER = "8C4F5775D796503E96137F77C68A829A0056AC8DED70140B081B094490C57BFF"
)

func newForge(t testing.TB, tee dcap.TEE) *forge {
	f := &forge{
		t: t, tee: tee, version: 3, certType: dcap.PCKChain, outerType: 6, keyType: 2,
		vendor: "939a7233f79c4ca9940a0db3957f0607", authData: make([]byte, 32),
		ca: "Platform", pckPCESVN: 13, leafName: "Test SGX PCK Certificate", chainLength: 3,
		crlFrom: now.AddDate(0, 0, -10), crlUntil: now.AddDate(0, 0, 20),
		certFrom: now.AddDate(-1, 0, 0), certUntil: now.AddDate(1, 0, 0),
	}
	for i := range f.pckComponents {
		f.pckComponents[i] = 5
	}
	f.bodyType = dcap.BodySGX
	if tee == dcap.TDX {
		f.version, f.bodyType = 4, dcap.BodyTD10
	}
	f.tcbInfo = map[string]any{
		"id": tee.String(), "version": 3, "issueDate": "2026-06-05T12:00:00Z", "nextUpdate": "2026-07-05T12:00:00Z",
		"fmspc": forgedFMSPC, "pceId": forgedPCEID, "tcbType": 0, "tcbEvaluationDataNumber": 20,
		"tcbLevels": []any{forgedLevel(5, 5, 13, "UpToDate"), forgedLevel(3, 3, 10, "OutOfDate", "INTEL-SA-00001")},
	}
	qe := "QE"
	if tee == dcap.TDX {
		qe = "TD_QE"
		f.tcbInfo["tdxModule"] = forgedModule("", nil)
		f.tcbInfo["tdxModuleIdentities"] = []any{forgedModule("TDX_01", []any{svnLevelOf(5, "UpToDate"), svnLevelOf(3, "OutOfDate", "INTEL-SA-00003")})}
	}
	f.qeIdentity = map[string]any{
		"id": qe, "version": 2, "issueDate": "2026-06-05T12:00:00Z", "nextUpdate": "2026-07-05T12:00:00Z", "tcbEvaluationDataNumber": 20,
		"miscselect": "00000000", "miscselectMask": "FFFFFFFF",
		"attributes": "11000000000000000000000000000000", "attributesMask": "FBFFFFFFFFFFFFFF0000000000000000",
		"mrsigner": forgedMRSIGNER, "isvprodid": 1,
		"tcbLevels": []any{svnLevelOf(8, "UpToDate"), svnLevelOf(6, "OutOfDate", "INTEL-SA-00002")},
	}
	return f
}

func forgedLevel(sgx, tdx, pcesvn int, status string, advisories ...string) map[string]any {
	comps := func(svn int) []any {
		all := make([]any, 16)
		for i := range all {
			all[i] = map[string]any{"svn": svn}
		}
		return all
	}
	tcb := map[string]any{"sgxtcbcomponents": comps(sgx), "tdxtcbcomponents": comps(tdx), "pcesvn": pcesvn}
	return map[string]any{"tcb": tcb, "tcbDate": "2025-01-01T00:00:00Z", "tcbStatus": status, "advisoryIDs": advisories}
}

func svnLevelOf(svn int, status string, advisories ...string) map[string]any {
	return map[string]any{"tcb": map[string]any{"isvsvn": svn}, "tcbDate": "2025-02-02T00:00:00Z", "tcbStatus": status, "advisoryIDs": advisories}
}

func forgedModule(id string, levels []any) map[string]any {
	return map[string]any{
		"id": id, "mrsigner": strings.Repeat("00", 48), "attributes": "0000000000000000", "attributesMask": "FFFFFFFFFFFFFFFF", "tcbLevels": levels,
	}
}

// verify verifies with a new verifier that knows the forged root as "forged".
func (f *forge) verify() (*dcap.Result, error) {
	f.t.Helper()
	quote, collateral := f.make()
	return f.verifier().Verify(quote, collateral, now)
}

func (f *forge) verifier() *dcap.Verifier {
	return newVerifier(f.t, dcap.VerifierOptions{Roots: []dcap.Root{{Name: "forged", PublicKey: &f.rootKey.PublicKey, Software: true}}})
}

func (f *forge) make() ([]byte, *dcap.Collateral) {
	f.t.Helper()
	f.certificates()
	return f.quote(), f.collateral()
}

func (f *forge) certificates() {
	if f.rootKey == nil {
		f.rootKey, f.caKey, f.leafKey, f.signerKey, f.attestationKey = f.key(), f.key(), f.key(), f.key(), f.key()
	}
	extension := f.pckExtension
	if extension == nil {
		extension = f.pckExtensionDER()
	}
	f.root = f.cert("Test SGX Root CA", 1, f.rootKey, true, nil, nil, f.rootKey)
	f.caCert = f.cert("Test SGX PCK "+f.ca+" CA", 2, f.caKey, true, nil, f.root, f.rootKey)
	f.leaf = f.cert(f.leafName, 3, f.leafKey, false, extension, f.caCert, f.caKey)
	f.signer = f.cert("Test SGX TCB Signing", 4, f.signerKey, false, nil, f.root, f.rootKey)
}

func (f *forge) key() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.t.Fatal(err)
	}
	return key
}

func (f *forge) cert(name string, serial int64, key *ecdsa.PrivateKey, isCA bool, sgx []byte, parent *x509.Certificate, signer *ecdsa.PrivateKey) *x509.Certificate {
	f.t.Helper()
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, SerialNumber: big.NewInt(serial),
		NotBefore: f.certFrom, NotAfter: f.certUntil, BasicConstraintsValid: true, IsCA: isCA, KeyUsage: x509.KeyUsageDigitalSignature,
	}
	if isCA {
		template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	}
	if sgx != nil {
		template.ExtraExtensions = []pkix.Extension{{Id: sgxOID(), Value: sgx}}
	}
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		f.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		f.t.Fatal(err)
	}
	return cert
}

func sgxOID(tail ...int) asn1.ObjectIdentifier {
	return append(asn1.ObjectIdentifier{1, 2, 840, 113741, 1, 13, 1}, tail...)
}

type attribute struct {
	ID    asn1.ObjectIdentifier
	Value any
}

func (f *forge) pckExtensionDER() []byte {
	tcb := make([]attribute, 0, 18)
	for i, svn := range f.pckComponents {
		tcb = append(tcb, attribute{sgxOID(2, i+1), int(svn)})
	}
	tcb = append(tcb, attribute{sgxOID(2, 17), int(f.pckPCESVN)}, attribute{sgxOID(2, 18), f.pckComponents[:]})
	fmspc, _ := hex.DecodeString(forgedFMSPC)
	fields := []attribute{
		{sgxOID(1), bytes.Repeat([]byte{0x11}, 16)}, {sgxOID(2), tcb}, {sgxOID(3), []byte{0, 0}}, {sgxOID(4), fmspc}, {sgxOID(5), asn1.Enumerated(1)},
	}
	if f.ca == "Platform" {
		fields = append(fields, attribute{sgxOID(6), bytes.Repeat([]byte{0x22}, 16)},
			attribute{sgxOID(7), []attribute{{sgxOID(7, 1), true}, {sgxOID(7, 2), true}, {sgxOID(7, 3), false}}})
	}
	return f.marshalAttributes(fields)
}

func (f *forge) marshalAttributes(fields []attribute) []byte {
	der, err := asn1.Marshal(fields)
	if err != nil {
		f.t.Fatal(err)
	}
	return der
}

func pemChain(certs ...*x509.Certificate) []byte {
	var b bytes.Buffer
	for _, c := range certs {
		_ = pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
	}
	return b.Bytes()
}

func (f *forge) pckChain() []byte {
	chain := []*x509.Certificate{f.leaf, f.caCert, f.root, f.root}
	return append(pemChain(chain[:f.chainLength]...), f.chainTail...)
}

func (f *forge) quote() []byte {
	le := binary.LittleEndian
	signed := make([]byte, 48)
	le.PutUint16(signed, f.version)
	le.PutUint16(signed[2:], f.keyType)
	le.PutUint32(signed[4:], uint32(f.tee))
	vendor, _ := hex.DecodeString(f.vendor)
	copy(signed[12:], vendor)
	size := map[dcap.BodyType]uint32{dcap.BodySGX: 384, dcap.BodyTD10: 584, dcap.BodyTD15: 648, dcap.BodyTD15Ex: 885}[f.bodyType]
	if f.version == 5 {
		declared := size
		if f.bodySize != 0 {
			declared = f.bodySize
		}
		signed = le.AppendUint32(le.AppendUint16(signed, uint16(f.bodyType)), declared)
	}
	body := make([]byte, size)
	if size == 0 { // an unknown body type
		body = make([]byte, 584)
	}
	if f.bodyType == dcap.BodySGX {
		body[48] = 5 // INIT, MODE64BIT
		copy(body[320:], "report data")
	} else {
		copy(body, []byte{5, 1, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5})
		body[123] = 0x10 // SEPT_VE_DISABLE
		copy(body[520:], "report data")
		if size >= 648 {
			copy(body[584:], body[:16])
		}
	}
	if f.edit != nil {
		f.edit(body)
	}
	signed = append(signed, body...)

	attestation := f.point(f.attestationKey)
	report := make([]byte, 384)
	report[48] = 0x11
	mrsigner, _ := hex.DecodeString(forgedMRSIGNER)
	copy(report[128:], mrsigner)
	le.PutUint16(report[256:], 1)
	le.PutUint16(report[258:], 8)
	digest := sha256.Sum256(append(bytes.Clone(attestation), f.authData...))
	copy(report[320:], digest[:])
	copy(report[352:], f.qeRDSuffix[:])
	if f.editQE != nil {
		f.editQE(report)
	}
	certification := append(bytes.Clone(report), f.sign(f.leafKey, report)...)
	certification = append(le.AppendUint16(certification, uint16(len(f.authData))), f.authData...)
	data := f.certificationData()
	certification = append(le.AppendUint32(le.AppendUint16(certification, uint16(f.certType)), uint32(len(data))), data...)
	if f.version > 3 {
		certification = append(le.AppendUint32(le.AppendUint16(nil, f.outerType), uint32(len(certification))), certification...)
	}
	auth := append(append(f.sign(f.attestationKey, signed), attestation...), certification...)
	return append(append(le.AppendUint32(signed, uint32(len(auth))), auth...), f.trailing...)
}

func (f *forge) certificationData() []byte {
	switch f.certType {
	case dcap.PPIDClear:
		return make([]byte, 36)
	case dcap.PPIDRSA2048:
		return make([]byte, 276)
	case dcap.PPIDRSA3072:
		return make([]byte, 404)
	case dcap.PCKCertificate:
		return pemChain(f.leaf)
	}
	return f.pckChain()
}

func (f *forge) point(key *ecdsa.PrivateKey) []byte {
	point, err := key.PublicKey.Bytes()
	if err != nil {
		f.t.Fatal(err)
	}
	return point[1:]
}

// sign gives r ‖ s.
func (f *forge) sign(key *ecdsa.PrivateKey, message []byte) []byte {
	digest := sha256.Sum256(message)
	r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
	if err != nil {
		f.t.Fatal(err)
	}
	signature := make([]byte, 64)
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return signature
}

func (f *forge) collateral() *dcap.Collateral {
	chain := pemChain(f.signer, f.root)
	c := &dcap.Collateral{
		TCBInfo: f.signJSON("tcbInfo", f.marshal(f.tcbInfo)), TCBInfoIssuerChain: chain,
		QEIdentity: f.signJSON("enclaveIdentity", f.marshal(f.qeIdentity)), QEIdentityIssuerChain: chain,
		PCKCRL: f.crl(f.caCert, f.caKey, f.revokedByCA), PCKCRLIssuerChain: pemChain(f.caCert, f.root),
		RootCACRL: f.crl(f.root, f.rootKey, f.revokedByRoot),
	}
	if f.certType != dcap.PCKChain {
		c.PCKCertChain = f.pckChain()
	}
	return c
}

func (f *forge) marshal(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		f.t.Fatal(err)
	}
	return b
}

func (f *forge) signJSON(name string, body []byte) []byte {
	return []byte(`{"` + name + `":` + string(body) + `,"signature":"` + hex.EncodeToString(f.sign(f.signerKey, body)) + `"}`)
}

func (f *forge) crl(issuer *x509.Certificate, key *ecdsa.PrivateKey, serials []*big.Int) []byte {
	template := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: f.crlFrom, NextUpdate: f.crlUntil}
	for _, serial := range serials {
		template.RevokedCertificateEntries = append(template.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: serial, RevocationTime: f.crlFrom})
	}
	der, err := x509.CreateRevocationList(rand.Reader, template, issuer, key)
	if err != nil {
		f.t.Fatal(err)
	}
	return der
}
