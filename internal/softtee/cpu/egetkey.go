package cpu

import (
	"encoding/binary"
	"fmt"

	"github.com/adyton-dev/adyton/sgx"
)

// requiredSealingMask is what a key always depends on, whatever mask is asked: a
// debug enclave never gets the keys of a production one (SDM "EGETKEY",
// REQUIRED_SEALING_MASK).
const requiredSealingMask = sgx.AttributeInit | sgx.AttributeDebug

// kssPolicies are the policies that need ATTRIBUTES.KSS.
const kssPolicies = sgx.KeyPolicyNoISVProdID | sgx.KeyPolicyConfigID | sgx.KeyPolicyISVFamilyID | sgx.KeyPolicyISVExtProdID

// keyDependencies is KEYDEPENDENCIES (SDM "EGETKEY"): all that a key depends on
// but the root key. What a key does not depend on is zero. The SDM's PADDING is
// left out: in all enclaves it is the same constant, the padding of a signature
// that verified.
type keyDependencies struct {
	keyName           sgx.KeyName
	isvProdID         uint16
	isvSVN            uint16
	configSVN         uint16
	keyPolicy         sgx.KeyPolicy
	cetAttributes     byte
	cetAttributesMask byte
	miscSelect        uint32
	miscMask          uint32
	ownerEpoch        [16]byte
	attributes        sgx.Attributes
	attributeMask     sgx.Attributes
	mrenclave         sgx.Measurement
	mrsigner          sgx.Measurement
	keyID             [32]byte
	cpuSVN            sgx.CPUSVN
	isvFamilyID       [16]byte
	isvExtProdID      [16]byte
	configID          [64]byte
}

// EGETKEY derives a key for this enclave (SDM "EGETKEY"). A refusal is an
// *EGETKEYError with code InvalidAttribute, InvalidCPUSVN, InvalidISVSVN or
// InvalidKeyName; a reserved policy, or KSS fields without ATTRIBUTES.KSS, give an
// error that wraps ErrGeneralProtection.
func (e *Enclave) EGETKEY(request *sgx.KeyRequest) (sgx.Key128, error) {
	if unknown := request.KeyPolicy &^ sgx.KeyPolicyDefined; unknown != 0 {
		return sgx.Key128{}, protection("EGETKEY", "KEYPOLICY has reserved bits %#x", uint16(unknown))
	}
	if e.identity.Attributes.Flags&sgx.AttributeKSS == 0 && (request.KeyPolicy&kssPolicies != 0 || request.ConfigSVN != 0) {
		return sgx.Key128{}, protection("EGETKEY", "KEYPOLICY %#x with CONFIGSVN %d needs ATTRIBUTES.KSS",
			uint16(request.KeyPolicy), request.ConfigSVN)
	}
	switch request.KeyName {
	case sgx.KeyNameReport:
		return sgx.Key128(e.cpu.reportKey(e.TargetInfo(), request.KeyID)), nil
	case sgx.KeyNameSeal:
		return e.sealKey(request)
	case sgx.KeyNameProvision:
		return e.provisionKey(request)
	case sgx.KeyNameProvisionSeal:
		return e.provisionSealKey(request)
	case sgx.KeyNameEINITToken:
		return e.einitTokenKey(request)
	default:
		return sgx.Key128{}, refuseEGETKEY(InvalidKeyName, "KEYNAME is %d", request.KeyName)
	}
}

// sealKey is bound to what the policy names, to the requested versions and KEYID.
func (e *Enclave) sealKey(request *sgx.KeyRequest) (sgx.Key128, error) {
	if err := e.checkVersions(request); err != nil {
		return sgx.Key128{}, err
	}
	d := e.maskedDependencies(request)
	e.addPolicy(&d, request)
	if request.KeyPolicy&sgx.KeyPolicyMRENCLAVE != 0 {
		d.mrenclave = e.identity.MRENCLAVE
	}
	if request.KeyPolicy&sgx.KeyPolicyMRSIGNER != 0 {
		d.mrsigner = e.identity.MRSIGNER
	}
	d.ownerEpoch = e.cpu.ownerEpoch
	d.keyID = request.KeyID
	return d.derive(e.cpu.sealRoot), nil
}

// provisionKey is bound to the signer and the product, and to nothing of the
// owner: KEYID and owner epoch stay zero.
func (e *Enclave) provisionKey(request *sgx.KeyRequest) (sgx.Key128, error) {
	if err := e.checkPrivileged(sgx.AttributeProvisionKey, request); err != nil {
		return sgx.Key128{}, err
	}
	d := e.maskedDependencies(request)
	d.mrsigner = e.identity.MRSIGNER
	d.isvProdID = e.identity.ISVProdID
	return d.derive(e.cpu.provisioningRoot), nil
}

// provisionSealKey is as provisionKey, but of the seal fuses, and follows the KSS
// policies.
func (e *Enclave) provisionSealKey(request *sgx.KeyRequest) (sgx.Key128, error) {
	if err := e.checkPrivileged(sgx.AttributeProvisionKey, request); err != nil {
		return sgx.Key128{}, err
	}
	d := e.maskedDependencies(request)
	e.addPolicy(&d, request)
	d.mrsigner = e.identity.MRSIGNER
	return d.derive(e.cpu.sealRoot), nil
}

// einitTokenKey is the launch enclave's key to make launch tokens with.
func (e *Enclave) einitTokenKey(request *sgx.KeyRequest) (sgx.Key128, error) {
	if err := e.checkPrivileged(sgx.AttributeEINITTokenKey, request); err != nil {
		return sgx.Key128{}, err
	}
	d := e.maskedDependencies(request)
	d.attributeMask, d.miscMask, d.cetAttributesMask = sgx.Attributes{}, 0, 0
	d.mrsigner = e.identity.MRSIGNER
	d.isvProdID = e.identity.ISVProdID
	d.ownerEpoch = e.cpu.ownerEpoch
	d.keyID = request.KeyID
	return d.derive(e.cpu.sealRoot), nil
}

// reportKey is the key that the target verifies reports with. It is bound to all
// of the target and to the CPU's present version.
func (c *CPU) reportKey(target *sgx.TargetInfo, keyID [32]byte) [16]byte {
	d := keyDependencies{
		keyName:       sgx.KeyNameReport,
		ownerEpoch:    c.ownerEpoch,
		attributes:    target.Attributes,
		cetAttributes: target.CETAttributes,
		miscSelect:    target.MiscSelect,
		mrenclave:     target.MRENCLAVE,
		configID:      target.ConfigID,
		configSVN:     target.ConfigSVN,
		keyID:         keyID,
		cpuSVN:        c.svn,
	}
	return d.derive(c.sealRoot)
}

// maskedDependencies is what all keys but the report key share: the versions, and
// what the enclave is under the masks.
func (e *Enclave) maskedDependencies(request *sgx.KeyRequest) keyDependencies {
	effective := request.AttributeMask
	effective.Flags |= requiredSealingMask
	return keyDependencies{
		keyName:           request.KeyName,
		isvSVN:            request.ISVSVN,
		cpuSVN:            request.CPUSVN,
		attributes:        e.identity.Attributes.And(effective),
		attributeMask:     request.AttributeMask,
		miscSelect:        e.identity.MiscSelect & request.MiscMask,
		miscMask:          ^request.MiscMask,
		cetAttributes:     e.identity.CETAttributes & request.CETAttributesMask,
		cetAttributesMask: request.CETAttributesMask,
	}
}

// addPolicy adds the policy, the product and what of KSS the policy names.
func (e *Enclave) addPolicy(d *keyDependencies, request *sgx.KeyRequest) {
	d.keyPolicy = request.KeyPolicy
	if request.KeyPolicy&sgx.KeyPolicyNoISVProdID == 0 {
		d.isvProdID = e.identity.ISVProdID
	}
	if request.KeyPolicy&sgx.KeyPolicyConfigID != 0 {
		d.configID, d.configSVN = e.identity.ConfigID, request.ConfigSVN
	}
	if request.KeyPolicy&sgx.KeyPolicyISVFamilyID != 0 {
		d.isvFamilyID = e.identity.ISVFamilyID
	}
	if request.KeyPolicy&sgx.KeyPolicyISVExtProdID != 0 {
		d.isvExtProdID = e.identity.ISVExtProdID
	}
}

func (e *Enclave) checkPrivileged(needed sgx.AttributeFlags, request *sgx.KeyRequest) error {
	if e.identity.Attributes.Flags&needed == 0 {
		return refuseEGETKEY(InvalidAttribute, "the key needs ATTRIBUTES.%v", needed)
	}
	return e.checkVersions(request)
}

// checkVersions refuses keys of versions that are newer than the CPU or the
// enclave. CPUSVN is compared byte by byte, for its bytes are separate versions.
// The SDM checks CONFIGSVN for SEAL only; here PROVISION_SEAL, which depends on it
// as well, is not let run ahead either.
func (e *Enclave) checkVersions(request *sgx.KeyRequest) error {
	for i, v := range request.CPUSVN {
		if v > e.cpu.svn[i] {
			return refuseEGETKEY(InvalidCPUSVN, "CPUSVN %x is beyond the CPU's %x", request.CPUSVN, e.cpu.svn)
		}
	}
	if request.ISVSVN > e.identity.ISVSVN {
		return refuseEGETKEY(InvalidISVSVN, "ISVSVN %d is above the enclave's %d", request.ISVSVN, e.identity.ISVSVN)
	}
	if request.ConfigSVN > e.identity.ConfigSVN {
		return refuseEGETKEY(InvalidISVSVN, "CONFIGSVN %d is above the enclave's %d", request.ConfigSVN, e.identity.ConfigSVN)
	}
	return nil
}

// derive encodes the dependencies in the order of the fields, without padding.
func (d *keyDependencies) derive(root [16]byte) [16]byte {
	le := binary.LittleEndian
	b := le.AppendUint16(nil, uint16(d.keyName))
	b = le.AppendUint16(b, d.isvProdID)
	b = le.AppendUint16(b, d.isvSVN)
	b = le.AppendUint16(b, d.configSVN)
	b = le.AppendUint16(b, uint16(d.keyPolicy))
	b = append(b, d.cetAttributes, d.cetAttributesMask)
	b = le.AppendUint32(b, d.miscSelect)
	b = le.AppendUint32(b, d.miscMask)
	for _, field := range [][]byte{
		d.ownerEpoch[:], d.attributes.Bytes(), d.attributeMask.Bytes(), d.mrenclave[:], d.mrsigner[:],
		d.keyID[:], d.cpuSVN[:], d.isvFamilyID[:], d.isvExtProdID[:], d.configID[:],
	} {
		b = append(b, field...)
	}
	return cmac(root, b)
}

func refuseEGETKEY(code Code, format string, args ...any) error {
	return &EGETKEYError{Code: code, Detail: fmt.Sprintf(format, args...)}
}
