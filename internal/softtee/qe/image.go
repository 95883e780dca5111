package qe

import (
	"fmt"

	"github.com/adyton-dev/adyton/dcap"
	"github.com/adyton-dev/adyton/internal/softtee/cpu"
	"github.com/adyton-dev/adyton/sgx"
)

// The quoting enclave's image is two pages: a TCS and one that says what it is.
// Its code is this package, outside the enclave: a software CPU cannot hide it.
const (
	imageSize = 2 * 4096
	imageText = "Adyton software quoting enclave for "
	signDate  = 0x20260101
)

// launch builds the image, signs it and runs EINIT.
func launch(o Options) (*cpu.Enclave, error) {
	attributes := sgx.Attributes{Flags: sgx.AttributeMode64Bit | sgx.AttributeProvisionKey, XFRM: sgx.XFRMLegacy}
	secs := &sgx.SECS{Size: imageSize, SSAFrameSize: 1, Attributes: attributes}
	measurer, err := sgx.NewMeasurer(secs.SSAFrameSize, secs.Size)
	if err != nil {
		return nil, err
	}
	var page [4096]byte
	copy(page[:], (&sgx.TCS{NSSA: 1}).Bytes())
	if err := measurer.AddPage(0, sgx.PageTypeTCS, &page); err != nil {
		return nil, err
	}
	clear(page[:])
	copy(page[:], imageText+o.TEE.String())
	if err := measurer.AddPage(4096, sgx.PageTypeREG|sgx.SecInfoR, &page); err != nil {
		return nil, err
	}
	prodID := ProdIDSGX
	if o.TEE == dcap.TDX {
		prodID = ProdIDTDX
	}
	signature := &sgx.SigStruct{
		Date:          signDate,
		MiscMask:      ^uint32(0),
		Attributes:    attributes,
		AttributeMask: sgx.Attributes{Flags: ^sgx.AttributeFlags(0), XFRM: ^uint64(0)},
		EnclaveHash:   measurer.Sum(),
		ISVProdID:     prodID,
		ISVSVN:        o.ISVSVN,
	}
	if err := signature.Sign(o.Signer); err != nil {
		return nil, err
	}
	enclave, err := o.CPU.EINIT(secs, signature.EnclaveHash, signature)
	if err != nil {
		return nil, fmt.Errorf("EINIT: %w", err)
	}
	return enclave, nil
}
