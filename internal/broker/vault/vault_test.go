package vault_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/adyton-dev/adyton/internal/broker/vault"
)

func passphrase(p string) func() ([]byte, error) {
	return func() ([]byte, error) { return []byte(p), nil }
}

// enclave makes the sealing keys of an enclave.
func enclave(t *testing.T, fill byte) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "keys"), 0o700); err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{"_sgx_mrsigner", "_sgx_mrenclave"} {
		if err := os.WriteFile(filepath.Join(dir, "keys", name), bytes.Repeat([]byte{fill + byte(i)}, 16), 0o400); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestTheRootKeyOpensOnlyByItsOwnMeans(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	keyA, keyB := filepath.Join(dir, "a.key"), filepath.Join(dir, "b.key")
	if err := os.WriteFile(keyB, []byte(strings.Repeat("ab", 32)), 0o600); err != nil {
		t.Fatal(err)
	}
	for p, m := range map[vault.Protection]struct{ right, wrong vault.Means }{
		vault.KeyFile:      {vault.Means{KeyFile: keyA}, vault.Means{KeyFile: keyB}},
		vault.Passphrase:   {vault.Means{Passphrase: passphrase("right")}, vault.Means{Passphrase: passphrase("wrong")}},
		vault.SGXMRSIGNER:  {vault.Means{AttestationDir: enclave(t, 1)}, vault.Means{AttestationDir: enclave(t, 7)}},
		vault.SGXMRENCLAVE: {vault.Means{AttestationDir: enclave(t, 2)}, vault.Means{AttestationDir: enclave(t, 1)}},
	} {
		t.Run(string(p), func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "rootkey.json")
			v, err := vault.Create(path, p, m.right)
			if err != nil {
				t.Fatal(err)
			}
			sealed, err := v.Seal("k", 1, []byte("secret"))
			if err != nil {
				t.Fatal(err)
			}
			again, got, err := vault.Open(path, m.right)
			if err != nil || got != p {
				t.Fatalf("%v, %v", got, err)
			}
			if plain, version, err := again.Open("k", sealed); err != nil || string(plain) != "secret" || version != 1 {
				t.Errorf("%q, %d, %v", plain, version, err)
			}
			if _, _, err := vault.Open(path, m.wrong); !errors.Is(err, vault.ErrWrongKey) {
				t.Errorf("got %v, want ErrWrongKey", err)
			}
			if data, _ := os.ReadFile(path); bytes.Contains(data, []byte("right")) {
				t.Error("the passphrase is in the file")
			}
			if _, _, err := vault.Open(path, vault.Means{AttestationDir: t.TempDir()}); err == nil || errors.Is(err, vault.ErrWrongKey) {
				t.Errorf("without means: %v", err)
			}
		})
	}
}

func TestAKeyFileMustBePrivate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	m := vault.Means{KeyFile: filepath.Join(dir, "root.key")}
	if _, err := vault.Create(filepath.Join(dir, "rootkey.json"), vault.KeyFile, m); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(m.KeyFile, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, _, err := vault.Open(filepath.Join(dir, "rootkey.json"), m); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("got %v", err)
	}
}

func TestASealedRecordOpensOnlyWhereItBelongs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	v, err := vault.Create(filepath.Join(dir, "rootkey.json"), vault.KeyFile, vault.Means{KeyFile: filepath.Join(dir, "root.key")})
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := v.Seal("resource/a", 3, []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(sealed, []byte("secret")) || len(sealed) != len("secret")+vault.Overhead {
		t.Errorf("sealed as %q", sealed)
	}
	if _, _, err := v.Open("resource/b", sealed); !errors.Is(err, vault.ErrDamaged) {
		t.Errorf("under another key: %v", err)
	}
	for i := range sealed {
		changed := bytes.Clone(sealed)
		changed[i] ^= 1
		if _, _, err := v.Open("resource/a", changed); !errors.Is(err, vault.ErrDamaged) {
			t.Errorf("byte %d changed: %v", i, err)
		}
		if _, _, err := v.Open("resource/a", sealed[:i]); !errors.Is(err, vault.ErrDamaged) {
			t.Errorf("cut to %d bytes: %v", i, err)
		}
	}
}
