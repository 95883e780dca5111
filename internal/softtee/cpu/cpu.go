package cpu

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"

	"github.com/adyton-dev/adyton/sgx"
)

// CPU is one SGX processor. Two CPUs with the same seed, CPUSVN and owner epoch
// are the same processor: they derive the same keys and accept each other's
// reports.
type CPU struct {
	svn              sgx.CPUSVN
	ownerEpoch       [16]byte
	sealRoot         [16]byte
	provisioningRoot [16]byte
	reportKeyID      [32]byte // CR_REPORT_KEYID: random at each reset
}

// New powers on the CPU whose fuses are the seed, 32 uniformly random secret
// bytes, and whose microcode has the given security version. The owner epoch is
// zero.
func New(seed [32]byte, svn sgx.CPUSVN) *CPU {
	c := &CPU{
		svn:              svn,
		sealRoot:         fuses(seed, "adyton softtee v1 seal fuses"),
		provisioningRoot: fuses(seed, "adyton softtee v1 provisioning fuses"),
	}
	rand.Read(c.reportKeyID[:]) // never fails
	return c
}

// WithOwnerEpoch gives the same CPU with another SGXOWNEREPOCH. A change of owner
// epoch changes every key but the provisioning ones.
func (c *CPU) WithOwnerEpoch(epoch [16]byte) *CPU {
	other := *c
	other.ownerEpoch = epoch
	return &other
}

// SVN is the security version of the CPU.
func (c *CPU) SVN() sgx.CPUSVN { return c.svn }

func fuses(seed [32]byte, label string) [16]byte {
	mac := hmac.New(sha256.New, seed[:])
	mac.Write([]byte(label))
	return [16]byte(mac.Sum(nil)[:16])
}
