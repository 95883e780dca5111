package cpu

import (
	"fmt"
	"math/bits"

	"github.com/adyton-dev/adyton/sgx"
)

// ECREATE checks that an enclave may have these SECS, by the rules of the
// instruction (SDM "ECREATE"). The error wraps ErrGeneralProtection. MRENCLAVE,
// MRSIGNER, ISVPRODID and ISVSVN are not looked at: the instructions set them.
func (c *CPU) ECREATE(secs *sgx.SECS) error {
	flags := secs.Attributes.Flags
	size := secs.Size
	switch {
	case size < 2*sgx.PageSize || bits.OnesCount64(size) != 1:
		return protection("ECREATE", "SIZE %#x is not a power of two of at least two pages", size)
	case secs.BaseAddr%size != 0:
		return protection("ECREATE", "BASEADDR %#x is not aligned to SIZE %#x", secs.BaseAddr, size)
	case flags&^sgx.AttributeFlagsDefined != 0:
		return protection("ECREATE", "ATTRIBUTES %v has a reserved bit", flags)
	case flags&sgx.AttributeInit != 0:
		return protection("ECREATE", "ATTRIBUTES has INIT, which only EINIT sets")
	case secs.MiscSelect&^(sgx.MiscSelectEXINFO|sgx.MiscSelectCPINFO) != 0:
		return protection("ECREATE", "MISCSELECT %#x has a reserved bit", secs.MiscSelect)
	case !validXFRM(secs.Attributes.XFRM):
		return protection("ECREATE", "XFRM %#x is not a set of features that XCR0 admits", secs.Attributes.XFRM)
	case uint64(secs.SSAFrameSize)*sgx.PageSize < ssaFrameBytes(secs.Attributes.XFRM, secs.MiscSelect):
		return protection("ECREATE", "SSAFRAMESIZE of %d pages is too small for XFRM %#x", secs.SSAFrameSize, secs.Attributes.XFRM)
	case flags&sgx.AttributeCET == 0 && (secs.CETAttributes != 0 || secs.CETLegBitmapOffset != 0):
		return protection("ECREATE", "the CET fields are set without ATTRIBUTES.CET")
	case secs.CETAttributes&cetReserved != 0:
		return protection("ECREATE", "CET_ATTRIBUTES %#x has a reserved bit", secs.CETAttributes)
	case secs.CETLegBitmapOffset%sgx.PageSize != 0:
		return protection("ECREATE", "CET_LEG_BITMAP_OFFSET %#x is not page-aligned", secs.CETLegBitmapOffset)
	case flags&sgx.AttributeKSS == 0 && (secs.ConfigID != [64]byte{} || secs.ConfigSVN != 0):
		return protection("ECREATE", "CONFIGID or CONFIGSVN is set without ATTRIBUTES.KSS")
	}
	return nil
}

// cetReserved are the bits of CET_ATTRIBUTES that are reserved (SDM
// "SECS.CET_ATTRIBUTES Field").
const cetReserved = 3 << 6

// The state components of XCR0 (SDM volume 1, "XSAVE-Supported Features") that
// come only together.
const (
	xcr0AVX    uint64 = 1 << 2
	xcr0MPX    uint64 = 3 << 3
	xcr0AVX512 uint64 = 7 << 5
	xcr0PKRU   uint64 = 1 << 9
	xcr0AMX    uint64 = 3 << 17

	xcr0Defined = sgx.XFRMLegacy | xcr0AVX | xcr0MPX | xcr0AVX512 | xcr0PKRU | xcr0AMX
)

// validXFRM applies the rules of XSETBV to XCR0.
func validXFRM(xfrm uint64) bool {
	together := func(set uint64) bool { return xfrm&set == 0 || xfrm&set == set }
	return xfrm&sgx.XFRMLegacy == sgx.XFRMLegacy && xfrm&^xcr0Defined == 0 &&
		together(xcr0MPX) && together(xcr0AMX) && together(xcr0AVX512) &&
		(xfrm&xcr0AVX512 == 0 || xfrm&xcr0AVX != 0)
}

// ssaFrameBytes is the room that an SSA frame needs: the XSAVE area in standard
// format up to its last component, MISC and GPRSGX.
func ssaFrameBytes(xfrm uint64, miscSelect uint32) uint64 {
	const gprBytes, exinfoBytes = 184, 16
	area := uint64(512 + 64) // legacy region and XSAVE header
	for _, component := range []struct{ bits, end uint64 }{
		{xcr0AVX, 832}, {xcr0MPX, 1088}, {xcr0AVX512, 2688}, {xcr0PKRU, 2696}, {xcr0AMX, 11008},
	} {
		if xfrm&component.bits != 0 {
			area = component.end
		}
	}
	area += gprBytes
	if miscSelect != 0 {
		area += exinfoBytes
	}
	return area
}

func protection(instruction, format string, args ...any) error {
	return fmt.Errorf("%s: %w: %s", instruction, ErrGeneralProtection, fmt.Sprintf(format, args...))
}
