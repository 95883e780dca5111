package sgx_test

import (
	"crypto/rand"
	"fmt"
	"log"

	"github.com/adyton-dev/adyton/sgx"
)

// An enclave of one code page is measured, signed and checked.
func Example() {
	m, err := sgx.NewMeasurer(1, 2*sgx.PageSize)
	if err != nil {
		log.Fatal(err)
	}
	code := [sgx.PageSize]byte{0xc3}
	if err := m.AddPage(0, sgx.PageTypeREG|sgx.SecInfoR|sgx.SecInfoX, &code); err != nil {
		log.Fatal(err)
	}
	key, err := sgx.GenerateKey(rand.Reader)
	if err != nil {
		log.Fatal(err)
	}
	signature := sgx.SigStruct{
		EnclaveHash:   m.Sum(),
		Attributes:    sgx.Attributes{Flags: sgx.AttributeMode64Bit, XFRM: sgx.XFRMLegacy},
		AttributeMask: sgx.Attributes{Flags: ^sgx.AttributeFlags(0), XFRM: ^uint64(0)},
		ISVProdID:     7,
		ISVSVN:        2,
	}
	if err := signature.Sign(key); err != nil {
		log.Fatal(err)
	}
	parsed, err := sgx.ParseSigStruct(signature.Bytes())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(parsed.Verify(), parsed.EnclaveHash == m.Sum(), parsed.DebugAllowed())
	// Output: <nil> true false
}
