package kbs

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"

	"github.com/go-jose/go-jose/v4"
	josecipher "github.com/go-jose/go-jose/v4/cipher"

	"github.com/adyton-dev/adyton/refusal"
)

// The algorithms that wrap a resource's content key to the TEE's public key
// (RFC 7518, section 4). The content itself is always A256GCM.
const (
	// ECDH is for a P-256 key. Clients use it unless told otherwise.
	ECDH = string(jose.ECDH_ES_A256KW)
	// RSAOAEP is for an RSA key of 2048 to 8192 bits.
	RSAOAEP = string(jose.RSA_OAEP_256)
)

// Response is an encrypted resource: a JWE in flattened JSON (RFC 7516, section
// 7.2.2). All members are base64url without padding.
//
// Some servers add a member "aad" that repeats Protected, against the RFC. It is
// not read: the additional data is always Protected alone.
type Response struct {
	Protected    string `json:"protected"`
	EncryptedKey string `json:"encrypted_key"`
	IV           string `json:"iv"`
	Ciphertext   string `json:"ciphertext"`
	Tag          string `json:"tag"`
}

// PublicKey is the TEE's ephemeral public key, a JWK (RFC 7517) in which the
// protocol makes "alg" mandatory.
type PublicKey struct {
	KeyType   string `json:"kty"` // "EC" or "RSA"
	Algorithm string `json:"alg"` // ECDH or RSAOAEP
	Curve     string `json:"crv,omitempty"`
	X         string `json:"x,omitempty"`
	Y         string `json:"y,omitempty"`
	N         string `json:"n,omitempty"`
	E         string `json:"e,omitempty"`
}

// CheckPublicKey says whether [Encrypt] can encrypt to the JWK: a P-256 point
// with alg ECDH-ES+A256KW, or an RSA key of 2048 to 8192 bits with alg
// RSA-OAEP-256. A broker calls it at attest, before it appraises.
func CheckPublicKey(teePubKey json.RawMessage) error {
	_, err := parsePublicKey(teePubKey)
	return err
}

// Encrypt encrypts a resource to the TEE's public key, as a broker does.
//
// The protected header is written with its members sorted, at every level,
// because clients of Confidential Containers parse it and authenticate what they
// write again, not what they received.
func Encrypt(teePubKey json.RawMessage, plaintext []byte) (*Response, error) {
	pub, err := parsePublicKey(teePubKey)
	if err != nil {
		return nil, fmt.Errorf("encrypt to the TEE's key: %w", err)
	}
	cek := make([]byte, 32)
	rand.Read(cek)
	defer clear(cek)

	// A map is marshalled with its keys sorted.
	header := map[string]any{"enc": string(jose.A256GCM)}
	var wrapped []byte
	switch pub := pub.(type) {
	case *ecdsa.PublicKey:
		header["alg"] = ECDH
		wrapped, err = wrapECDH(pub, cek, header)
	case *rsa.PublicKey:
		header["alg"] = RSAOAEP
		wrapped, err = rsa.EncryptOAEP(sha256.New(), rand.Reader, pub, cek, nil)
	}
	if err != nil {
		return nil, fmt.Errorf("encrypt to the TEE's key: %w", err)
	}
	protected, err := json.Marshal(header)
	if err != nil {
		return nil, fmt.Errorf("encrypt to the TEE's key: %w", err)
	}
	block, err := aes.NewCipher(cek)
	if err != nil {
		return nil, fmt.Errorf("encrypt to the TEE's key: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("encrypt to the TEE's key: %w", err)
	}
	iv := make([]byte, aead.NonceSize())
	rand.Read(iv)
	aad := base64.RawURLEncoding.EncodeToString(protected)
	sealed := aead.Seal(nil, iv, plaintext, []byte(aad))
	tag := len(sealed) - aead.Overhead()
	return &Response{
		Protected:    aad,
		EncryptedKey: base64.RawURLEncoding.EncodeToString(wrapped),
		IV:           base64.RawURLEncoding.EncodeToString(iv),
		Ciphertext:   base64.RawURLEncoding.EncodeToString(sealed[:tag]),
		Tag:          base64.RawURLEncoding.EncodeToString(sealed[tag:]),
	}, nil
}

// wrapECDH wraps cek with ECDH-ES+A256KW and adds the ephemeral key to header.
func wrapECDH(pub *ecdsa.PublicKey, cek []byte, header map[string]any) ([]byte, error) {
	ephemeral, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	point, err := ephemeral.PublicKey.Bytes()
	if err != nil {
		return nil, err
	}
	header["epk"] = map[string]string{
		"kty": "EC",
		"crv": "P-256",
		"x":   base64.RawURLEncoding.EncodeToString(point[1:33]),
		"y":   base64.RawURLEncoding.EncodeToString(point[33:]),
	}
	kek := josecipher.DeriveECDHES(ECDH, nil, nil, ephemeral, pub, 32)
	defer clear(kek)
	block, err := aes.NewCipher(kek)
	if err != nil {
		return nil, err
	}
	return josecipher.KeyWrap(block, cek)
}

func parsePublicKey(raw json.RawMessage) (any, error) {
	var jwk jose.JSONWebKey
	if err := json.Unmarshal(raw, &jwk); err != nil {
		return nil, refusal.New(refusal.EvidenceMalformed, "tee-pubkey: %w", err)
	}
	switch pub := jwk.Key.(type) {
	case *ecdsa.PublicKey:
		if pub.Curve == elliptic.P256() && jwk.Algorithm == ECDH {
			return pub, nil
		}
	case *rsa.PublicKey:
		if bits := pub.N.BitLen(); bits >= 2048 && bits <= 8192 && jwk.Algorithm == RSAOAEP {
			return pub, nil
		}
	}
	return nil, refusal.New(refusal.EvidenceUnsupported,
		"tee-pubkey: alg %.32q: want a P-256 key with %s or an RSA key of 2048 to 8192 bits with %s", jwk.Algorithm, ECDH, RSAOAEP)
}

// teeKey is the ephemeral key pair of one client.
type teeKey struct {
	private   any             // *ecdsa.PrivateKey or *rsa.PrivateKey
	algorithm string          // ECDH or RSAOAEP
	public    json.RawMessage // PublicKey
}

func newTEEKey(algorithm string) (*teeKey, error) {
	key := &teeKey{algorithm: algorithm}
	jwk := PublicKey{Algorithm: algorithm}
	switch algorithm {
	case ECDH:
		private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, err
		}
		point, err := private.PublicKey.Bytes()
		if err != nil {
			return nil, err
		}
		key.private = private
		jwk.KeyType, jwk.Curve = "EC", "P-256"
		jwk.X = base64.RawURLEncoding.EncodeToString(point[1:33])
		jwk.Y = base64.RawURLEncoding.EncodeToString(point[33:])
	case RSAOAEP:
		private, err := rsa.GenerateKey(rand.Reader, 3072)
		if err != nil {
			return nil, err
		}
		key.private = private
		jwk.KeyType = "RSA"
		jwk.N = base64.RawURLEncoding.EncodeToString(private.N.Bytes())
		jwk.E = base64.RawURLEncoding.EncodeToString([]byte{byte(private.E >> 16), byte(private.E >> 8), byte(private.E)})
	default:
		return nil, fmt.Errorf("key algorithm %q: want %s or %s", algorithm, ECDH, RSAOAEP)
	}
	public, err := json.Marshal(jwk)
	key.public = public
	return key, err
}

// decrypt opens a resource. Everything that the sender could choose is fixed:
// the algorithms, and the header's members that go-jose does not know.
func (k *teeKey) decrypt(response *Response) ([]byte, error) {
	flattened, err := json.Marshal(response)
	if err != nil {
		return nil, err
	}
	jwe, err := jose.ParseEncryptedJSON(string(flattened),
		[]jose.KeyAlgorithm{jose.KeyAlgorithm(k.algorithm)}, []jose.ContentEncryption{jose.A256GCM})
	if err != nil {
		return nil, err
	}
	return jwe.Decrypt(k.private)
}

// erase overwrites the private key. It is a best effort: Go may have copied parts
// of it while computing with it.
func (k *teeKey) erase() {
	switch private := k.private.(type) {
	case *ecdsa.PrivateKey:
		//lint:ignore SA1019 there is no other way to overwrite it
		clear(private.D.Bits()) //nolint:staticcheck // as the line above says to staticcheck itself
	case *rsa.PrivateKey:
		clear(private.D.Bits())
		for _, prime := range private.Primes {
			clear(prime.Bits())
		}
	}
	k.private = nil
}
