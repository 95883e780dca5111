// Package appraisetest runs enclaves on a software TEE, for tests of whatever
// attests or appraises: real quotes, real collateral over HTTP, only the root is
// made for the test.
//
// It imports internal/softtee and testing, so nothing that ships may import it.
package appraisetest

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/adyton-dev/adyton/appraise"
	"github.com/adyton-dev/adyton/attest"
	"github.com/adyton-dev/adyton/dcap/pcs"
	"github.com/adyton-dev/adyton/internal/softtee"
	"github.com/adyton-dev/adyton/internal/softtee/cpu"
	"github.com/adyton-dev/adyton/sgx"
)

// RootName is the name of the software root in [Lab.Policy].
const RootName = "lab"

// Lab is a software TEE with a collateral service and an enclave signer.
type Lab struct {
	Installation *softtee.Installation
	// Collateral is a client of the lab's collateral service.
	Collateral *pcs.Client

	t testing.TB
	// signer makes the key on first use: it takes seconds.
	signer func() (*rsa.PrivateKey, error)
}

// New makes a lab that ends with the test.
func New(t testing.TB) *Lab {
	t.Helper()
	installation, err := softtee.Create(filepath.Join(t.TempDir(), "softtee"))
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(installation.PCS())
	t.Cleanup(server.Close)
	client, err := pcs.New(server.URL, pcs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	signer := sync.OnceValues(func() (*rsa.PrivateKey, error) { return sgx.GenerateKey(rand.Reader) })
	return &Lab{Installation: installation, Collateral: client, signer: signer, t: t}
}

// Policy trusts Intel's root and the lab's.
func (l *Lab) Policy() *appraise.TrustPolicy {
	policy := appraise.DefaultTrustPolicy()
	policy.Roots = append(policy.Roots, appraise.Root{Name: RootName, Software: true, Certificate: l.Installation.Root()})
	return policy
}

// Appraiser judges by a policy and the lab's collateral.
func (l *Lab) Appraiser(policy *appraise.TrustPolicy) *appraise.Appraiser {
	l.t.Helper()
	appraiser, err := appraise.New(policy, l.Collateral, appraise.Options{})
	if err != nil {
		l.t.Fatal(err)
	}
	return appraiser
}

// Signer gives the key that signs the lab's enclaves.
func (l *Lab) Signer() *rsa.PrivateKey {
	l.t.Helper()
	key, err := l.signer()
	if err != nil {
		l.t.Fatal(err)
	}
	return key
}

// Enclave describes an enclave to launch. The zero value is one on the default
// platform, of product 0 and SVN 0.
type Enclave struct {
	// Platform is its name; empty: softtee.DefaultPlatform. Others are made by
	// Installation.CreatePlatform.
	Platform string
	// Code is measured.
	Code      string
	ISVProdID uint16
	ISVSVN    uint16
	Debug     bool
	// InitData is the document that CONFIGID binds, or nil.
	InitData []byte
}

// Attester launches an enclave and gives its attester.
func (l *Lab) Attester(e Enclave) attest.Attester {
	l.t.Helper()
	platform, enclave := l.Launch(e)
	return &attester{platform: platform, enclave: enclave}
}

// Launch launches an enclave, for example to serve its attestation files.
func (l *Lab) Launch(e Enclave) (*softtee.Platform, *cpu.Enclave) {
	l.t.Helper()
	if e.Platform == "" {
		e.Platform = softtee.DefaultPlatform
	}
	platform, err := l.Installation.Platform(e.Platform)
	if err != nil {
		l.t.Fatal(err)
	}
	attributes := sgx.Attributes{Flags: sgx.AttributeMode64Bit | sgx.AttributeKSS, XFRM: sgx.XFRMLegacy}
	if e.Debug {
		attributes.Flags |= sgx.AttributeDebug
	}
	secs := &sgx.SECS{Size: 2 * 4096, SSAFrameSize: 1, Attributes: attributes}
	if e.InitData != nil {
		initData, err := appraise.ParseInitData(e.InitData)
		if err != nil {
			l.t.Fatal(err)
		}
		copy(secs.ConfigID[:], initData.Bind(len(secs.ConfigID)))
	}
	mrenclave := l.measure(e.Code, secs.Size)
	sig := &sgx.SigStruct{
		Date:          sgx.DateBCD(time.Now()),
		Attributes:    attributes,
		AttributeMask: sgx.Attributes{Flags: ^sgx.AttributeFlags(0), XFRM: ^uint64(0)},
		EnclaveHash:   mrenclave,
		ISVProdID:     e.ISVProdID,
		ISVSVN:        e.ISVSVN,
	}
	if err := sig.Sign(l.Signer()); err != nil {
		l.t.Fatal(err)
	}
	enclave, err := platform.CPU().EINIT(secs, mrenclave, sig)
	if err != nil {
		l.t.Fatal(err)
	}
	return platform, enclave
}

func (l *Lab) measure(code string, size uint64) sgx.Measurement {
	l.t.Helper()
	measurer, err := sgx.NewMeasurer(1, size)
	if err != nil {
		l.t.Fatal(err)
	}
	var page [4096]byte
	copy(page[:], code)
	if err := measurer.AddPage(0, sgx.SecInfoR|sgx.PageTypeREG, &page); err != nil {
		l.t.Fatal(err)
	}
	return measurer.Sum()
}

// attester is what the enclave's code would do through its attestation files.
type attester struct {
	platform *softtee.Platform
	enclave  *cpu.Enclave
}

func (a *attester) TEE() string { return attest.SGX }

func (a *attester) Evidence(_ context.Context, reportData [attest.ReportDataSize]byte) (*attest.Evidence, error) {
	quote, err := a.platform.Quote(a.enclave.EREPORT(a.platform.QETargetInfo(), reportData))
	if err != nil {
		return nil, err
	}
	return &attest.Evidence{TEE: attest.SGX, Quote: quote}, nil
}

// TD gives the attester of a software trust domain.
func (l *Lab) TD(platformName string, td softtee.TD) attest.Attester {
	l.t.Helper()
	platform, err := l.Installation.Platform(platformName)
	if err != nil {
		l.t.Fatal(err)
	}
	return &tdAttester{platform: platform, td: td}
}

type tdAttester struct {
	platform *softtee.Platform
	td       softtee.TD
}

func (a *tdAttester) TEE() string { return attest.TDX }

func (a *tdAttester) Evidence(_ context.Context, reportData [attest.ReportDataSize]byte) (*attest.Evidence, error) {
	quote, err := a.platform.TDQuote(a.td, reportData)
	if err != nil {
		return nil, err
	}
	return &attest.Evidence{TEE: attest.TDX, Quote: quote}, nil
}
