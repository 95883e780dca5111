// Package pcs fetches DCAP collateral from Intel's Provisioning Certification
// Service (PCS) or a caching one (PCCS), versions 3 and 4.
//
// Nothing that it returns is trusted: dcap.Verifier checks every document by
// signature and date. For the same reason a service may be spoken to over plain
// HTTP; it can then withhold collateral, but not forge it.
//
// The package imports dcap, refusal, golang.org/x/sync/singleflight and errgroup,
// golang.org/x/time/rate and the standard library. To fetch another kind of document, add a method beside
// [Client.tcbInfo] that names its path and its issuer-chain header.
//
// Source: Intel PCS API documentation v3 and v4; Intel PCCS design guide.
package pcs

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/singleflight"
	"golang.org/x/time/rate"

	"github.com/adyton-dev/adyton/dcap"
	"github.com/adyton-dev/adyton/refusal"
)

// IntelURL is Intel's own service.
const IntelURL = "https://api.trustedservices.intel.com"

// intelRootCRL is where Intel publishes the root's CRL, which its PCS does not serve.
const intelRootCRL = "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der"

// Bounds on what a service may do.
const (
	maxBody    = 1 << 20
	maxChain   = 32 << 10
	maxEntries = 256
)

// Update says how soon after a TCB recovery event its requirements are wanted.
type Update string

// The update types.
const (
	Standard Update = "standard" // about 12 months after, when most have deployed it
	Early    Update = "early"    // at once
)

// Options configure a Client. The zero value is ready to use.
type Options struct {
	// HTTP sends the requests; nil means a client with http.DefaultTransport. A
	// PCCS with a self-signed certificate needs one that knows it.
	HTTP *http.Client
	// Timeout bounds each request; 0 means 30 s.
	Timeout time.Duration
	// MaxAge bounds how long a document is served from memory; 0 means 1 h. A
	// document is never kept past its nextUpdate.
	MaxAge time.Duration
	// Update is asked for; empty leaves it to the service, which takes Standard.
	Update Update
	// RootCRL is the URL of the root's CRL. Empty means /rootcacrl of a PCCS, or
	// Intel's distribution point if the base URL is Intel's.
	RootCRL string
	// APIKey is sent as Ocp-Apim-Subscription-Key, which Intel asks for /pckcert.
	APIKey string
	// Rate bounds the requests a second that are sent to the service, with bursts
	// of five seconds' worth; 0 means 20. Whose evidence is not verified yet chooses
	// what is asked for, so that one client of a verifier could else flood the
	// service. What is above the rate is refused as CollateralMissing.
	Rate float64
}

// Client fetches collateral. It is safe for concurrent use: identical requests at
// the same time are sent once.
type Client struct {
	base    string // scheme, host and path prefix without a slash
	version string // of the SGX API: "v3" or "v4"
	options Options
	flight  singleflight.Group
	cache   cache
	limit   *rate.Limiter
}

// New makes a client of the service at baseURL: "https://pccs:8081", with or
// without a trailing "/sgx/certification/v4" or "…/v3". TDX is always asked by v4,
// as there is no other.
func New(baseURL string, options Options) (*Client, error) {
	base := strings.TrimRight(baseURL, "/")
	version := "v4"
	for _, v := range []string{"v3", "v4"} {
		if prefix, ok := strings.CutSuffix(base, "/sgx/certification/"+v); ok {
			base, version = prefix, v
		}
	}
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, fmt.Errorf("pcs: %q is not an http or https URL of a collateral service", baseURL)
	}
	if options.Update != "" && options.Update != Standard && options.Update != Early {
		return nil, fmt.Errorf("pcs: update %q is neither %q nor %q", options.Update, Standard, Early)
	}
	if options.HTTP == nil {
		options.HTTP = &http.Client{}
	}
	if options.Timeout == 0 {
		options.Timeout = 30 * time.Second
	}
	if options.MaxAge == 0 {
		options.MaxAge = time.Hour
	}
	if options.Rate == 0 {
		options.Rate = 20
	}
	if options.RootCRL == "" {
		options.RootCRL = base + "/sgx/certification/" + version + "/rootcacrl"
		if base == IntelURL {
			options.RootCRL = intelRootCRL
		}
	}
	return &Client{base: base, version: version, options: options, cache: cache{entries: map[string]entry{}},
		limit: rate.NewLimiter(rate.Limit(options.Rate), int(max(1, 5*options.Rate)))}, nil
}

// Collateral fetches everything that verifying the quote needs, and the PCK
// certificate chain if the quote does not carry it. The refusal is
// CollateralMissing and names the URL, or EvidenceMalformed or CertificateInvalid
// for a quote whose certification data cannot be read.
func (c *Client) Collateral(ctx context.Context, q *dcap.Quote) (*dcap.Collateral, error) {
	leaf, chain, err := c.pckCertificate(ctx, q)
	if err != nil {
		return nil, fmt.Errorf("fetch PCK certificate: %w", err)
	}
	pck, err := dcap.PCKOf(leaf)
	if err != nil {
		return nil, refusal.New(refusal.CertificateInvalid, "%w", err)
	}
	out := new(dcap.Collateral)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		out.TCBInfo, out.TCBInfoIssuerChain, err = c.tcbInfo(ctx, q.TEE, pck.FMSPC)
		return err
	})
	group.Go(func() (err error) {
		out.QEIdentity, out.QEIdentityIssuerChain, err = c.qeIdentity(ctx, q.TEE)
		return err
	})
	group.Go(func() (err error) {
		out.PCKCRL, out.PCKCRLIssuerChain, err = c.pckCRL(ctx, pck.CA)
		return err
	})
	group.Go(func() (err error) {
		out.RootCACRL, err = c.rootCRL(ctx)
		return err
	})
	if err := group.Wait(); err != nil {
		return nil, fmt.Errorf("fetch collateral: %w", err)
	}
	switch q.CertificationData.Type {
	case dcap.PCKChain:
	case dcap.PCKCertificate: // the quote has the leaf, the CRL's issuers are the rest
		out.PCKCertChain = append(pemOf(leaf), out.PCKCRLIssuerChain...)
	default:
		out.PCKCertChain = append(pemOf(leaf), chain...)
	}
	return out, nil
}

// pckCertificate gives the quote's PCK certificate, from the quote if it is there;
// else from /pckcert, with its issuer chain as PEM.
func (c *Client) pckCertificate(ctx context.Context, q *dcap.Quote) (*x509.Certificate, []byte, error) {
	switch q.CertificationData.Type {
	case dcap.PCKChain, dcap.PCKCertificate:
		leaf, err := firstCertificate(q.CertificationData.Data)
		if err != nil {
			return nil, nil, refusal.New(refusal.CertificateInvalid, "certification data: %w", err)
		}
		return leaf, nil, nil
	}
	id, err := q.CertificationData.PlatformID()
	if err != nil {
		return nil, nil, err
	}
	query := url.Values{
		"qeid":   {hex.EncodeToString(q.UserData[:16])},
		"cpusvn": {hex.EncodeToString(id.CPUSVN[:])},
		"pcesvn": {fmt.Sprintf("%02x%02x", byte(id.PCESVN), byte(id.PCESVN>>8))},
		"pceid":  {fmt.Sprintf("%02x%02x", byte(id.PCEID), byte(id.PCEID>>8))},
	}
	if q.CertificationData.Type == dcap.PPIDRSA3072 {
		query.Set("encrypted_ppid", hex.EncodeToString(id.PPID))
	}
	doc, err := c.get(ctx, c.sgx("pckcert", query), "SGX-PCK-Certificate-Issuer-Chain")
	if err != nil {
		return nil, nil, err
	}
	leaf, err := firstCertificate(doc.body)
	if err != nil {
		return nil, nil, refusal.New(refusal.CollateralMissing, "%s: %w", c.sgx("pckcert", nil), err)
	}
	return leaf, doc.chain, nil
}

func (c *Client) tcbInfo(ctx context.Context, tee dcap.TEE, fmspc dcap.FMSPC) (document, chain []byte, err error) {
	query := url.Values{"fmspc": {fmspc.String()}}
	doc, err := c.get(ctx, c.byTEE(tee, "tcb", c.withUpdate(query)), "TCB-Info-Issuer-Chain", "SGX-TCB-Info-Issuer-Chain")
	return doc.body, doc.chain, err
}

func (c *Client) qeIdentity(ctx context.Context, tee dcap.TEE) (document, chain []byte, err error) {
	doc, err := c.get(ctx, c.byTEE(tee, "qe/identity", c.withUpdate(url.Values{})), "SGX-Enclave-Identity-Issuer-Chain")
	return doc.body, doc.chain, err
}

func (c *Client) pckCRL(ctx context.Context, ca dcap.PCKCA) (der, chain []byte, err error) {
	target := c.sgx("pckcrl", url.Values{"ca": {string(ca)}, "encoding": {"der"}})
	doc, err := c.get(ctx, target, "SGX-PCK-CRL-Issuer-Chain")
	return derOf(doc.body), doc.chain, err
}

func (c *Client) rootCRL(ctx context.Context) (der []byte, err error) {
	doc, err := c.get(ctx, c.options.RootCRL)
	return derOf(doc.body), err
}

func (c *Client) withUpdate(query url.Values) url.Values {
	if c.options.Update != "" {
		query.Set("update", string(c.options.Update))
	}
	return query
}

func (c *Client) byTEE(tee dcap.TEE, path string, query url.Values) string {
	if tee == dcap.TDX {
		return join(c.base+"/tdx/certification/v4/"+path, query)
	}
	return c.sgx(path, query)
}

func (c *Client) sgx(path string, query url.Values) string {
	return join(c.base+"/sgx/certification/"+c.version+"/"+path, query)
}

func join(target string, query url.Values) string {
	if len(query) == 0 {
		return target
	}
	return target + "?" + query.Encode()
}

// response is a document and the issuer chain that came in its header, as PEM.
type response struct{ body, chain []byte }

// clone makes a copy for a caller to keep; the original is shared.
func (r response) clone() response { return response{bytes.Clone(r.body), bytes.Clone(r.chain)} }

// get fetches target, or gives what is in memory. If headers are given, one of
// them must carry the issuer chain. A fetch that several wait for outlives the one
// who began it, at most for the timeout.
func (c *Client) get(ctx context.Context, target string, headers ...string) (response, error) {
	if doc, ok := c.cache.get(target, time.Now()); ok {
		return doc.clone(), nil
	}
	done := c.flight.DoChan(target, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.options.Timeout)
		defer cancel()
		doc, err := c.fetch(ctx, target, headers)
		if err == nil {
			now := time.Now()
			c.cache.put(target, doc, now, expiryOf(doc.body, now.Add(c.options.MaxAge)))
		}
		return doc, err
	})
	var result singleflight.Result
	select {
	case <-ctx.Done():
		result.Err = ctx.Err()
	case result = <-done:
	}
	if result.Err != nil {
		return response{}, refusal.New(refusal.CollateralMissing, "GET %s: %w", redacted(target), result.Err)
	}
	return result.Val.(response).clone(), nil
}

func (c *Client) fetch(ctx context.Context, target string, headers []string) (doc response, err error) {
	if !c.limit.Allow() {
		return doc, fmt.Errorf("more than %v requests a second for collateral; try again later", c.limit.Limit())
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return doc, errors.New("malformed URL")
	}
	if c.options.APIKey != "" {
		request.Header.Set("Ocp-Apim-Subscription-Key", c.options.APIKey)
	}
	answer, err := c.options.HTTP.Do(request)
	if err != nil {
		if wrapped := new(url.Error); errors.As(err, &wrapped) {
			err = wrapped.Err // its text repeats the URL
		}
		return doc, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return doc, fmt.Errorf("HTTP status %s", answer.Status)
	}
	if doc.body, err = io.ReadAll(io.LimitReader(answer.Body, maxBody+1)); err != nil {
		return doc, err
	}
	if len(doc.body) > maxBody {
		return doc, fmt.Errorf("the answer has more than %d bytes", maxBody)
	}
	for _, header := range headers {
		if value := answer.Header.Get(header); value != "" && len(value) <= maxChain {
			// PathUnescape, not QueryUnescape: base64 has plus signs.
			chain, err := url.PathUnescape(value)
			if err != nil {
				return doc, fmt.Errorf("header %s: %w", header, err)
			}
			doc.chain = []byte(chain)
			return doc, nil
		}
	}
	if len(headers) > 0 {
		return doc, fmt.Errorf("the answer has no header %s", headers[0])
	}
	return doc, nil
}

func redacted(target string) string {
	u, err := url.Parse(target)
	if err != nil {
		return "the collateral service"
	}
	u.RawQuery = strings.SplitN(u.RawQuery, "encrypted_ppid=", 2)[0]
	return u.Redacted()
}

func firstCertificate(text []byte) (*x509.Certificate, error) {
	if len(text) > maxChain {
		return nil, fmt.Errorf("PEM of %d bytes", len(text))
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, errors.New("no PEM certificate")
	}
	return x509.ParseCertificate(block.Bytes)
}

func pemOf(cert *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
}

// derOf gives a CRL's DER out of the forms in which it is served: DER, hex text
// (PCCS), PEM. What is none of these is passed on for the verifier to refuse.
func derOf(body []byte) []byte {
	if block, _ := pem.Decode(body); block != nil {
		return block.Bytes
	}
	if der, err := hex.DecodeString(strings.Trim(string(body), " \t\r\n\x00\"")); err == nil {
		return der
	}
	return body
}
