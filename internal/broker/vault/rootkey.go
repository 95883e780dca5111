package vault

import (
	"bytes"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"
	"github.com/tink-crypto/tink-go/v2/aead/subtle"
	"golang.org/x/crypto/argon2"
)

// Protection says what wraps the root key.
type Protection string

// The protections.
const (
	// SGXMRSIGNER and SGXMRENCLAVE: a sealing key of the enclave that the broker
	// runs in. By MRSIGNER a newer broker of the same signer opens it, by
	// MRENCLAVE only the very same broker on the very same machine.
	SGXMRSIGNER  Protection = "sgx-mrsigner"
	SGXMRENCLAVE Protection = "sgx-mrenclave"
	// Passphrase: a passphrase that the operator gives at every start.
	Passphrase Protection = "passphrase"
	// KeyFile: a file with a key.
	KeyFile Protection = "key-file"
)

// Describe says in plain words what a protection protects from.
func (p Protection) Describe() string {
	switch p {
	case SGXMRSIGNER:
		return "the root key is sealed to the signer of the broker's enclave: the host cannot open it"
	case SGXMRENCLAVE:
		return "the root key is sealed to the broker's own enclave: the host cannot open it"
	case Passphrase:
		return "the root key is wrapped by a passphrase: the broker's files are safe at rest, but the broker runs outside a TEE and the host's administrator can read its memory"
	case KeyFile:
		return "the root key is wrapped by a key file: whoever reads that file and the broker's directory opens every resource"
	default:
		return "unknown protection " + string(p)
	}
}

// Means is how the root key can be unwrapped; only what the protection needs is
// used.
type Means struct {
	// AttestationDir is Gramine's /dev/attestation.
	AttestationDir string
	// Passphrase gives the passphrase.
	Passphrase func() ([]byte, error)
	// KeyFile is a file of 64 hex digits and mode 0600. Create makes it if there
	// is none.
	KeyFile string
}

// ErrWrongKey: what was given does not unwrap the root key.
var ErrWrongKey = errors.New("it does not open this broker's root key")

// argon2id's cost (RFC 9106 §4, second recommended option).
const (
	argonTime    = 3
	argonMemory  = 64 << 10 // KiB
	argonThreads = 4
)

const keySize = 32

// wrapped is the root key file.
type wrapped struct {
	Protection Protection `json:"protection"`
	// Salt is of HKDF-SHA256 or, for a passphrase, of argon2id.
	Salt []byte `json:"salt"`
	// Key is the root key, encrypted by AES-256-GCM (Tink) with the protection's
	// name as associated data.
	Key []byte `json:"key"`
}

// Create makes a root key, writes it to path wrapped, and gives its vault.
func Create(path string, p Protection, m Means) (*Vault, error) {
	if p == KeyFile {
		if err := makeKeyFile(m.KeyFile); err != nil {
			return nil, err
		}
	}
	w := wrapped{Protection: p, Salt: make([]byte, keySize)}
	rootKey := make([]byte, keySize)
	// crypto/rand.Read never fails (Go 1.24).
	_, _ = rand.Read(w.Salt)
	_, _ = rand.Read(rootKey)
	kek, err := w.wrappingKey(m)
	if err != nil {
		return nil, err
	}
	if w.Key, err = kek.Encrypt(rootKey, []byte(p)); err != nil {
		return nil, fmt.Errorf("wrap root key: %w", err)
	}
	data, err := json.MarshalIndent(w, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("wrap root key: %w", err)
	}
	if err := renameio.WriteFile(path, append(data, '\n'), 0o600); err != nil {
		return nil, fmt.Errorf("write root key: %w", err)
	}
	return newVault(rootKey)
}

// Open unwraps the root key in path. It gives ErrWrongKey if the means are not
// those that it was wrapped by.
func Open(path string, m Means) (*Vault, Protection, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, "", fmt.Errorf("read root key: %w", err)
	}
	var w wrapped
	if err := json.Unmarshal(data, &w); err != nil {
		return nil, "", fmt.Errorf("root key %s: %w", path, err)
	}
	kek, err := w.wrappingKey(m)
	if err != nil {
		return nil, "", err
	}
	rootKey, err := kek.Decrypt(w.Key, []byte(w.Protection))
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w", w.source(m), ErrWrongKey)
	}
	v, err := newVault(rootKey)
	return v, w.Protection, err
}

// source names what was given, for an error.
func (w *wrapped) source(m Means) string {
	switch w.Protection {
	case Passphrase:
		return "the passphrase is wrong"
	case KeyFile:
		return "root key file " + m.KeyFile
	default:
		return "this enclave's sealing key (" + string(w.Protection) + ")"
	}
}

// wrappingKey derives the key that wraps the root key.
func (w *wrapped) wrappingKey(m Means) (*subtle.AESGCM, error) {
	var key []byte
	switch w.Protection {
	case SGXMRSIGNER, SGXMRENCLAVE:
		secret, err := sealingKey(m.AttestationDir, w.Protection)
		if err != nil {
			return nil, err
		}
		if key, err = hkdf.Key(sha256.New, secret, w.Salt, "adyton broker root key", keySize); err != nil {
			return nil, fmt.Errorf("derive wrapping key: %w", err)
		}
	case Passphrase:
		if m.Passphrase == nil {
			return nil, errors.New("the root key is wrapped by a passphrase: give it with --passphrase-file")
		}
		passphrase, err := m.Passphrase()
		if err != nil {
			return nil, fmt.Errorf("passphrase: %w", err)
		}
		if len(passphrase) == 0 {
			return nil, errors.New("passphrase: it is empty")
		}
		key = argon2.IDKey(passphrase, w.Salt, argonTime, argonMemory, argonThreads, keySize)
		clear(passphrase)
	case KeyFile:
		secret, err := readKeyFile(m.KeyFile)
		if err != nil {
			return nil, err
		}
		if key, err = hkdf.Key(sha256.New, secret, w.Salt, "adyton broker root key", keySize); err != nil {
			return nil, fmt.Errorf("derive wrapping key: %w", err)
		}
	default:
		return nil, fmt.Errorf("the root key is wrapped by %q, which this version does not know", w.Protection)
	}
	return subtle.NewAESGCM(key)
}

// sealingKey reads a sealing key of the enclave, 16 bytes (Gramine's
// keys/_sgx_mrsigner and keys/_sgx_mrenclave).
func sealingKey(dir string, p Protection) ([]byte, error) {
	name := "_sgx_mrsigner"
	if p == SGXMRENCLAVE {
		name = "_sgx_mrenclave"
	}
	key, err := os.ReadFile(filepath.Join(dir, "keys", name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("the root key is to be sealed to the broker's enclave, but there is none: %w", err)
	}
	if err != nil {
		return nil, fmt.Errorf("sealing key: %w", err)
	}
	if len(key) != 16 {
		return nil, fmt.Errorf("sealing key: %d bytes, want 16", len(key))
	}
	return key, nil
}

// InEnclave reports whether dir offers sealing keys.
func InEnclave(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "keys", "_sgx_mrsigner"))
	return err == nil
}

func makeKeyFile(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("make root key file: %w", err)
	}
	key := make([]byte, keySize)
	_, _ = rand.Read(key)
	_, err = f.WriteString(hex.EncodeToString(key) + "\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("make root key file: %w", errors.Join(err, os.Remove(path)))
	}
	return nil
}

func readKeyFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("root key file: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("root key file %s is readable by others; run chmod 600 %s", path, path)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("root key file: %w", err)
	}
	key, err := hex.DecodeString(string(bytes.TrimSpace(data)))
	if err != nil || len(key) != keySize {
		return nil, fmt.Errorf("root key file %s: want %d hex digits", path, 2*keySize)
	}
	return key, nil
}
