// Package admin is the client of the broker's administration API, for owners and
// for the administrator. It imports the API's messages and the owners' tokens.
package admin

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/adyton-dev/adyton/attest/kbs"
	"github.com/adyton-dev/adyton/internal/broker/api"
	"github.com/adyton-dev/adyton/internal/broker/owner"
	"github.com/adyton-dev/adyton/refusal"
)

// maxAnswer bounds what is read of an answer, in bytes.
const maxAnswer = 16 << 20

// Client speaks to one broker as one owner.
type Client struct {
	base     *url.URL
	key      ed25519.PrivateKey
	audience string
	http     *http.Client
}

// New makes a client of the broker at brokerURL for the owner whose private key
// is in ownerKeyFile.
//
// spkiPin is "sha256:" and the hex SHA-256 of the SubjectPublicKeyInfo of the
// broker's certificate, as printed by `adyton broker pin`. It may only be empty
// for an http URL, which must be of a loopback address.
func New(brokerURL, spkiPin, ownerKeyFile string) (*Client, error) {
	key, err := owner.LoadPrivateKey(ownerKeyFile)
	if err != nil {
		return nil, err
	}
	return NewWithKey(brokerURL, spkiPin, key)
}

// NewWithKey is New with the key in memory.
func NewWithKey(brokerURL, spkiPin string, key ed25519.PrivateKey) (*Client, error) {
	base, err := url.Parse(brokerURL)
	if err != nil {
		return nil, fmt.Errorf("broker URL: %w", err)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.Proxy = nil
	transport.MaxIdleConnsPerHost = 16
	c := &Client{base: base, key: key, http: &http.Client{Transport: transport, Timeout: time.Minute}}
	switch base.Scheme {
	case "https":
		pin, err := kbs.ParsePin(spkiPin)
		if err != nil {
			return nil, fmt.Errorf("broker's key: %w; `adyton broker pin` prints it", err)
		}
		transport.TLSClientConfig = pinned(pin)
		c.audience = strings.ToLower(spkiPin)
	case "http":
		if ip := net.ParseIP(base.Hostname()); base.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback()) {
			return nil, fmt.Errorf("broker URL %s: plain http is only for a loopback address; use https", brokerURL)
		}
		c.audience = "loopback"
	default:
		return nil, fmt.Errorf("broker URL %q: write it as https://HOST:PORT", brokerURL)
	}
	return c, nil
}

// ErrExists: the resource exists and was to be created only.
var ErrExists = errors.New("the resource exists already")

// PutResource stores value under path ("repository/type/tag" or a kbs:/// URI)
// together with the policy that releases it (a ReleasePolicy in YAML), in one
// step: the resource is never released under another policy in between. With an
// empty policyYAML a resource keeps the policy that it has. With createOnly an
// existing resource is left as it is and the error is [ErrExists].
func (c *Client) PutResource(ctx context.Context, path string, value, policyYAML []byte, createOnly bool) error {
	p, err := kbs.ParseResourceURI(path)
	if err != nil {
		return err
	}
	body, err := json.Marshal(api.PutResource{Value: value, Policy: string(policyYAML)})
	if err != nil {
		return fmt.Errorf("put %s: %w", p, err)
	}
	_, err = c.call(ctx, http.MethodPut, "/adyton/v1/resource/"+p.Path(), body, createOnly)
	return err
}

// DeleteResource removes a resource, its value and its policy.
func (c *Client) DeleteResource(ctx context.Context, path string) error {
	p, err := kbs.ParseResourceURI(path)
	if err != nil {
		return err
	}
	_, err = c.call(ctx, http.MethodDelete, "/kbs/v0/resource/"+p.Path(), nil, false)
	return err
}

// Metadata tells of a resource.
func (c *Client) Metadata(ctx context.Context, path string) (*api.Metadata, error) {
	p, err := kbs.ParseResourceURI(path)
	if err != nil {
		return nil, err
	}
	return get[*api.Metadata](ctx, c, "/adyton/v1/resource/"+p.Path())
}

// Resources tells of the resources of the owner's repositories, or of all for
// the administrator.
func (c *Client) Resources(ctx context.Context) ([]api.Metadata, error) {
	return get[[]api.Metadata](ctx, c, "/adyton/v1/resources")
}

// SetPolicy sets the release policy (YAML) of scope: a resource's path, a
// repository's name, or "" for the broker-wide policy, which is the
// administrator's.
func (c *Client) SetPolicy(ctx context.Context, scope string, policyYAML []byte) error {
	_, err := c.call(ctx, http.MethodPut, policyPath(scope), policyYAML, false)
	return err
}

// Policy gives the release policy of scope, as for SetPolicy.
func (c *Client) Policy(ctx context.Context, scope string) ([]byte, error) {
	return c.call(ctx, http.MethodGet, policyPath(scope), nil, false)
}

// DeletePolicy removes the release policy of scope, as for SetPolicy.
func (c *Client) DeletePolicy(ctx context.Context, scope string) error {
	_, err := c.call(ctx, http.MethodDelete, policyPath(scope), nil, false)
	return err
}

// AddOwner registers an owner. Only the administrator may.
func (c *Client) AddOwner(ctx context.Context, o api.Owner) error {
	body, err := json.Marshal(o)
	if err != nil {
		return fmt.Errorf("add owner: %w", err)
	}
	_, err = c.call(ctx, http.MethodPut, "/adyton/v1/owners/"+url.PathEscape(o.Name), body, false)
	return err
}

// RemoveOwner removes an owner. If its repositories hold resources, it is
// refused unless shred is set, which removes them too. Only the administrator may.
func (c *Client) RemoveOwner(ctx context.Context, name string, shred bool) error {
	path := "/adyton/v1/owners/" + url.PathEscape(name)
	if shred {
		path += "?shred=true"
	}
	_, err := c.call(ctx, http.MethodDelete, path, nil, false)
	return err
}

// Owners lists the owners.
func (c *Client) Owners(ctx context.Context) ([]api.Owner, error) {
	return get[[]api.Owner](ctx, c, "/adyton/v1/owners")
}

// Checkpoint gives the audit log's newest signed checkpoint.
func (c *Client) Checkpoint(ctx context.Context) ([]byte, error) {
	return c.call(ctx, http.MethodGet, "/adyton/v1/audit/checkpoint", nil, false)
}

// Records gives up to limit records of the audit log from number from on, each as
// the bytes that the log's tree covers. Only the administrator may.
func (c *Client) Records(ctx context.Context, from int64, limit int) ([]json.RawMessage, error) {
	return get[[]json.RawMessage](ctx, c, fmt.Sprintf("/adyton/v1/audit/records?from=%d&limit=%d", from, limit))
}

func policyPath(scope string) string {
	if scope == "" {
		return "/adyton/v1/policy"
	}
	return "/adyton/v1/policy/" + strings.TrimPrefix(scope, "kbs:///")
}

func get[T any](ctx context.Context, c *Client, path string) (T, error) {
	var v T
	body, err := c.call(ctx, http.MethodGet, path, nil, false)
	if err != nil {
		return v, err
	}
	if err := json.Unmarshal(body, &v); err != nil {
		return v, fmt.Errorf("broker answer to GET %s: %w", path, err)
	}
	return v, nil
}

// call makes one request with a token of its own and gives the answer's body.
func (c *Client) call(ctx context.Context, method, path string, body []byte, createOnly bool) ([]byte, error) {
	target, err := c.base.Parse(path)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	req, err := http.NewRequestWithContext(ctx, method, target.String(), bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	token, err := owner.Sign(c.key, owner.Request{Audience: c.audience, Method: method, Path: target.RequestURI(), Body: body}, time.Now())
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	if createOnly {
		req.Header.Set("If-None-Match", "*")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		var refused *refusal.Error
		if errors.As(err, &refused) { // by the pin
			return nil, refused
		}
		return nil, refusal.New(refusal.BrokerUnreachable, "%w: is the broker running, and is its URL right?", err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, refusal.New(refusal.BrokerUnreachable, "read answer to %s %s: %w", method, path, err)
	case len(answer) > maxAnswer:
		return nil, fmt.Errorf("answer to %s %s is larger than %d bytes", method, path, maxAnswer)
	case resp.StatusCode < 300:
		return answer, nil
	case resp.StatusCode == http.StatusPreconditionFailed:
		return nil, fmt.Errorf("%s %s: %w", method, path, ErrExists)
	}
	var p kbs.ErrorInformation
	if json.Unmarshal(answer, &p) != nil || p.Detail == "" {
		return nil, fmt.Errorf("%s %s: the broker answered %s", method, path, resp.Status)
	}
	if p.Reason != "" {
		return nil, refusal.New(p.Reason, "%s", p.Detail)
	}
	return nil, fmt.Errorf("%s %s: %s", method, path, p.Detail)
}

// pinned is TLS 1.3 to a server that is known by its public key instead of by a
// certificate authority.
func pinned(pin [sha256.Size]byte) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		// The pin below replaces the chain and name checks that this turns off.
		InsecureSkipVerify: true,
		VerifyConnection: func(state tls.ConnectionState) error {
			sum := sha256.Sum256(state.PeerCertificates[0].RawSubjectPublicKeyInfo)
			if subtle.ConstantTimeCompare(sum[:], pin[:]) != 1 {
				return refusal.New(refusal.BrokerNotTrusted, "the broker's key is sha256:%x, not the pinned one", sum)
			}
			return nil
		},
	}
}
