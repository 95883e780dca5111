package sgx

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
)

// GenerateKey makes an enclave signing key: RSA-3072 with exponent 3. Package
// crypto/rsa makes only keys with exponent 65537, hence this function; it needs
// primes p with p mod 3 = 2, so that 3 has an inverse modulo p-1.
func GenerateKey(random io.Reader) (*rsa.PrivateKey, error) {
	three := big.NewInt(3)
	prime := func() (*big.Int, error) {
		for {
			p, err := rand.Prime(random, 8*sigStructKeySize/2)
			if err != nil {
				return nil, fmt.Errorf("find a prime: %w", err)
			}
			if new(big.Int).Mod(p, three).Int64() == 2 {
				return p, nil
			}
		}
	}
	for {
		p, err := prime()
		if err != nil {
			return nil, err
		}
		q, err := prime()
		if err != nil {
			return nil, err
		}
		n := new(big.Int).Mul(p, q)
		// FIPS 186-5, A.1.3: |p-q| > 2^(nlen/2 - 100).
		distance := new(big.Int).Sub(p, q)
		if n.BitLen() != 8*sigStructKeySize || distance.BitLen() <= 8*sigStructKeySize/2-100 {
			continue
		}
		one := big.NewInt(1)
		p1, q1 := new(big.Int).Sub(p, one), new(big.Int).Sub(q, one)
		// d is the inverse modulo lcm(p-1, q-1), as FIPS 186-5 asks.
		lcm := new(big.Int).Div(new(big.Int).Mul(p1, q1), new(big.Int).GCD(nil, nil, p1, q1))
		key := &rsa.PrivateKey{
			PublicKey: rsa.PublicKey{N: n, E: 3},
			D:         new(big.Int).ModInverse(three, lcm),
			Primes:    []*big.Int{p, q},
		}
		key.Precompute()
		if err := key.Validate(); err != nil {
			return nil, fmt.Errorf("check the new key: %w", err)
		}
		return key, nil
	}
}

// ParseKeyPEM reads an RSA private key in PEM, PKCS #1 or PKCS #8, unencrypted.
func ParseKeyPEM(text []byte) (*rsa.PrivateKey, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("signing key: not PEM")
	}
	if block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["DEK-Info"] != "" {
		return nil, errors.New("signing key: it is encrypted; decrypt it first (openssl pkey)")
	}
	switch block.Type {
	case "RSA PRIVATE KEY":
		key, err := x509.ParsePKCS1PrivateKey(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("signing key: %w", err)
		}
		return key, nil
	case "PRIVATE KEY":
		parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("signing key: %w", err)
		}
		key, ok := parsed.(*rsa.PrivateKey)
		if !ok {
			return nil, fmt.Errorf("signing key is %T, want RSA", parsed)
		}
		return key, nil
	default:
		return nil, fmt.Errorf("signing key: PEM block is %q, want RSA PRIVATE KEY or PRIVATE KEY", block.Type)
	}
}

// MarshalKeyPEM gives the key as PEM, PKCS #8.
func MarshalKeyPEM(key *rsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode signing key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}
