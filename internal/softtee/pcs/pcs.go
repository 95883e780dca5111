// Package pcs serves a software TEE's collateral over HTTP with the paths,
// headers and error codes of Intel's PCS and PCCS, versions 3 and 4, so that
// every DCAP client can be pointed at it.
//
// It knows nothing of how documents are made: see [Source]. It may import dcap,
// softtee/pki (for the distribution points' paths) and the standard library. To add a request, add its pattern to [New].
//
// Not served: /platforms, /platformcollateral and /refresh (software platforms
// need no registration), /qve/identity (there is no quote verification enclave)
// and /pckcerts. /pckcert finds platforms by qeid only.
//
// Source: Intel "SGX and TDX Provisioning Certification Service API" v3 and v4,
// and the PCCS design guide.
package pcs

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/adyton-dev/adyton/dcap"
	"github.com/adyton-dev/adyton/internal/softtee/pki"
)

// Source makes the documents. An fs.ErrNotExist becomes 404.
type Source interface {
	TCBInfo(tee dcap.TEE, version int, fmspc dcap.FMSPC) ([]byte, error)
	QEIdentity(tee dcap.TEE) ([]byte, error)
	EvaluationNumbers(tee dcap.TEE) ([]byte, error)
	PCKCRL(ca dcap.PCKCA) ([]byte, error)
	RootCRL() ([]byte, error)
	PCKCertificate(qeID [16]byte) (*PCKCertificate, error)
	FMSPCs() ([]dcap.FMSPC, error)
	// SignerChain and CAChain are PEM.
	SignerChain() []byte
	CAChain(ca dcap.PCKCA) []byte
}

// PCKCertificate is a platform's certificate.
type PCKCertificate struct {
	PEM []byte
	PCK *dcap.PCK
}

// New makes the handler. Every answer has a Request-ID.
func New(source Source) http.Handler {
	s := &service{source}
	mux := http.NewServeMux()
	handle := func(pattern string, h func(*answer, url.Values) error) {
		mux.Handle("GET "+pattern, endpoint(h))
	}
	for _, version := range []int{3, 4} {
		base := fmt.Sprintf("/sgx/certification/v%d", version)
		handle(base+"/pckcert", s.pckCert)
		handle(base+"/pckcrl", s.pckCRL)
		handle(base+"/tcb", s.tcbInfo(dcap.SGX, version))
		handle(base+"/qe/identity", s.qeIdentity(dcap.SGX))
		handle(base+"/rootcacrl", s.rootCRL)
		handle(base+"/crl", s.crl)
	}
	handle("/sgx/certification/v4/fmspcs", s.fmspcs)
	handle("/sgx/certification/v4/tcbevaluationdatanumbers", s.evaluationNumbers(dcap.SGX))
	handle("/tdx/certification/v4/tcb", s.tcbInfo(dcap.TDX, 4))
	handle("/tdx/certification/v4/qe/identity", s.qeIdentity(dcap.TDX))
	handle("/tdx/certification/v4/tcbevaluationdatanumbers", s.evaluationNumbers(dcap.TDX))
	handle(pki.RootCRLPath, s.rootCRLDER)
	return identify(mux)
}

type service struct{ source Source }

// answer is a response in the making.
type answer struct {
	header http.Header
	body   []byte
}

// badRequest is an error of the client's.
type badRequest struct{ error }

func bad(format string, args ...any) error { return badRequest{fmt.Errorf(format, args...)} }

func endpoint(h func(*answer, url.Values) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		query, err := url.ParseQuery(r.URL.RawQuery)
		if err != nil {
			http.Error(w, "the query is malformed", http.StatusBadRequest)
			return
		}
		a := &answer{header: http.Header{}}
		if err := h(a, query); err != nil {
			http.Error(w, err.Error(), statusOf(err))
			return
		}
		for name, values := range a.header {
			w.Header()[name] = values
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(a.body)))
		_, _ = w.Write(a.body) // the client may be gone; there is nobody to tell
	})
}

func statusOf(err error) int {
	var client badRequest
	switch {
	case errors.As(err, &client):
		return http.StatusBadRequest
	case errors.Is(err, fs.ErrNotExist):
		return http.StatusNotFound
	}
	return http.StatusInternalServerError
}

// identify gives every answer a Request-ID.
func identify(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var id [16]byte
		rand.Read(id[:])
		w.Header()["Request-ID"] = []string{hex.EncodeToString(id[:])}
		next.ServeHTTP(w, r)
	})
}

// set keeps a header's name as Intel writes it: some clients compare exactly.
func (a *answer) set(name, value string) { a.header[name] = []string{value} }

// chain sets a header to a PEM chain, percent-encoded.
func (a *answer) chain(name string, text []byte) {
	a.set(name, strings.ReplaceAll(url.QueryEscape(string(text)), "+", "%20"))
}

func (a *answer) json(body []byte) {
	a.set("Content-Type", "application/json")
	a.body = body
}

// crl answers with DER, or with hex text as PCCS does without encoding=der.
func (a *answer) crl(der []byte, asDER bool) {
	if asDER {
		a.set("Content-Type", "application/pkix-crl")
		a.body = der
		return
	}
	a.set("Content-Type", "text/plain; charset=utf-8")
	a.body = []byte(hex.EncodeToString(der))
}

func (s *service) pckCert(a *answer, query url.Values) error {
	qeID, err := hexParam[[16]byte](query, "qeid", 16)
	if err != nil {
		return err
	}
	cpuSVN, err := hexParam[[16]byte](query, "cpusvn", 16)
	if err != nil {
		return err
	}
	pceSVN, err := hexParam[[2]byte](query, "pcesvn", 2) // little-endian
	if err != nil {
		return err
	}
	pceID, err := hexParam[[2]byte](query, "pceid", 2)
	if err != nil {
		return err
	}
	found, err := s.source.PCKCertificate(qeID)
	if err != nil {
		return err
	}
	p := found.PCK
	if dcap.PCEID(pceID) != p.PCEID || !atLeast(cpuSVN, p.CPUSVN) || uint16(pceSVN[0])|uint16(pceSVN[1])<<8 < p.PCESVN {
		return fmt.Errorf("no certificate for this PCEID, CPUSVN and PCESVN: %w", fs.ErrNotExist)
	}
	a.set("SGX-TCBm", strings.ToUpper(fmt.Sprintf("%x%02x%02x", p.CPUSVN, byte(p.PCESVN), byte(p.PCESVN>>8))))
	a.set("SGX-FMSPC", strings.ToUpper(p.FMSPC.String()))
	a.set("SGX-PCK-Certificate-CA-Type", string(p.CA))
	a.chain("SGX-PCK-Certificate-Issuer-Chain", s.source.CAChain(p.CA))
	a.set("Content-Type", "application/x-pem-file")
	a.body = found.PEM
	return nil
}

// atLeast compares component-wise.
func atLeast(have, want [16]byte) bool {
	for i := range want {
		if have[i] < want[i] {
			return false
		}
	}
	return true
}

func (s *service) pckCRL(a *answer, query url.Values) error {
	ca := dcap.PCKCA(query.Get("ca"))
	if ca != dcap.ProcessorCA && ca != dcap.PlatformCA {
		return bad("ca must be %s or %s", dcap.ProcessorCA, dcap.PlatformCA)
	}
	encoding := query.Get("encoding")
	if encoding != "" && encoding != "der" {
		return bad("encoding must be der or absent")
	}
	der, err := s.source.PCKCRL(ca)
	if err != nil {
		return err
	}
	a.chain("SGX-PCK-CRL-Issuer-Chain", s.source.CAChain(ca))
	a.crl(der, encoding == "der")
	return nil
}

func (s *service) tcbInfo(tee dcap.TEE, api int) func(*answer, url.Values) error {
	header, version := "TCB-Info-Issuer-Chain", 3
	if api == 3 {
		header, version = "SGX-TCB-Info-Issuer-Chain", 2
	}
	return func(a *answer, query url.Values) error {
		fmspc, err := hexParam[[6]byte](query, "fmspc", 6)
		if err != nil {
			return err
		}
		if err := checkUpdate(query); err != nil {
			return err
		}
		document, err := s.source.TCBInfo(tee, version, dcap.FMSPC(fmspc))
		if err != nil {
			return err
		}
		a.chain(header, s.source.SignerChain())
		a.json(document)
		return nil
	}
}

func (s *service) qeIdentity(tee dcap.TEE) func(*answer, url.Values) error {
	return func(a *answer, query url.Values) error {
		if err := checkUpdate(query); err != nil {
			return err
		}
		document, err := s.source.QEIdentity(tee)
		if err != nil {
			return err
		}
		a.chain("SGX-Enclave-Identity-Issuer-Chain", s.source.SignerChain())
		a.json(document)
		return nil
	}
}

func (s *service) evaluationNumbers(tee dcap.TEE) func(*answer, url.Values) error {
	return func(a *answer, _ url.Values) error {
		document, err := s.source.EvaluationNumbers(tee)
		if err != nil {
			return err
		}
		a.chain("TCB-Evaluation-Data-Numbers-Issuer-Chain", s.source.SignerChain())
		a.json(document)
		return nil
	}
}

func (s *service) fmspcs(a *answer, _ url.Values) error {
	all, err := s.source.FMSPCs()
	if err != nil {
		return err
	}
	type family struct {
		FMSPC    string `json:"fmspc"`
		Platform string `json:"platform"`
	}
	list := make([]family, len(all))
	for i, fmspc := range all {
		list[i] = family{strings.ToUpper(fmspc.String()), "all"}
	}
	text, err := json.Marshal(list)
	if err != nil {
		return err
	}
	a.json(text)
	return nil
}

func (s *service) rootCRL(a *answer, _ url.Values) error {
	der, err := s.source.RootCRL()
	if err != nil {
		return err
	}
	a.crl(der, false)
	return nil
}

func (s *service) rootCRLDER(a *answer, _ url.Values) error {
	der, err := s.source.RootCRL()
	if err != nil {
		return err
	}
	a.crl(der, true)
	return nil
}

// crl answers for the distribution points of our own certificates only.
func (s *service) crl(a *answer, query url.Values) error {
	uri, err := url.Parse(query.Get("uri"))
	if err != nil || uri.Path == "" {
		return bad("uri must be that of a CRL distribution point")
	}
	switch uri.Path {
	case pki.RootCRLPath:
		return s.rootCRLDER(a, nil)
	case pki.PCKCRLPath:
		return s.pckCRL(a, uri.Query())
	}
	return fmt.Errorf("no CRL at that uri: %w", fs.ErrNotExist)
}

// checkUpdate checks update=early|standard: both give the same here.
func checkUpdate(query url.Values) error {
	if update := query.Get("update"); update != "" && update != "early" && update != "standard" {
		return bad("update must be early or standard")
	}
	return nil
}

// hexParam reads a query parameter of exactly n bytes in hex.
func hexParam[T [2]byte | [6]byte | [16]byte](query url.Values, name string, n int) (T, error) {
	var none T
	text := query.Get(name)
	if len(text) != 2*n {
		return none, bad("%s must be %d hex digits", name, 2*n)
	}
	b, err := hex.DecodeString(text)
	if err != nil {
		return none, bad("%s must be %d hex digits", name, 2*n)
	}
	return T(b), nil
}
