package owner_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/adyton-dev/adyton/internal/broker/owner"
	"github.com/adyton-dev/adyton/refusal"
)

var now = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func newKey(t testing.TB) (ed25519.PublicKey, ed25519.PrivateKey) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return public, private
}

func request() owner.Request {
	return owner.Request{Audience: "sha256:aa", Method: "PUT", Path: "/adyton/v1/policy/r", Body: []byte("body")}
}

func TestATokenIsGoodForOneRequestToOneBroker(t *testing.T) {
	t.Parallel()
	public, private := newKey(t)
	other, otherPrivate := newKey(t)
	id, err := owner.KeyID(public)
	if err != nil {
		t.Fatal(err)
	}
	token, err := owner.Sign(private, request(), now)
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := owner.Sign(otherPrivate, request(), now)
	if err != nil {
		t.Fatal(err)
	}
	lookup := func(keyID string) (ed25519.PublicKey, error) {
		if keyID != id {
			return nil, refusal.New(refusal.Unauthorized, "unknown key")
		}
		return public, nil
	}
	for name, c := range map[string]struct {
		token string
		edit  func(*owner.Request)
		at    time.Duration
		key   ed25519.PublicKey
		ok    bool
	}{
		"the request it was made for": {ok: true},
		"within the leeway":           {at: owner.TokenLifetime + owner.Leeway, ok: true},
		"another broker":              {edit: func(r *owner.Request) { r.Audience = "sha256:bb" }},
		"another method":              {edit: func(r *owner.Request) { r.Method = "DELETE" }},
		"another path":                {edit: func(r *owner.Request) { r.Path += "x" }},
		"another body":                {edit: func(r *owner.Request) { r.Body = []byte("other") }},
		"expired":                     {at: owner.TokenLifetime + owner.Leeway + time.Second},
		"from the future":             {at: -owner.Leeway - time.Second},
		"another key":                 {token: foreign},
		"another key under the id":    {key: other},
		"not a token":                 {token: "a.b.c"},
		"alg none":                    {token: "eyJhbGciOiJub25lIn0.e30."},
		"too long":                    {token: strings.Repeat("a", 5000)},
	} {
		r := request()
		if c.edit != nil {
			c.edit(&r)
		}
		if c.token == "" {
			c.token = token
		}
		find := lookup
		if c.key != nil {
			find = func(string) (ed25519.PublicKey, error) { return c.key, nil }
		}
		err := owner.Verify(c.token, r, now.Add(c.at), find)
		if c.ok && err != nil || !c.ok && refusal.Of(err) != refusal.Unauthorized {
			t.Errorf("%s: got %v", name, err)
		}
	}
	broken := errors.New("store down")
	if err := owner.Verify(token, request(), now, func(string) (ed25519.PublicKey, error) { return nil, broken }); !errors.Is(err, broken) {
		t.Errorf("a failing lookup: got %v", err)
	}
}

func TestKeysAreReadBackAndMustBePrivate(t *testing.T) {
	t.Parallel()
	public, private := newKey(t)
	path := filepath.Join(t.TempDir(), "o.key")
	pem, err := owner.MarshalPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, pem, 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := owner.LoadPrivateKey(path); err != nil || !got.Equal(private) {
		t.Errorf("private key: %v", err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := owner.LoadPrivateKey(path); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("readable by others: %v", err)
	}
	pubPEM, err := owner.MarshalPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := owner.ParsePublicKey(pubPEM); err != nil || !got.Equal(public) {
		t.Errorf("public key: %v", err)
	}
	if _, err := owner.ParsePublicKey(pem); err == nil {
		t.Error("a private key was taken for a public one")
	}
}

func FuzzVerify(f *testing.F) {
	public, private := newKey(f)
	token, err := owner.Sign(private, request(), now)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(token)
	f.Add("eyJhbGciOiJub25lIn0.e30.")
	f.Fuzz(func(t *testing.T, s string) {
		r := request()
		r.Body = []byte("never signed")
		if owner.Verify(s, r, now, func(string) (ed25519.PublicKey, error) { return public, nil }) == nil {
			t.Errorf("accepted %q", s)
		}
	})
}
