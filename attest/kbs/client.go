// Package kbs speaks the key-broker protocol of Confidential Containers,
// /kbs/v0: its messages, which the broker shares, and a [Client] for code inside
// a TEE.
//
// A session is: auth (the broker gives a nonce), attest (the client sends
// evidence whose report data binds the nonce and an ephemeral public key, and
// gets a token), then resources, each encrypted to that key. The private key is
// made for one Client and lives only in its memory.
//
// The package is linked into the measured init program: it imports the standard
// library, attest, refusal, go-jose and jcs, and nothing that verifies evidence.
// To carry another TEE's evidence, extend [MarshalEvidence] and
// [UnmarshalEvidence].
package kbs

import (
	"bytes"
	"cmp"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/adyton-dev/adyton/attest"
	"github.com/adyton-dev/adyton/refusal"
)

// Options describes a broker and what the client shows it.
type Options struct {
	// URL is the broker's: https://host:port. Plain http is refused unless
	// AllowHTTP is set.
	URL string
	// SPKI pins the broker's key: see [Pin]. Empty: the broker's certificate must
	// chain to RootCAs and carry the host's name.
	SPKI string
	// RootCAs are the roots when SPKI is empty; nil: the system's.
	RootCAs *x509.CertPool
	// AllowHTTP permits a URL without TLS. Whoever answers then can serve
	// resources of his own choice; only for tests and networks that encrypt below.
	AllowHTTP bool
	// Dial opens the connection in place of TCP to addr, for example to a Unix
	// socket that relays to the broker. TLS runs over it end to end.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Attester gives the evidence.
	Attester attest.Attester
	// InitData is the init-data document (TOML) to show, or nil.
	InitData []byte
	// KeyAlgorithm is of the ephemeral key: [ECDH] or [RSAOAEP]; empty: ECDH.
	KeyAlgorithm string
	// Timeout bounds one exchange; 0: 30 s.
	Timeout time.Duration
	// Attempts is how often a step is tried while the broker cannot be reached;
	// 0: 5. An answer, whatever it is, is never retried.
	Attempts int
	// Backoff is the pause after the first failed attempt; it doubles up to 5 s.
	// 0: 100 ms.
	Backoff time.Duration
}

// Client is a session with one broker. It may be used by several goroutines.
type Client struct {
	url      string
	http     *http.Client
	attester attest.Attester
	initData *InitData
	attempts int
	backoff  time.Duration

	mu     sync.Mutex
	key    *teeKey // nil after Close
	cookie string  // of the attested session; "" if there is none
}

// New makes a client and its ephemeral key. It does not connect.
func New(opts Options) (*Client, error) {
	url, err := checkURL(opts.URL, opts.AllowHTTP)
	if err != nil {
		return nil, err
	}
	if opts.Attester == nil {
		return nil, errors.New("kbs client: no attester")
	}
	transport, err := newTransport(opts)
	if err != nil {
		return nil, err
	}
	key, err := newTEEKey(cmp.Or(opts.KeyAlgorithm, ECDH))
	if err != nil {
		return nil, fmt.Errorf("kbs client: make the ephemeral key: %w", err)
	}
	c := &Client{
		url: url,
		http: &http.Client{
			Transport: transport,
			Timeout:   cmp.Or(opts.Timeout, 30*time.Second),
			// A redirect would move the session to a place that nobody named.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		attester: opts.Attester,
		attempts: cmp.Or(opts.Attempts, 5),
		backoff:  cmp.Or(opts.Backoff, 100*time.Millisecond),
		key:      key,
	}
	if opts.InitData != nil {
		c.initData = &InitData{Format: "toml", Body: string(opts.InitData)}
	}
	return c, nil
}

// Attest opens a session and proves to the broker what this TEE is. It gives
// the broker's token, a JWT that other services can check. A refusal carries the
// broker's reason.
func (c *Client) Attest(ctx context.Context) (token string, err error) {
	key, _, err := c.session()
	if err != nil {
		return "", err
	}
	var cookie string
	err = c.retry(ctx, func() error {
		token, cookie, err = c.attest(ctx, key)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("attest to %s: %w", c.url, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.key == nil {
		return "", errClosed
	}
	c.cookie = cookie
	return token, nil
}

// Resource fetches and decrypts a resource named kbs:///repository/type/tag.
// It attests first, if there is no session yet or the broker has forgotten it.
// The caller zeroes the result after use.
func (c *Client) Resource(ctx context.Context, uri string) ([]byte, error) {
	name, err := ParseResourceURI(uri)
	if err != nil {
		return nil, err
	}
	key, cookie, err := c.session()
	if err != nil {
		return nil, err
	}
	fresh := cookie == ""
	for {
		if cookie == "" {
			if _, err := c.Attest(ctx); err != nil {
				return nil, err
			}
			if _, cookie, err = c.session(); err != nil {
				return nil, err
			}
		}
		var plaintext []byte
		err = c.retry(ctx, func() error {
			plaintext, err = c.resource(ctx, key, cookie, name)
			return err
		})
		if err == nil {
			return plaintext, nil
		}
		if fresh || !isForgotten(err) {
			return nil, fmt.Errorf("fetch %s from %s: %w", name, c.url, err)
		}
		fresh, cookie = true, ""
	}
}

// Close forgets the private key and the session. Calls after it fail; calls
// during it may fail.
func (c *Client) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.key != nil {
		c.key.erase()
		c.key = nil
	}
	c.cookie = ""
	c.http.CloseIdleConnections()
}

var errClosed = errors.New("kbs client: closed")

// session gives the key and the attested session's cookie, "" if there is none.
func (c *Client) session() (*teeKey, string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.key == nil {
		return nil, "", errClosed
	}
	return c.key, c.cookie, nil
}

// attest runs auth and attest once. Both are repeated together, so that a nonce
// is never used twice.
func (c *Client) attest(ctx context.Context, key *teeKey) (token, cookie string, err error) {
	params, err := json.Marshal(ExtraParams{SupportedHashAlgorithms: []string{HashAlgorithm}})
	if err != nil {
		return "", "", err
	}
	var challenge Challenge
	cookie, err = c.exchange(ctx, http.MethodPost, AuthPath, "",
		Request{Version: Version, TEE: c.attester.TEE(), ExtraParams: params}, &challenge)
	if err != nil {
		return "", "", err
	}
	if cookie == "" {
		return "", "", fmt.Errorf("the broker set no cookie %s", Cookie)
	}
	if algorithm := challenge.hashAlgorithm(); algorithm != HashAlgorithm {
		return "", "", fmt.Errorf("the broker wants report data by %.32q, only %s is supported", algorithm, HashAlgorithm)
	}
	reportData, err := ReportData(challenge.Nonce, key.public, "")
	if err != nil {
		return "", "", err
	}
	evidence, err := c.attester.Evidence(ctx, reportData)
	if err != nil {
		return "", "", err
	}
	primary, err := MarshalEvidence(evidence)
	if err != nil {
		return "", "", err
	}
	var result AttestationResult
	renewed, err := c.exchange(ctx, http.MethodPost, AttestPath, cookie, Attestation{
		InitData:    c.initData,
		RuntimeData: RuntimeData{Nonce: challenge.Nonce, TEEPubKey: key.public},
		TEEEvidence: TEEEvidence{Primary: primary},
	}, &result)
	if err != nil {
		return "", "", err
	}
	return result.Token, cmp.Or(renewed, cookie), nil
}

// hashAlgorithm is the broker's choice. Older brokers send extra-params as a
// string, which chooses nothing.
func (c *Challenge) hashAlgorithm() string {
	var params ExtraParams
	if err := json.Unmarshal(c.ExtraParams, &params); err != nil || params.SelectedHashAlgorithm == "" {
		return HashAlgorithm
	}
	return params.SelectedHashAlgorithm
}

func (c *Client) resource(ctx context.Context, key *teeKey, cookie string, name ResourceURI) ([]byte, error) {
	var response Response
	if _, err := c.exchange(ctx, http.MethodGet, ResourcePath+name.Path(), cookie, nil, &response); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.key == nil {
		return nil, errClosed
	}
	plaintext, err := key.decrypt(&response)
	if err != nil {
		return nil, refusal.New(refusal.DataCorrupt, "decrypt the resource: %w", err)
	}
	return plaintext, nil
}

// isForgotten says that the broker no longer knows the session. Brokers without
// reasons say 401.
func isForgotten(err error) bool {
	switch refusal.Of(err) {
	case refusal.SessionInvalid, refusal.Unauthorized:
		return true
	}
	return false
}

// exchange sends a message and reads the answer. It gives the session cookie that
// the broker set, or "".
func (c *Client) exchange(ctx context.Context, method, path, cookie string, message, answer any) (string, error) {
	var body bytes.Buffer
	if message != nil {
		if err := json.NewEncoder(&body).Encode(message); err != nil {
			return "", fmt.Errorf("encode: %w", err)
		}
	}
	request, err := http.NewRequestWithContext(ctx, method, c.url+path, &body)
	if err != nil {
		return "", err
	}
	request.Header.Set("Accept", "application/json")
	if message != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if cookie != "" {
		request.AddCookie(&http.Cookie{Name: Cookie, Value: cookie})
	}
	response, err := c.http.Do(request)
	if err != nil {
		return "", connectError(ctx, err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(io.LimitReader(response.Body, MaxBody+1))
	if err != nil {
		return "", connectError(ctx, err)
	}
	if len(data) > MaxBody {
		return "", fmt.Errorf("the broker's answer to %s %s is longer than %d bytes", method, path, MaxBody)
	}
	if response.StatusCode != http.StatusOK {
		return "", answerError(response.StatusCode, data)
	}
	if err := json.Unmarshal(data, answer); err != nil {
		return "", fmt.Errorf("the broker's answer to %s %s: %w", method, path, err)
	}
	for _, set := range response.Cookies() {
		if set.Name == Cookie {
			return set.Value, nil
		}
	}
	return "", nil
}

const maxBackoff = 5 * time.Second

// retry repeats f while the broker cannot be reached.
func (c *Client) retry(ctx context.Context, f func() error) error {
	pause := c.backoff
	for attempt := 1; ; attempt++ {
		err := f()
		var unreachable *unreachableError
		if err == nil || attempt == c.attempts || !errors.As(err, &unreachable) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
		}
		pause = min(2*pause, maxBackoff)
	}
}
