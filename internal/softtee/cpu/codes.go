package cpu

import (
	"errors"
	"fmt"
)

// Code is what an SGX instruction returns in RAX (SDM table "Error or Information
// Codes for Intel SGX Instructions").
type Code uint32

// The codes that an instruction can return.
const (
	Success                Code = 0
	InvalidSigStruct       Code = 1
	InvalidAttribute       Code = 2
	BlockState             Code = 3
	InvalidMeasurement     Code = 4
	NotBlockable           Code = 5
	PageInvalid            Code = 6
	LockFail               Code = 7
	InvalidSignature       Code = 8
	MACCompareFail         Code = 9
	PageNotBlocked         Code = 10
	NotTracked             Code = 11
	VASlotOccupied         Code = 12
	ChildPresent           Code = 13
	EnclaveActive          Code = 14
	EntryEpochLocked       Code = 15
	InvalidEINITToken      Code = 16
	PreviousTrackIncmpl    Code = 17
	PageIsSECS             Code = 18
	PageAttributesMismatch Code = 19
	PageNotModifiable      Code = 20
	PageNotDebuggable      Code = 21
	InvalidCPUSVN          Code = 32
	InvalidISVSVN          Code = 64
	UnmaskedEvent          Code = 128
	InvalidKeyName         Code = 256
)

// String gives the SDM's name, for example "SGX_INVALID_MEASUREMENT".
func (c Code) String() string {
	switch c {
	case Success:
		return "SGX_SUCCESS"
	case InvalidSigStruct:
		return "SGX_INVALID_SIG_STRUCT"
	case InvalidAttribute:
		return "SGX_INVALID_ATTRIBUTE"
	case BlockState:
		return "SGX_BLKSTATE"
	case InvalidMeasurement:
		return "SGX_INVALID_MEASUREMENT"
	case NotBlockable:
		return "SGX_NOTBLOCKABLE"
	case PageInvalid:
		return "SGX_PG_INVLD"
	case LockFail:
		return "SGX_LOCKFAIL"
	case InvalidSignature:
		return "SGX_INVALID_SIGNATURE"
	case MACCompareFail:
		return "SGX_MAC_COMPARE_FAIL"
	case PageNotBlocked:
		return "SGX_PAGE_NOT_BLOCKED"
	case NotTracked:
		return "SGX_NOT_TRACKED"
	case VASlotOccupied:
		return "SGX_VA_SLOT_OCCUPIED"
	case ChildPresent:
		return "SGX_CHILD_PRESENT"
	case EnclaveActive:
		return "SGX_ENCLAVE_ACT"
	case EntryEpochLocked:
		return "SGX_ENTRYEPOCH_LOCKED"
	case InvalidEINITToken:
		return "SGX_INVALID_EINITTOKEN"
	case PreviousTrackIncmpl:
		return "SGX_PREV_TRK_INCMPL"
	case PageIsSECS:
		return "SGX_PG_IS_SECS"
	case PageAttributesMismatch:
		return "SGX_PAGE_ATTRIBUTES_MISMATCH"
	case PageNotModifiable:
		return "SGX_PAGE_NOT_MODIFIABLE"
	case PageNotDebuggable:
		return "SGX_PAGE_NOT_DEBUGGABLE"
	case InvalidCPUSVN:
		return "SGX_INVALID_CPUSVN"
	case InvalidISVSVN:
		return "SGX_INVALID_ISVSVN"
	case UnmaskedEvent:
		return "SGX_UNMASKED_EVENT"
	case InvalidKeyName:
		return "SGX_INVALID_KEYNAME"
	}
	return fmt.Sprintf("SGX error %d", uint32(c))
}

// ErrGeneralProtection is wrapped by the error of an instruction that a real CPU
// answers with #GP(0) instead of a code.
var ErrGeneralProtection = errors.New("#GP(0)")

// EINITError is the refusal of an enclave by EINIT.
type EINITError struct {
	Code   Code
	Detail string
}

func (e *EINITError) Error() string { return fmt.Sprintf("EINIT: %s: %s", e.Code, e.Detail) }

// EGETKEYError is the refusal of a key by EGETKEY.
type EGETKEYError struct {
	Code   Code
	Detail string
}

func (e *EGETKEYError) Error() string { return fmt.Sprintf("EGETKEY: %s: %s", e.Code, e.Detail) }
