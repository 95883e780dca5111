package release

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http/httptest"
	"path/filepath"
	"time"

	"github.com/adyton-dev/adyton/appraise"
	"github.com/adyton-dev/adyton/attest"
	"github.com/adyton-dev/adyton/dcap/pcs"
	"github.com/adyton-dev/adyton/internal/broker"
	"github.com/adyton-dev/adyton/internal/broker/admin"
	"github.com/adyton-dev/adyton/internal/broker/api"
	"github.com/adyton-dev/adyton/internal/broker/owner"
	"github.com/adyton-dev/adyton/internal/broker/server"
	"github.com/adyton-dev/adyton/internal/broker/vault"
	"github.com/adyton-dev/adyton/internal/softtee"
	"github.com/adyton-dev/adyton/internal/softtee/cpu"
	"github.com/adyton-dev/adyton/sgx"
)

// brokerUnderTest serves one key to one enclave of a software TEE.
type brokerUnderTest struct {
	url, pin    string
	certificate tls.Certificate
	enclave     attest.Attester
	close       func()
}

// host is where all servers of the comparison listen, as httptest's do.
const host = "127.0.0.1"

const releasePolicy = `apiVersion: adyton.dev/v1alpha1
kind: ReleasePolicy
spec:
  validations:
  - {expression: "tee == 'sgx'", reason: TEENotApproved}
  - {expression: "sgx.mrsigner == '%s' && sgx.isv_prod_id == 7", reason: SignerNotApproved}
  - {expression: "sgx.isv_svn >= 2", reason: SVNTooLow}
`

func startBroker(ctx context.Context, dir, softteeDir string) (_ *brokerUnderTest, err error) {
	var closers []func()
	closeAll := func() {
		for i := range closers {
			closers[len(closers)-1-i]()
		}
	}
	defer func() {
		if err != nil {
			closeAll()
		}
	}()

	installation, err := softtee.Create(softteeDir)
	if err != nil {
		return nil, err
	}
	collateralService := httptest.NewServer(installation.PCS())
	closers = append(closers, collateralService.Close)
	collateral, err := pcs.New(collateralService.URL, pcs.Options{})
	if err != nil {
		return nil, err
	}
	trust := appraise.DefaultTrustPolicy()
	trust.Roots = append(trust.Roots, appraise.Root{Name: "bench", Software: true, Certificate: installation.Root()})
	appraiser, err := appraise.New(trust, collateral, appraise.Options{})
	if err != nil {
		return nil, err
	}

	if _, err := broker.Init(ctx, dir, broker.InitOptions{Protection: vault.KeyFile, Hosts: []string{host}}); err != nil {
		return nil, err
	}
	metrics := server.NewMetrics()
	b, err := broker.Open(ctx, dir, broker.Options{
		Means:     vault.Means{KeyFile: filepath.Join(dir, broker.KeyFile)},
		Appraiser: appraiser, OnDecision: metrics.Decision,
	})
	if err != nil {
		return nil, err
	}
	closers = append(closers, func() { _ = b.Close() }) // everything is thrown away

	started := &brokerUnderTest{pin: b.Pin(), certificate: b.TLSCertificate(), close: closeAll}
	limits := server.DefaultLimits()
	limits.Rate, limits.ClientRate = 1e6, 1e6
	s, err := server.New(server.Config{Broker: b, Limits: limits, TLS: &started.certificate, Metrics: metrics, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", host+":0")
	if err != nil {
		return nil, err
	}
	started.url = "https://" + listener.Addr().String()
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		_ = s.Serve(serving, listener, "") // its failure fails the clients
	}()
	closers = append(closers, func() { stop(); <-stopped })

	enclave, mrsigner, err := launch(installation)
	if err != nil {
		return nil, err
	}
	started.enclave = enclave
	administrator, err := admin.New(started.url, started.pin, filepath.Join(dir, broker.AdminKeyFile))
	if err != nil {
		return nil, err
	}
	return started, store(ctx, started, administrator, fmt.Appendf(nil, releasePolicy, mrsigner))
}

// store makes an owner, who stores the key.
func store(ctx context.Context, b *brokerUnderTest, administrator *admin.Client, policy []byte) error {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	pem, err := owner.MarshalPublicKey(public)
	if err != nil {
		return err
	}
	if err := administrator.AddOwner(ctx, api.Owner{Name: "bench", PublicKey: string(pem), Repositories: []string{"bench"}}); err != nil {
		return err
	}
	c, err := admin.NewWithKey(b.url, b.pin, private)
	if err != nil {
		return err
	}
	return c.PutResource(ctx, resource, make([]byte, 32), policy, true)
}

// launch launches an enclave of one empty page, product 7, SVN 2.
func launch(installation *softtee.Installation) (_ attest.Attester, mrsigner string, err error) {
	platform, err := installation.Platform(softtee.DefaultPlatform)
	if err != nil {
		return nil, "", err
	}
	secs := &sgx.SECS{
		Size: 2 * sgx.PageSize, SSAFrameSize: 1,
		Attributes: sgx.Attributes{Flags: sgx.AttributeMode64Bit | sgx.AttributeKSS, XFRM: sgx.XFRMLegacy},
	}
	measurer, err := sgx.NewMeasurer(secs.SSAFrameSize, secs.Size)
	if err != nil {
		return nil, "", err
	}
	if err := measurer.AddPage(0, sgx.SecInfoR|sgx.PageTypeREG, new([sgx.PageSize]byte)); err != nil {
		return nil, "", err
	}
	key, err := sgx.GenerateKey(rand.Reader)
	if err != nil {
		return nil, "", err
	}
	signature := &sgx.SigStruct{
		Date: sgx.DateBCD(time.Now()), Attributes: secs.Attributes,
		AttributeMask: sgx.Attributes{Flags: ^sgx.AttributeFlags(0), XFRM: ^uint64(0)},
		EnclaveHash:   measurer.Sum(), ISVProdID: 7, ISVSVN: 2,
	}
	if err := signature.Sign(key); err != nil {
		return nil, "", err
	}
	enclave, err := platform.CPU().EINIT(secs, signature.EnclaveHash, signature)
	if err != nil {
		return nil, "", err
	}
	return &attester{platform, enclave}, signature.MRSIGNER().String(), nil
}

// attester is what an enclave's code does through its attestation files.
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
