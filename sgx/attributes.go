package sgx

import (
	"fmt"
	"strings"
)

// AttributeFlags is the first half of ATTRIBUTES (SDM "ATTRIBUTES").
type AttributeFlags uint64

// The attribute bits.
const (
	AttributeInit          AttributeFlags = 1 << 0  // set by EINIT
	AttributeDebug         AttributeFlags = 1 << 1  // the host may read and write the enclave
	AttributeMode64Bit     AttributeFlags = 1 << 2  // runs in 64-bit mode
	AttributeProvisionKey  AttributeFlags = 1 << 4  // may get the provisioning keys
	AttributeEINITTokenKey AttributeFlags = 1 << 5  // may get the EINIT token key
	AttributeCET           AttributeFlags = 1 << 6  // CET is enabled
	AttributeKSS           AttributeFlags = 1 << 7  // key separation and sharing
	AttributeAEXNotify     AttributeFlags = 1 << 10 // AEX-Notify is enabled
)

// AttributeFlagsDefined is the set of attribute bits that the architecture defines.
const AttributeFlagsDefined = AttributeInit | AttributeDebug | AttributeMode64Bit | AttributeProvisionKey |
	AttributeEINITTokenKey | AttributeCET | AttributeKSS | AttributeAEXNotify

// String names the bits that are set, joined by "|"; bits without a name are in
// hexadecimal.
func (f AttributeFlags) String() string {
	named := []struct {
		bit  AttributeFlags
		name string
	}{
		{AttributeInit, "INIT"}, {AttributeDebug, "DEBUG"}, {AttributeMode64Bit, "MODE64BIT"},
		{AttributeProvisionKey, "PROVISIONKEY"}, {AttributeEINITTokenKey, "EINITTOKEN_KEY"},
		{AttributeCET, "CET"}, {AttributeKSS, "KSS"}, {AttributeAEXNotify, "AEXNOTIFY"},
	}
	var parts []string
	for _, n := range named {
		if f&n.bit != 0 {
			parts = append(parts, n.name)
			f &^= n.bit
		}
	}
	if f != 0 || len(parts) == 0 {
		parts = append(parts, fmt.Sprintf("%#x", uint64(f)))
	}
	return strings.Join(parts, "|")
}

// AttributesSize is the size of ATTRIBUTES in bytes.
const AttributesSize = 16

// Attributes is ATTRIBUTES: flags (8 bytes) and the XSAVE features that the
// enclave uses, XFRM (8 bytes, bits as in XCR0).
type Attributes struct {
	Flags AttributeFlags
	XFRM  uint64
}

// And gives the attributes under a mask.
func (a Attributes) And(mask Attributes) Attributes {
	return Attributes{Flags: a.Flags & mask.Flags, XFRM: a.XFRM & mask.XFRM}
}

// ParseAttributes reads the 16 bytes of ATTRIBUTES. Undefined bits are kept.
func ParseAttributes(b []byte) (Attributes, error) {
	if err := checkSize("ATTRIBUTES", b, AttributesSize); err != nil {
		return Attributes{}, err
	}
	return attributesAt(b, 0), nil
}

// Bytes gives the 16 bytes of ATTRIBUTES.
func (a Attributes) Bytes() []byte {
	b := make([]byte, AttributesSize)
	a.put(b, 0)
	return b
}

func attributesAt(b []byte, offset int) Attributes {
	return Attributes{Flags: AttributeFlags(le.Uint64(b[offset:])), XFRM: le.Uint64(b[offset+8:])}
}

func (a Attributes) put(b []byte, offset int) {
	le.PutUint64(b[offset:], uint64(a.Flags))
	le.PutUint64(b[offset+8:], a.XFRM)
}

// The XFRM bits that every enclave has: x87 and SSE.
const XFRMLegacy uint64 = 3

// The MISCSELECT bits (SDM "SECS.MISCSELECT Field").
const (
	MiscSelectEXINFO uint32 = 1 << 0 // report #PF and #GP in the SSA's MISC region
	MiscSelectCPINFO uint32 = 1 << 1 // report #CP in the SSA's MISC region
)
