package sgx_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/adyton-dev/adyton/sgx"
)

// structure is one of the fixed-size structures: its parser gives a value that
// re-encodes. The size and the reserved bytes are those of the SDM's tables.
type structure struct {
	name     string
	size     int
	reserved [][2]int
	parse    func([]byte) (encoder, error)
}

type encoder interface{ Bytes() []byte }

func structures() []structure {
	return []structure{
		{"SECS", 4096, [][2]int{{33, 48}, {96, 128}, {160, 192}, {262, 4096}}, parser(sgx.ParseSECS)},
		{"TCS", 4096, [][2]int{{88, 4096}}, parser(sgx.ParseTCS)},
		{"SECINFO", 64, [][2]int{{8, 64}}, parser(sgx.ParseSecInfo)},
		{"PAGEINFO", 32, nil, parser(sgx.ParsePageInfo)},
		{"TARGETINFO", 512, [][2]int{{49, 50}, {56, 64}, {128, 512}}, parser(sgx.ParseTargetInfo)},
		{"REPORT body", 384, [][2]int{{21, 32}, {96, 128}, {160, 192}, {262, 304}}, parser(sgx.ParseReportBody)},
		{"REPORT", 432, [][2]int{{21, 32}, {96, 128}, {160, 192}, {262, 304}}, parser(sgx.ParseReport)},
		{"KEYREQUEST", 512, [][2]int{{7, 8}, {78, 512}}, parser(sgx.ParseKeyRequest)},
		{"ATTRIBUTES", 16, nil, parser(sgx.ParseAttributes)},
	}
}

func parser[T encoder](parse func([]byte) (T, error)) func([]byte) (encoder, error) {
	return func(b []byte) (encoder, error) { return parse(b) }
}

// counted gives bytes that are all different from their neighbours and not zero,
// but for the reserved ones.
func counted(s structure) []byte {
	b := make([]byte, s.size)
	for i := range b {
		b[i] = byte(i%255) + 1
	}
	for _, r := range s.reserved {
		clear(b[r[0]:r[1]])
	}
	return b
}

func TestEveryStructureReencodesToTheSameBytes(t *testing.T) {
	t.Parallel()
	for _, s := range structures() {
		raw := counted(s)
		parsed, err := s.parse(raw)
		if err != nil {
			t.Errorf("%s: %v", s.name, err)
			continue
		}
		if !bytes.Equal(parsed.Bytes(), raw) {
			t.Errorf("%s: re-encoding gives other bytes", s.name)
		}
	}
}

func TestReservedBytesMustBeZero(t *testing.T) {
	t.Parallel()
	for _, s := range structures() {
		for _, r := range s.reserved {
			for offset := r[0]; offset < r[1]; offset++ {
				raw := counted(s)
				raw[offset] = 1
				_, err := s.parse(raw)
				if want := fmt.Sprintf("offset %d", offset); err == nil || !strings.HasSuffix(err.Error(), want) {
					t.Errorf("%s: got %v, want an error that ends in %q", s.name, err, want)
				}
			}
		}
	}
}

func TestAWrongSizeIsRefused(t *testing.T) {
	t.Parallel()
	for _, s := range structures() {
		raw := counted(s)
		for _, wrong := range [][]byte{nil, raw[:s.size-1], append(raw, 0)} {
			if _, err := s.parse(wrong); err == nil {
				t.Errorf("%s: %d bytes accepted", s.name, len(wrong))
			}
		}
	}
	for _, size := range []int{0, sgx.SigStructSize - 1, sgx.SigStructSize + 1} {
		if _, err := sgx.ParseSigStruct(make([]byte, size)); err == nil {
			t.Errorf("SIGSTRUCT: %d bytes accepted", size)
		}
	}
}

// The golden file has every field as decoded from bytes that count up, so each
// field's offset and width is pinned.
func TestFieldOffsetsGolden(t *testing.T) {
	t.Parallel()
	decoded := map[string]any{}
	for _, s := range structures() {
		parsed, err := s.parse(counted(s))
		if err != nil {
			t.Fatal(err)
		}
		decoded[s.name] = fields(reflect.Indirect(reflect.ValueOf(parsed)))
	}
	got, err := json.MarshalIndent(decoded, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(filepath.Join("testdata", "offsets.golden"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	if string(got)+"\n" != string(want) {
		t.Errorf("got\n%s", got)
	}
}

// fields gives a structure's fields with integers in hexadecimal and of arrays the
// first and the last byte.
func fields(v reflect.Value) any {
	switch v.Kind() {
	case reflect.Struct:
		all := map[string]any{}
		for i := range v.NumField() {
			all[v.Type().Field(i).Name] = fields(v.Field(i))
		}
		return all
	case reflect.Array:
		return fmt.Sprintf("%02x…%02x", v.Index(0).Uint(), v.Index(v.Len()-1).Uint())
	default:
		return fmt.Sprintf("%#x", v.Uint())
	}
}

func TestMeasurementText(t *testing.T) {
	t.Parallel()
	const digits = "9e197c8837c6d65632dbdd59cd7df4f1a25b68d8e4e5eb6ca3b20b05311fecb8"
	var m sgx.Measurement
	for _, text := range []string{digits, strings.ToUpper(digits)} {
		if err := m.UnmarshalText([]byte(text)); err != nil {
			t.Fatal(err)
		}
		if got, err := m.MarshalText(); err != nil || string(got) != digits || m.String() != digits {
			t.Errorf("got %s, %v", got, err)
		}
	}
	before := m
	for _, text := range []string{"", digits[1:], digits + "0", "x" + digits[1:]} {
		if err := m.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q accepted", text)
		}
	}
	if m != before {
		t.Error("a failed decoding changed the measurement")
	}
}

func TestAttributeFlagsAreNamed(t *testing.T) {
	t.Parallel()
	for flags, want := range map[sgx.AttributeFlags]string{
		0:                            "0x0",
		sgx.AttributeDebug:           "DEBUG",
		sgx.AttributeFlagsDefined:    "INIT|DEBUG|MODE64BIT|PROVISIONKEY|EINITTOKEN_KEY|CET|KSS|AEXNOTIFY",
		sgx.AttributeInit | 1<<3:     "INIT|0x8",
		sgx.AttributeFlags(1 << 63):  "0x8000000000000000",
		sgx.AttributeKSS | 1<<9 | 01: "INIT|KSS|0x200",
	} {
		if got := flags.String(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
