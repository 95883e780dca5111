package broker

import (
	"crypto"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/adyton-dev/adyton/appraise"
	"github.com/adyton-dev/adyton/refusal"
)

// Issuer is the tokens' "iss".
const Issuer = "adyton-broker"

// maxToken bounds a token in bytes.
const maxToken = 32 << 10

// token is an attestation result in the form of EAR (draft-ietf-rats-ear), with
// the additions by which Confidential Containers' relying parties find the TEE's
// key: "tee-pubkey", and runtime_data_claims in the evidence.
type token struct {
	Profile   string            `json:"eat_profile"`
	Issuer    string            `json:"iss"`
	IssuedAt  int64             `json:"iat"`
	Expiry    int64             `json:"exp"`
	ID        string            `json:"jti"`
	Verifier  verifierID        `json:"ear.verifier-id"`
	Submods   map[string]submod `json:"submods"`
	TEEPubKey json.RawMessage   `json:"tee-pubkey"`
}

type verifierID struct {
	Developer string `json:"developer"`
	Build     string `json:"build"`
}

type submod struct {
	Status string `json:"ear.status"`
	Policy string `json:"ear.appraisal-policy-id"`
	// Vector is AR4SI's trustworthiness vector: 2 affirming, 32 warning, 96
	// contraindicated.
	Vector   map[string]int `json:"ear.trustworthiness-vector"`
	Evidence evidence       `json:"ear.veraison.annotated-evidence"`
}

type evidence struct {
	appraise.Claims
	RuntimeData runtimeData `json:"runtime_data_claims"`
}

type runtimeData struct {
	TEEPubKey json.RawMessage `json:"tee-pubkey"`
}

const (
	eatProfile = "tag:github.com,2024:confidential-containers/Trustee"
	submodName = "cpu0"
)

// AR4SI tiers.
const (
	affirming       = 2
	warning         = 32
	contraindicated = 96
)

// JWKS gives the public keys that the broker's tokens are signed by.
func (b *Broker) JWKS() (*jose.JSONWebKeySet, error) {
	key := jose.JSONWebKey{Key: b.tokenKey.Public(), Algorithm: string(jose.ES256), Use: "sig"}
	thumbprint, err := key.Thumbprint(crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("token key: %w", err)
	}
	key.KeyID = base64.RawURLEncoding.EncodeToString(thumbprint)
	return &jose.JSONWebKeySet{Keys: []jose.JSONWebKey{key}}, nil
}

// signToken makes the token (JWT, ES256) of an attestation.
func (b *Broker) signToken(a *Attested, claims *appraise.Claims) (string, error) {
	keys, err := b.JWKS()
	if err != nil {
		return "", err
	}
	signer, err := jose.NewSigner(
		jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: b.tokenKey, KeyID: keys.Keys[0].KeyID}},
		(&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		return "", fmt.Errorf("sign token: %w", err)
	}
	status, vector := trustworthiness(claims)
	payload, err := json.Marshal(token{
		Profile: eatProfile, Issuer: Issuer, IssuedAt: b.now().Unix(), Expiry: a.Expires.Unix(), ID: a.Session,
		Verifier: verifierID{Developer: "https://adyton.dev", Build: "adyton"},
		Submods: map[string]submod{submodName: {
			Status: status, Policy: "trust-policy", Vector: vector,
			Evidence: evidence{Claims: *claims, RuntimeData: runtimeData{TEEPubKey: a.TEEPubKey}},
		}},
		TEEPubKey: a.TEEPubKey,
	})
	if err != nil {
		return "", fmt.Errorf("sign token: %w", err)
	}
	signed, err := signer.Sign(payload)
	if err != nil {
		return "", fmt.Errorf("sign token: %w", err)
	}
	return signed.CompactSerialize()
}

// trustworthiness says in AR4SI's terms what the trust policy accepted. A
// software TEE and a debug TEE protect nothing, whoever accepted them.
func trustworthiness(c *appraise.Claims) (string, map[string]int) {
	hardware, configuration := affirming, affirming
	switch {
	case c.Root.Software:
		hardware = contraindicated
	case c.TCB.Status != "" && c.TCB.Status != "UpToDate":
		hardware = warning
	}
	if c.Debug {
		configuration = contraindicated
	}
	status := map[int]string{affirming: "affirming", warning: "warning", contraindicated: "contraindicated"}[max(hardware, configuration)]
	return status, map[string]int{"hardware": hardware, "configuration": configuration}
}

// ParseToken checks a token that the broker gave and gives its attestation, or a
// refusal of reason SessionInvalid.
func (b *Broker) ParseToken(compact string) (*Attested, error) {
	t, err := b.parseToken(compact)
	if err != nil {
		return nil, refusal.New(refusal.SessionInvalid, "attestation token: %w", err)
	}
	claims := t.Submods[submodName].Evidence.Claims
	a, err := newAttested(&claims, t.ID, t.TEEPubKey, time.Unix(t.Expiry, 0))
	if err != nil {
		return nil, refusal.New(refusal.SessionInvalid, "attestation token: %w", err)
	}
	return a, nil
}

func (b *Broker) parseToken(compact string) (*token, error) {
	if len(compact) > maxToken {
		return nil, fmt.Errorf("%d bytes; the limit is %d", len(compact), maxToken)
	}
	signed, err := jose.ParseSignedCompact(compact, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		return nil, err
	}
	payload, err := signed.Verify(b.tokenKey.Public())
	if err != nil {
		return nil, errors.New("it is not signed by this broker")
	}
	var t token
	if err := json.Unmarshal(payload, &t); err != nil {
		return nil, err
	}
	if t.Issuer != Issuer || len(t.Submods) != 1 {
		return nil, errors.New("it is not an attestation result")
	}
	if b.now().After(time.Unix(t.Expiry, 0)) {
		return nil, errors.New("it has expired; attest again")
	}
	return &t, nil
}
