package dcap

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Bounds on what is parsed as JSON. Intel's largest document has about 25 KB, 6
// levels and 16 members an object.
const (
	maxJSONSize    = 256 << 10
	maxJSONDepth   = 32
	maxJSONMembers = 64
)

// signedDocument is a document of the PCS: {"<name>":{…},"signature":"<hex>"}.
type signedDocument struct {
	// body is the exact bytes served for <name>, which the signature covers.
	body []byte
	// signature is r ‖ s.
	signature [64]byte
}

func parseSigned(document []byte, name string) (*signedDocument, error) {
	if len(document) > maxJSONSize {
		return nil, fmt.Errorf("has %d bytes, more than %d", len(document), maxJSONSize)
	}
	s := jsonScanner{rest: document}
	signed := new(signedDocument)
	var signature []byte
	err := s.object(1, func(key, value []byte) error {
		switch string(key) {
		case name:
			signed.body = value
		case "signature":
			signature = value
		default:
			return fmt.Errorf("unexpected member %q beside %q", key, name)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if s.space(); len(s.rest) != 0 {
		return nil, errors.New("more than one JSON value")
	}
	if signed.body == nil {
		return nil, fmt.Errorf("no member %q", name)
	}
	if len(signature) != 2+2*len(signed.signature) {
		return nil, errors.New("signature is not 128 hex digits")
	}
	if _, err := hex.Decode(signed.signature[:], signature[1:len(signature)-1]); err != nil {
		return nil, errors.New("signature is not 128 hex digits")
	}
	return signed, nil
}

func (d *signedDocument) verify(key *ecdsa.PublicKey) bool {
	return verifyP256(key, d.body, &d.signature)
}

// verifyP256 checks a signature r ‖ s over the SHA-256 of message.
func verifyP256(key *ecdsa.PublicKey, message []byte, signature *[64]byte) bool {
	digest := sha256.Sum256(message)
	var buffer [72]byte
	der := append(buffer[:0], 0x30, 0)
	der = appendDERInteger(der, signature[:32])
	der = appendDERInteger(der, signature[32:])
	der[1] = byte(len(der) - 2)
	return ecdsa.VerifyASN1(key, digest[:], der)
}

// appendDERInteger appends a non-negative big-endian integer.
func appendDERInteger(der, b []byte) []byte {
	for len(b) > 1 && b[0] == 0 {
		b = b[1:]
	}
	if b[0] >= 0x80 {
		der = append(der, 2, byte(len(b)+1), 0)
	} else {
		der = append(der, 2, byte(len(b)))
	}
	return append(der, b...)
}

// jsonScanner finds where JSON values begin and end, and refuses what
// encoding/json lets pass: depth without bound, duplicate keys, and keys that
// differ only in case, which encoding/json takes for the same field.
type jsonScanner struct{ rest []byte }

func (s *jsonScanner) space() { s.rest = bytes.TrimLeft(s.rest, " \t\r\n") }

// peek gives the next byte after white space, or 0 at the end.
func (s *jsonScanner) peek() byte {
	if len(s.rest) > 0 && s.rest[0] > ' ' {
		return s.rest[0]
	}
	s.space()
	if len(s.rest) == 0 {
		return 0
	}
	return s.rest[0]
}

func (s *jsonScanner) expect(c byte) error {
	if s.peek() != c {
		return fmt.Errorf("JSON: want %q before %.16q", c, s.rest)
	}
	s.rest = s.rest[1:]
	return nil
}

// object scans an object and shows each member's key, without quotes, and the
// value's exact bytes.
func (s *jsonScanner) object(depth int, member func(key, value []byte) error) error {
	if err := s.expect('{'); err != nil {
		return err
	}
	if s.peek() == '}' {
		s.rest = s.rest[1:]
		return nil
	}
	var buffer [maxJSONMembers][]byte
	keys := buffer[:0]
	for {
		key, err := s.key()
		if err != nil {
			return err
		}
		if len(keys) == maxJSONMembers {
			return fmt.Errorf("JSON: an object has more than %d members", maxJSONMembers)
		}
		for _, other := range keys {
			if len(key) == len(other) && bytes.EqualFold(key, other) {
				return fmt.Errorf("JSON: duplicate key %.40q", key)
			}
		}
		keys = append(keys, key)
		if err := s.expect(':'); err != nil {
			return err
		}
		s.space()
		start := s.rest
		if err := s.value(depth + 1); err != nil {
			return err
		}
		if member != nil {
			if err := member(key, start[:len(start)-len(s.rest)]); err != nil {
				return err
			}
		}
		if s.peek() != ',' {
			return s.expect('}')
		}
		s.rest = s.rest[1:]
	}
}

func (s *jsonScanner) array(depth int) error {
	if err := s.expect('['); err != nil {
		return err
	}
	if s.peek() == ']' {
		s.rest = s.rest[1:]
		return nil
	}
	for {
		if err := s.value(depth + 1); err != nil {
			return err
		}
		if s.peek() != ',' {
			return s.expect(']')
		}
		s.rest = s.rest[1:]
	}
}

func (s *jsonScanner) value(depth int) error {
	if depth > maxJSONDepth {
		return fmt.Errorf("JSON: deeper than %d levels", maxJSONDepth)
	}
	switch s.peek() {
	case '{':
		return s.object(depth, nil)
	case '[':
		return s.array(depth)
	case '"':
		return s.str()
	}
	// A number or a literal; encoding/json judges which.
	n := bytes.IndexAny(s.rest, ",]} \t\r\n")
	if n <= 0 {
		return errors.New("JSON: a value is missing or never ends")
	}
	s.rest = s.rest[n:]
	return nil
}

// key takes a key in printable ASCII without escapes: none of Intel's has any, and so
// one key has one spelling.
func (s *jsonScanner) key() ([]byte, error) {
	if s.peek() != '"' {
		return nil, fmt.Errorf("JSON: want a key before %.16q", s.rest)
	}
	start := s.rest
	if err := s.str(); err != nil {
		return nil, err
	}
	key := start[1 : len(start)-len(s.rest)-1]
	for _, c := range key {
		if c < ' ' || c > '~' || c == '\\' {
			return nil, fmt.Errorf("JSON: key %.40q is not plain ASCII", key)
		}
	}
	return key, nil
}

func (s *jsonScanner) str() error {
	for i := 1; i < len(s.rest); i++ {
		switch s.rest[i] {
		case '\\':
			i++
		case '"':
			s.rest = s.rest[i+1:]
			return nil
		}
	}
	return errors.New("JSON: a string never ends")
}

// decodeBody reads the body of a signed document that the scanner has accepted.
func decodeBody(body []byte, into any) error {
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("JSON: %w", err)
	}
	return nil
}

// hexField decodes a hex string of exactly the size of to.
func hexField(name, text string, to []byte) error {
	if len(text) != 2*len(to) {
		return fmt.Errorf("%s has %d hex digits, must have %d", name, len(text), 2*len(to))
	}
	if _, err := hex.Decode(to, []byte(text)); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// period is when a document or certificate is valid, both ends included.
type period struct{ from, until time.Time }

func (p period) check() error {
	if p.from.IsZero() || p.until.IsZero() || p.until.Before(p.from) {
		return errors.New("issueDate and nextUpdate are not both given in order")
	}
	return nil
}
