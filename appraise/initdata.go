package appraise

import (
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/json"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"github.com/adyton-dev/adyton/refusal"
)

// MaxInitData bounds an init-data document, in bytes.
const MaxInitData = 128 << 10

// InitData is a parsed init-data document: what the host tells a TEE at launch
// and the evidence binds (Confidential Containers, "Initdata Specification").
//
//	version = "0.1.0"
//	algorithm = "sha384"
//	[data]
//	sandbox = "gvisor"
type InitData struct {
	// Data is the [data] table; see [Claims].InitData.
	Data map[string]any

	// digest of the document's exact bytes, 32, 48 or 64 bytes.
	digest []byte
}

// ParseInitData parses a document in TOML. The refusal is EvidenceMalformed.
func ParseInitData(document []byte) (*InitData, error) {
	if len(document) > MaxInitData {
		return nil, refusal.New(refusal.EvidenceMalformed, "init-data has %d bytes, more than %d", len(document), MaxInitData)
	}
	var parsed struct {
		Version   string            `toml:"version"`
		Algorithm string            `toml:"algorithm"`
		Data      map[string]string `toml:"data"`
	}
	if err := toml.Unmarshal(document, &parsed); err != nil {
		return nil, refusal.New(refusal.EvidenceMalformed, "init-data: %w", err)
	}
	if parsed.Version != "0.1.0" {
		return nil, refusal.New(refusal.EvidenceUnsupported, "init-data: version %.32q, want 0.1.0", parsed.Version)
	}
	initData := &InitData{Data: make(map[string]any, len(parsed.Data))}
	// The specification writes both sha-384 and sha384.
	switch strings.Replace(parsed.Algorithm, "sha-", "sha", 1) {
	case "sha256":
		sum := sha256.Sum256(document)
		initData.digest = sum[:]
	case "sha384":
		sum := sha512.Sum384(document)
		initData.digest = sum[:]
	case "sha512":
		sum := sha512.Sum512(document)
		initData.digest = sum[:]
	default:
		return nil, refusal.New(refusal.EvidenceUnsupported, "init-data: algorithm %.32q, want sha256, sha384 or sha512", parsed.Algorithm)
	}
	for key, value := range parsed.Data {
		initData.Data[key] = structured(key, value)
	}
	return initData, nil
}

// Bind gives the digest as a field of size bytes holds it: left-aligned and
// zero-padded, or cut if the field is shorter. CONFIGID has 64 bytes, MRCONFIGID
// 48 and HOST_DATA 32.
func (d *InitData) Bind(size int) []byte {
	field := make([]byte, size)
	copy(field, d.digest)
	return field
}

// check compares the digest with the field of the report that binds it.
func (d *InitData) check(field []byte, name string) error {
	want := d.Bind(len(field))
	if subtle.ConstantTimeCompare(field, want) != 1 {
		return refusal.New(refusal.InitDataMismatch, "%s is %x, the init-data shown has the digest %x", name, field, want)
	}
	return nil
}

// structured parses a value whose key says what it is. A value that does not
// parse stays a string: the document is bound as a whole, and policy sees it.
func structured(key, value string) any {
	var object map[string]any
	switch {
	case strings.HasSuffix(key, ".json"):
		if json.Unmarshal([]byte(value), &object) == nil {
			return object
		}
	case strings.HasSuffix(key, ".toml"):
		if toml.Unmarshal([]byte(value), &object) == nil {
			return object
		}
	}
	return value
}
