// Package vault keeps the broker's records sealed at rest.
//
// A record is AES-256-GCM (Tink) under the root key, bound to the key that it is
// stored under and to its version, so that records cannot be exchanged for one
// another. The root key itself is stored wrapped: see rootkey.go for by what. The
// package imports Tink and x/crypto and nothing of the project.
//
// What it cannot show is that the host put back an older state of the store. A
// release that rests on a single old record shows when the audit log is verified;
// that all of the store is old, log included, shows against a checkpoint that was
// kept elsewhere.
package vault

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/tink-crypto/tink-go/v2/aead/subtle"
)

// ErrDamaged: a sealed record was changed, or was sealed for another place or by
// another broker.
var ErrDamaged = errors.New("the sealed record was changed or belongs elsewhere")

// A sealed record is a format byte, the version (8 bytes, big-endian), and Tink's
// AES-GCM ciphertext: a nonce of 12 bytes, the encrypted bytes, a tag of 16 bytes.
const (
	format     = 1
	headerSize = 9
)

// Overhead is how much longer a sealed record is than its plaintext, in bytes.
const Overhead = headerSize + 12 + 16

// Vault seals and opens records. It may be used concurrently.
type Vault struct{ aead *subtle.AESGCM }

func newVault(rootKey []byte) (*Vault, error) {
	aead, err := subtle.NewAESGCM(rootKey)
	if err != nil {
		return nil, fmt.Errorf("root key: %w", err)
	}
	return &Vault{aead: aead}, nil
}

// Seal encrypts a record that is to be stored under key as the given version.
func (v *Vault) Seal(key string, version int64, plaintext []byte) ([]byte, error) {
	sealed, err := v.aead.Encrypt(plaintext, associatedData(key, version))
	if err != nil {
		return nil, fmt.Errorf("seal %s: %w", key, err)
	}
	out := binary.BigEndian.AppendUint64(append(make([]byte, 0, headerSize+len(sealed)), format), uint64(version))
	return append(out, sealed...), nil
}

// Open decrypts a record that is stored under key and gives its version, or
// ErrDamaged.
func (v *Vault) Open(key string, record []byte) (plaintext []byte, version int64, err error) {
	if len(record) < headerSize || record[0] != format {
		return nil, 0, fmt.Errorf("open %s: %w", key, ErrDamaged)
	}
	version = int64(binary.BigEndian.Uint64(record[1:]))
	plaintext, err = v.aead.Decrypt(record[headerSize:], associatedData(key, version))
	if err != nil {
		return nil, 0, fmt.Errorf("open %s: %w", key, ErrDamaged)
	}
	return plaintext, version, nil
}

func associatedData(key string, version int64) []byte {
	return binary.BigEndian.AppendUint64([]byte("adyton broker record\x00"+key+"\x00"), uint64(version))
}
