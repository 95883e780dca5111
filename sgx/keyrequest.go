package sgx

// KeyName says which key EGETKEY derives (SDM "KEYREQUEST KEYNAME Field").
type KeyName uint16

// The key names.
const (
	KeyNameEINITToken    KeyName = 0
	KeyNameProvision     KeyName = 1
	KeyNameProvisionSeal KeyName = 2
	KeyNameReport        KeyName = 3
	KeyNameSeal          KeyName = 4
)

// KeyPolicy says what a seal key is bound to (SDM "KEYREQUEST KEYPOLICY Field").
type KeyPolicy uint16

// The key policy bits. All but the first two need AttributeKSS.
const (
	KeyPolicyMRENCLAVE    KeyPolicy = 1 << 0
	KeyPolicyMRSIGNER     KeyPolicy = 1 << 1
	KeyPolicyNoISVProdID  KeyPolicy = 1 << 2
	KeyPolicyConfigID     KeyPolicy = 1 << 3
	KeyPolicyISVFamilyID  KeyPolicy = 1 << 4
	KeyPolicyISVExtProdID KeyPolicy = 1 << 5
)

// KeyPolicyDefined is the set of key policy bits that the architecture defines.
const KeyPolicyDefined = KeyPolicyMRENCLAVE | KeyPolicyMRSIGNER | KeyPolicyNoISVProdID |
	KeyPolicyConfigID | KeyPolicyISVFamilyID | KeyPolicyISVExtProdID

// KeyRequestSize is the size of KEYREQUEST in bytes.
const KeyRequestSize = 512

// KeyRequest is KEYREQUEST: what an enclave asks of EGETKEY.
type KeyRequest struct {
	KeyName           KeyName
	KeyPolicy         KeyPolicy
	ISVSVN            uint16
	CETAttributesMask byte
	CPUSVN            CPUSVN
	AttributeMask     Attributes
	KeyID             [32]byte
	MiscMask          uint32
	ConfigSVN         uint16
}

// ParseKeyRequest reads the 512 bytes of KEYREQUEST.
func ParseKeyRequest(b []byte) (*KeyRequest, error) {
	if err := checkSize("KEYREQUEST", b, KeyRequestSize); err != nil {
		return nil, err
	}
	if err := checkReserved("KEYREQUEST", b, [2]int{7, 8}, [2]int{78, 512}); err != nil {
		return nil, err
	}
	return &KeyRequest{
		KeyName:           KeyName(le.Uint16(b[0:])),
		KeyPolicy:         KeyPolicy(le.Uint16(b[2:])),
		ISVSVN:            le.Uint16(b[4:]),
		CETAttributesMask: b[6],
		CPUSVN:            CPUSVN(b[8:24]),
		AttributeMask:     attributesAt(b, 24),
		KeyID:             [32]byte(b[40:72]),
		MiscMask:          le.Uint32(b[72:]),
		ConfigSVN:         le.Uint16(b[76:]),
	}, nil
}

// Bytes gives the 512 bytes of KEYREQUEST.
func (k *KeyRequest) Bytes() []byte {
	b := make([]byte, KeyRequestSize)
	le.PutUint16(b[0:], uint16(k.KeyName))
	le.PutUint16(b[2:], uint16(k.KeyPolicy))
	le.PutUint16(b[4:], k.ISVSVN)
	b[6] = k.CETAttributesMask
	copy(b[8:], k.CPUSVN[:])
	k.AttributeMask.put(b, 24)
	copy(b[40:], k.KeyID[:])
	le.PutUint32(b[72:], k.MiscMask)
	le.PutUint16(b[76:], k.ConfigSVN)
	return b
}
