package appraise

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/hex"
	"fmt"

	"github.com/google/go-sev-guest/abi"
	"github.com/google/go-sev-guest/kds"
	spb "github.com/google/go-sev-guest/proto/sevsnp"
	"github.com/google/go-sev-guest/validate"
	"github.com/google/go-sev-guest/verify"
	"github.com/google/go-sev-guest/verify/trust"

	"github.com/adyton-dev/adyton/attest"
	"github.com/adyton-dev/adyton/refusal"
)

// snp appraises an attestation report of SEV-SNP.
//
// AMD publishes no TCB levels with a status, as Intel does: what counts as recent
// is the policy's MinimumSNPTCB. AMD's CRL, which lists revoked signing keys, not
// chips, is not consulted.
func (a *Appraiser) snp(ctx context.Context, e *attest.Evidence, want Expect) (*Claims, error) {
	if !a.policy.names(RootAMD) {
		return nil, refusal.New(refusal.RootNotTrusted, "the trust policy does not name the root %s", RootAMD)
	}
	if len(e.Quote) != abi.ReportSize {
		return nil, refusal.New(refusal.EvidenceMalformed, "the report has %d bytes, want %d", len(e.Quote), abi.ReportSize)
	}
	report, err := abi.ReportToProto(e.Quote)
	if err != nil {
		return nil, refusal.New(refusal.EvidenceMalformed, "the report: %w", err)
	}
	attestation, certificate, err := a.snpAttestation(ctx, report, e.Aux)
	if err != nil {
		return nil, err
	}
	line, err := a.verifySNP(ctx, e.Quote, attestation, certificate)
	if err != nil {
		return nil, err
	}
	initData, err := checkBinding(report.GetReportData(), report.GetHostData(), "HOST_DATA", want)
	if err != nil {
		return nil, err
	}
	claims, err := snpClaims(report, line)
	if err != nil {
		return nil, refusal.New(refusal.EvidenceMalformed, "the report: %w", err)
	}
	claims.InitData = initData
	return claims, a.judgeSNP(claims)
}

// snpAttestation joins the report with the certificate of the key that signed it:
// from the certificate table that came with it, else from the KDS.
func (a *Appraiser) snpAttestation(ctx context.Context, report *spb.Report, table []byte) (*spb.Attestation, *x509.Certificate, error) {
	signer, err := abi.ParseSignerInfo(report.GetSignerInfo())
	if err != nil {
		return nil, nil, refusal.New(refusal.EvidenceMalformed, "the report: %w", err)
	}
	chain := &spb.CertificateChain{}
	if len(table) > 0 {
		var certificates abi.CertTable
		if err := certificates.Unmarshal(table); err != nil {
			return nil, nil, refusal.New(refusal.EvidenceMalformed, "the certificate table: %w", err)
		}
		chain = certificates.Proto()
	}
	var der []byte
	switch signer.SigningKey {
	case abi.VcekReportSigner:
		if len(chain.VcekCert) == 0 {
			if chain.VcekCert, err = a.fetchVCEK(ctx, report); err != nil {
				return nil, nil, err
			}
		}
		der = chain.VcekCert
	case abi.VlekReportSigner:
		der = chain.VlekCert
	}
	if len(der) == 0 {
		return nil, nil, refusal.New(refusal.CollateralMissing, "the evidence carries no certificate of its %v: the host must put it into the certificate table", signer.SigningKey)
	}
	certificate, err := trust.ParseCert(der)
	if err != nil {
		return nil, nil, refusal.New(refusal.CertificateInvalid, "the %v certificate: %w", signer.SigningKey, err)
	}
	return &spb.Attestation{Report: report, CertificateChain: chain}, certificate, nil
}

// fetchVCEK asks the KDS. Reports before version 3 do not say what processor they
// are of: then Milan and Genoa are tried.
func (a *Appraiser) fetchVCEK(ctx context.Context, report *spb.Report) ([]byte, error) {
	if a.kds == nil {
		return nil, refusal.New(refusal.CollateralMissing, "the evidence carries no VCEK certificate and no KDS is configured")
	}
	lines := []string{"Milan", "Genoa"}
	if fms := report.GetCpuid1EaxFms(); fms != 0 {
		lines = []string{kds.ProductLineFromFms(fms)}
	}
	var err error
	for _, line := range lines {
		var der []byte
		if der, err = a.kds.Get(ctx, kds.VCEKCertURL(line, report.GetChipId(), kds.TCBVersion(report.GetReportedTcb()))); err == nil {
			return der, nil
		}
	}
	return nil, refusal.New(refusal.CollateralMissing, "fetch the VCEK certificate: %w", err)
}

// verifySNP verifies the certificate chain, the signature, and that report and
// certificate agree. It gives the product line.
func (a *Appraiser) verifySNP(ctx context.Context, raw []byte, attestation *spb.Attestation, certificate *x509.Certificate) (string, error) {
	if err := verify.SnpReportSignature(raw, certificate); err != nil {
		return "", refusal.New(refusal.QuoteSignatureInvalid, "%w", err)
	}
	if err := verify.SnpAttestationContext(ctx, attestation, &verify.Options{
		DisableCertFetching: true, // all of it is here
		TrustedRoots:        a.amdRoots,
		Now:                 a.now(),
	}); err != nil {
		// The signature is good, so it is the chain.
		return "", refusal.New(refusal.CertificateInvalid, "%w", err)
	}
	// What the policy leaves open is permitted here: this is about consistency.
	if err := validate.SnpAttestation(attestation, &validate.Options{
		GuestPolicy:               abi.SnpPolicy{SMT: true, MigrateMA: true, Debug: true, CXLAllowed: true},
		PermitProvisionalFirmware: true,
	}); err != nil {
		return "", refusal.New(refusal.CertificateInvalid, "the report and its certificate disagree: %w", err)
	}
	signer, err := abi.ParseSignerInfo(attestation.GetReport().GetSignerInfo())
	if err != nil {
		return "", refusal.New(refusal.EvidenceMalformed, "the report: %w", err)
	}
	extensions, err := kds.CertificateExtensions(certificate, signer.SigningKey)
	if err != nil {
		return "", refusal.New(refusal.CertificateInvalid, "%w", err)
	}
	if fms := attestation.GetReport().GetCpuid1EaxFms(); fms != 0 {
		return kds.ProductLineFromFms(fms), nil
	}
	return kds.ProductLineOfProductName(extensions.ProductName), nil
}

// judgeSNP applies the trust policy.
func (a *Appraiser) judgeSNP(claims *Claims) error {
	if claims.Debug && !a.policy.AllowDebug {
		return refusal.New(refusal.DebugNotAllowed, "the guest policy permits debugging, with which the host can read the guest")
	}
	// A report of a higher VMPL is one that less privileged software in the guest
	// could have asked for: the measurement does not describe it.
	if claims.SNP.VMPL != 0 {
		return refusal.New(refusal.EvidenceUnsupported, "the report is of VMPL %d, want 0", claims.SNP.VMPL)
	}
	least, have := a.policy.MinimumSNPTCB, claims.SNP.ReportedTCB
	if have.Bootloader < least.Bootloader || have.TEE < least.TEE || have.SNP < least.SNP || have.Microcode < least.Microcode {
		return refusal.New(refusal.TCBOutOfDate, "the reported TCB is %+v, the trust policy wants at least %+v: update the platform's firmware", have, least)
	}
	return nil
}

func snpClaims(report *spb.Report, line string) (*Claims, error) {
	policy, err := abi.ParseSnpPolicy(report.GetPolicy())
	if err != nil {
		return nil, err
	}
	return &Claims{
		TEE:        attest.SNP,
		Debug:      policy.Debug,
		ReportData: hex.EncodeToString(report.GetReportData()),
		Root:       RootClaims{Name: RootAMD},
		TCB:        TCBClaims{Advisories: []string{}},
		SNP: &SNPClaims{
			Product:         line,
			Version:         report.GetVersion(),
			GuestSVN:        report.GetGuestSvn(),
			Policy:          mask(report.GetPolicy()),
			FamilyID:        hex.EncodeToString(report.GetFamilyId()),
			ImageID:         hex.EncodeToString(report.GetImageId()),
			VMPL:            report.GetVmpl(),
			PlatformInfo:    mask(report.GetPlatformInfo()),
			Measurement:     hex.EncodeToString(report.GetMeasurement()),
			HostData:        hex.EncodeToString(report.GetHostData()),
			IDKeyDigest:     hex.EncodeToString(report.GetIdKeyDigest()),
			AuthorKeyDigest: hex.EncodeToString(report.GetAuthorKeyDigest()),
			ReportID:        hex.EncodeToString(report.GetReportId()),
			ReportIDMA:      hex.EncodeToString(report.GetReportIdMa()),
			ChipID:          hex.EncodeToString(report.GetChipId()),
			CurrentTCB:      snpTCB(report.GetCurrentTcb(), line),
			ReportedTCB:     snpTCB(report.GetReportedTcb(), line),
			CommittedTCB:    snpTCB(report.GetCommittedTcb(), line),
			LaunchTCB:       snpTCB(report.GetLaunchTcb(), line),
			GuestPolicy:     SNPPolicy{SMT: policy.SMT, MigrateMA: policy.MigrateMA, Debug: policy.Debug, SingleSocket: policy.SingleSocket},
		},
	}, nil
}

// snpTCB splits a TCB_VERSION. Turin has another layout, with FMC first (AMD
// 56860, "TCB_VERSION").
func snpTCB(version uint64, line string) SNPTCB {
	at := func(i int) uint8 { return uint8(version >> (8 * i)) }
	if line == "Turin" {
		return SNPTCB{Bootloader: at(1), TEE: at(2), SNP: at(3), Microcode: at(7)}
	}
	return SNPTCB{Bootloader: at(0), TEE: at(1), SNP: at(6), Microcode: at(7)}
}

// builtinAMDRoots gives AMD's ARKs, each with the intermediate for VCEKs and the
// one for VLEKs, as go-sev-guest carries them.
func builtinAMDRoots() (map[string][]*trust.AMDRootCerts, error) {
	roots := make(map[string][]*trust.AMDRootCerts)
	for line, bundles := range map[string][][]byte{
		"Milan": {trust.AskArkMilanVcekBytes, trust.AskArkMilanVlekBytes},
		"Genoa": {trust.AskArkGenoaVcekBytes, trust.AskArkGenoaVlekBytes},
		"Turin": {trust.AskArkTurinVcekBytes, trust.AskArkTurinVlekBytes},
	} {
		for _, bundle := range bundles {
			root := trust.AMDRootCertsProduct(line)
			// Turin's bundle ends in an empty line, which the parser refuses.
			if err := root.FromKDSCertBytes(bytes.TrimSpace(bundle)); err != nil {
				return nil, fmt.Errorf("AMD's %s roots: %w", line, err)
			}
			roots[line] = append(roots[line], root)
		}
	}
	return roots, nil
}
