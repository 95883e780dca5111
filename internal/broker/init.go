package broker

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/adyton-dev/adyton/attest/kbs"
	"github.com/adyton-dev/adyton/internal/broker/audit"
	"github.com/adyton-dev/adyton/internal/broker/owner"
	"github.com/adyton-dev/adyton/internal/broker/store"
	"github.com/adyton-dev/adyton/internal/broker/store/bolt"
	"github.com/adyton-dev/adyton/internal/broker/vault"
)

// The files of a broker's directory.
const (
	rootKeyFile = "rootkey.json"
	storeFile   = "broker.db"
	// KeyFile is where the root key's key file is unless another is named.
	KeyFile = "root.key"
	// AdminKeyFile is the administrator's private key.
	AdminKeyFile = "admin.key"
	// CertificateFile is the TLS certificate, for clients.
	CertificateFile = "tls.crt"
	// AuditKeyFile is the public key of the audit log's checkpoints.
	AuditKeyFile = "audit.pub"
	// StoreFile is the embedded store.
	StoreFile = storeFile
)

// The names of the broker's own keys in the store.
const (
	tokenKeyName = keyPrefix + "token" // PKCS #8, ECDSA P-256
	auditKeyName = keyPrefix + "audit" // auditRecord
	tlsKeyName   = keyPrefix + "tls"   // tlsRecord
	adminKeyName = keyPrefix + "admin" // Ed25519 public key
)

type tlsRecord struct {
	Certificate []byte `cbor:"1,keyasint"` // DER
	Key         []byte `cbor:"2,keyasint"` // PKCS #8
}

type auditRecord struct {
	Private string `cbor:"1,keyasint"` // note signer key
	Public  string `cbor:"2,keyasint"` // note verifier key
}

// certificateLifetime is of the self-signed certificate, which clients know by
// its key and not by its dates.
const certificateLifetime = 20 * 365 * 24 * time.Hour

// InitOptions configures Init.
type InitOptions struct {
	Protection vault.Protection
	// Means of the protection; a key file without a path is made in the directory.
	Means vault.Means
	// Hosts are the names and IP addresses in the TLS certificate.
	Hosts []string
}

// InitResult is what a new broker's operator needs to know.
type InitResult struct {
	// Pin is the SPKI pin of the TLS certificate.
	Pin string `json:"spki"`
	// AdminKey is the path of the administrator's private key.
	AdminKey string `json:"admin_key"`
	// AuditKey is the public key of the audit log's checkpoints (note verifier key).
	AuditKey   string           `json:"audit_key"`
	Protection vault.Protection `json:"protection"`
}

// Init makes a broker in dir, which must not exist or be empty. It is made beside
// and moved there when it is complete.
func Init(ctx context.Context, dir string, opts InitOptions) (*InitResult, error) {
	result, err := initialize(ctx, dir, opts)
	if err != nil {
		return nil, fmt.Errorf("make broker %s: %w", dir, err)
	}
	return result, nil
}

func initialize(ctx context.Context, dir string, opts InitOptions) (*InitResult, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if len(entries) > 0 {
		return nil, errors.New("the directory is not empty")
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return nil, err
	}
	// MkdirTemp makes it 0700.
	temp, err := os.MkdirTemp(filepath.Dir(dir), "."+filepath.Base(dir)+".init-")
	if err != nil {
		return nil, err
	}
	result, err := fill(ctx, temp, opts)
	if err == nil {
		err = os.Rename(temp, dir)
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(temp))
	}
	result.AdminKey = filepath.Join(dir, AdminKeyFile)
	return result, nil
}

// fill writes everything that a broker's directory holds.
func fill(ctx context.Context, dir string, opts InitOptions) (result *InitResult, err error) {
	if opts.Protection == vault.KeyFile && opts.Means.KeyFile == "" {
		opts.Means.KeyFile = filepath.Join(dir, KeyFile)
	}
	v, err := vault.Create(filepath.Join(dir, rootKeyFile), opts.Protection, opts.Means)
	if err != nil {
		return nil, err
	}
	s, err := bolt.Open(filepath.Join(dir, storeFile))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()

	keys, err := makeKeys(opts.Hosts)
	if err != nil {
		return nil, err
	}
	b := &Broker{store: s, vault: v}
	ops, err := keys.writes(b)
	if err != nil {
		return nil, err
	}
	signer, err := note.NewSigner(keys.audit.Private)
	if err != nil {
		return nil, fmt.Errorf("audit key: %w", err)
	}
	first := audit.Record{Event: audit.EventInit, Allowed: true, Detail: opts.Protection.Describe()}
	if err := audit.Create(ctx, s, signer, first, ops...); err != nil {
		return nil, err
	}
	adminPEM, err := owner.MarshalPrivateKey(keys.admin)
	if err != nil {
		return nil, err
	}
	for name, file := range map[string]struct {
		data []byte
		mode os.FileMode
	}{
		AdminKeyFile:    {adminPEM, 0o600},
		CertificateFile: {pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: keys.tls.Certificate}), 0o644},
		AuditKeyFile:    {[]byte(keys.audit.Public + "\n"), 0o644},
	} {
		if err := os.WriteFile(filepath.Join(dir, name), file.data, file.mode); err != nil {
			return nil, err
		}
	}
	leaf, err := x509.ParseCertificate(keys.tls.Certificate)
	if err != nil {
		return nil, fmt.Errorf("TLS certificate: %w", err)
	}
	return &InitResult{Pin: kbs.Pin(leaf), AuditKey: keys.audit.Public, Protection: opts.Protection}, nil
}

// ownKeys are the keys of a new broker.
type ownKeys struct {
	token []byte
	audit auditRecord
	tls   tlsRecord
	admin ed25519.PrivateKey
}

func makeKeys(hosts []string) (*ownKeys, error) {
	var k ownKeys
	tokenKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("token key: %w", err)
	}
	if k.token, err = x509.MarshalPKCS8PrivateKey(tokenKey); err != nil {
		return nil, fmt.Errorf("token key: %w", err)
	}
	id := make([]byte, 4)
	_, _ = rand.Read(id)
	if k.audit.Private, k.audit.Public, err = note.GenerateKey(rand.Reader, "adyton.dev/broker/"+hex.EncodeToString(id)); err != nil {
		return nil, fmt.Errorf("audit key: %w", err)
	}
	if _, k.admin, err = ed25519.GenerateKey(rand.Reader); err != nil {
		return nil, fmt.Errorf("administrator's key: %w", err)
	}
	if k.tls, err = selfSigned(hosts); err != nil {
		return nil, fmt.Errorf("TLS certificate: %w", err)
	}
	return &k, nil
}

// dnsName is what may stand in a certificate, with a wildcard as the first label.
var dnsName = regexp.MustCompile(`^(\*\.)?([A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.)*[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?$`)

func selfSigned(hosts []string) (tlsRecord, error) {
	for _, host := range hosts {
		if net.ParseIP(host) == nil && (!dnsName.MatchString(host) || len(host) > 253) {
			return tlsRecord{}, fmt.Errorf("host %q is neither a DNS name nor an IP address", host)
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tlsRecord{}, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return tlsRecord{}, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "adyton broker"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(certificateLifetime),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, h)
		}
	}
	var r tlsRecord
	if r.Certificate, err = x509.CreateCertificate(rand.Reader, template, template, key.Public(), key); err != nil {
		return tlsRecord{}, err
	}
	r.Key, err = x509.MarshalPKCS8PrivateKey(key)
	return r, err
}

// writes gives the sealed records of the keys.
func (k *ownKeys) writes(b *Broker) ([]store.Op, error) {
	token := stored[[]byte]{key: tokenKeyName, value: k.token}
	signer := stored[auditRecord]{key: auditKeyName, value: k.audit}
	cert := stored[tlsRecord]{key: tlsKeyName, value: k.tls}
	admin := stored[[]byte]{key: adminKeyName, value: k.admin.Public().(ed25519.PublicKey)}
	return b.writes(token.write, signer.write, cert.write, admin.write)
}

// loadKeys reads the broker's keys and gives the signer of the audit log.
func (b *Broker) loadKeys(ctx context.Context) (note.Signer, error) {
	token, err := load[[]byte](ctx, b, tokenKeyName)
	if err != nil {
		return nil, err
	}
	key, err := x509.ParsePKCS8PrivateKey(token.value)
	if err != nil {
		return nil, fmt.Errorf("token key: %w", err)
	}
	var ok bool
	if b.tokenKey, ok = key.(*ecdsa.PrivateKey); !ok {
		return nil, fmt.Errorf("token key: a %T", key)
	}

	cert, err := load[tlsRecord](ctx, b, tlsKeyName)
	if err != nil {
		return nil, err
	}
	b.tlsCert.Certificate = [][]byte{cert.value.Certificate}
	if b.tlsCert.PrivateKey, err = x509.ParsePKCS8PrivateKey(cert.value.Key); err != nil {
		return nil, fmt.Errorf("TLS key: %w", err)
	}
	if b.tlsCert.Leaf, err = x509.ParseCertificate(cert.value.Certificate); err != nil {
		return nil, fmt.Errorf("TLS certificate: %w", err)
	}

	auditKey, err := load[auditRecord](ctx, b, auditKeyName)
	if err != nil {
		return nil, err
	}
	signer, err := note.NewSigner(auditKey.value.Private)
	if err != nil {
		return nil, fmt.Errorf("audit key: %w", err)
	}
	if b.verifier, err = note.NewVerifier(auditKey.value.Public); err != nil {
		return nil, fmt.Errorf("audit key: %w", err)
	}
	return signer, nil
}

// AuditVerifier gives the key that checks the checkpoints of the broker in dir.
// Whoever does not trust the host keeps a copy of the file elsewhere.
func AuditVerifier(dir string) (note.Verifier, error) {
	data, err := os.ReadFile(filepath.Join(dir, AuditKeyFile))
	if err != nil {
		return nil, fmt.Errorf("audit key: %w", err)
	}
	return ParseAuditKey(string(data))
}

// ParseAuditKey reads the public key of an audit log's checkpoints.
func ParseAuditKey(text string) (note.Verifier, error) {
	v, err := note.NewVerifier(strings.TrimSpace(text))
	if err != nil {
		return nil, fmt.Errorf("audit key: %w", err)
	}
	return v, nil
}

// PinOf gives the SPKI pin of a certificate file.
func PinOf(path string) (string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("certificate: %w", err)
	}
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "CERTIFICATE" {
		return "", fmt.Errorf("%s: not a PEM certificate", path)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	return kbs.Pin(cert), nil
}
