package appraise

import (
	"context"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"strings"
	"time"

	"github.com/adyton-dev/adyton/attest"
	"github.com/adyton-dev/adyton/dcap"
	"github.com/adyton-dev/adyton/refusal"
)

// intel appraises a quote of SGX or TDX.
func (a *Appraiser) intel(ctx context.Context, e *attest.Evidence, want Expect) (*Claims, error) {
	quote, err := dcap.ParseQuote(e.Quote)
	if err != nil {
		return nil, err
	}
	if tee := strings.ToLower(quote.TEE.String()); tee != e.TEE {
		return nil, refusal.New(refusal.EvidenceMalformed, "the quote is of %s", tee)
	}
	if a.collateral == nil {
		return nil, refusal.New(refusal.CollateralMissing, "no collateral service is configured")
	}
	// Which collateral is fetched is up to the PCK certificate, which anyone can make.
	if err := a.verifier.CheckPCKChain(quote); err != nil {
		return nil, nameSoftwareRoot(err, quote, nil)
	}
	collateral, err := a.collateral.Collateral(ctx, quote)
	if err != nil {
		if refusal.Of(err) != "" {
			return nil, err
		}
		return nil, refusal.New(refusal.CollateralMissing, "fetch collateral: %w", err)
	}
	result, err := a.verifier.Verify(e.Quote, collateral, a.now())
	if err != nil {
		return nil, nameSoftwareRoot(err, quote, collateral)
	}
	reportData := quote.ReportData()
	field, name := configField(quote)
	initData, err := checkBinding(reportData[:], field, name, want)
	if err != nil {
		return nil, err
	}
	if err := a.dcapPolicy.Appraise(result); err != nil {
		return nil, err
	}
	claims := intelClaims(result)
	claims.InitData = initData
	return claims, nil
}

// configField gives the field that binds init-data.
func configField(quote *dcap.Quote) (field []byte, name string) {
	if quote.TD != nil {
		return quote.TD.MRCONFIGID[:], "MRCONFIGID"
	}
	return quote.SGX.ConfigID[:], "CONFIGID"
}

// nameSoftwareRoot makes RootNotTrusted into SoftwareRootNotTrusted if the
// untrusted root calls itself a software TEE's, because then there is a plain
// thing to do about it. It decides between two refusals only.
func nameSoftwareRoot(err error, quote *dcap.Quote, collateral *dcap.Collateral) error {
	if refusal.Of(err) != refusal.RootNotTrusted {
		return err
	}
	chain := quote.CertificationData.Data
	if quote.CertificationData.Type != dcap.PCKChain {
		chain = collateral.PCKCertChain
	}
	var last []byte
	for block, rest := pem.Decode(chain); block != nil; block, rest = pem.Decode(rest) {
		last = block.Bytes
	}
	root, parseErr := x509.ParseCertificate(last)
	if parseErr != nil || !isSoftwareRoot(root) {
		return err
	}
	return refusal.New(refusal.SoftwareRootNotTrusted,
		"the quote is of a software TEE (%q), which protects nothing: for development, name its root in the trust policy with `software: true`", root.Subject.CommonName)
}

func intelClaims(r *dcap.Result) *Claims {
	reportData := r.Quote.ReportData()
	claims := &Claims{
		Debug:      r.Quote.Debug(),
		ReportData: hex.EncodeToString(reportData[:]),
		Root:       RootClaims{Name: r.Root.Name, Software: r.Root.Software},
		TCB: TCBClaims{
			Status:               string(r.Status),
			Date:                 r.TCBDate.UTC().Format(time.RFC3339),
			Advisories:           append([]string{}, r.Advisories...),
			EvaluationDataNumber: r.EvaluationNumber,
			CollateralExpired:    len(r.Expired) > 0,
		},
		Platform: PlatformClaims{FMSPC: r.PCK.FMSPC.String(), PCEID: r.PCK.PCEID.String()},
	}
	if td := r.Quote.TD; td != nil {
		claims.TEE = attest.TDX
		claims.TDX = tdxClaims(td)
		return claims
	}
	body := r.Quote.SGX
	claims.TEE = attest.SGX
	claims.SGX = &SGXClaims{
		MRENCLAVE:    hex.EncodeToString(body.MRENCLAVE[:]),
		MRSIGNER:     hex.EncodeToString(body.MRSIGNER[:]),
		ISVProdID:    body.ISVProdID,
		ISVSVN:       body.ISVSVN,
		ConfigID:     hex.EncodeToString(body.ConfigID[:]),
		ConfigSVN:    body.ConfigSVN,
		ISVExtProdID: hex.EncodeToString(body.ISVExtProdID[:]),
		ISVFamilyID:  hex.EncodeToString(body.ISVFamilyID[:]),
		Attributes:   mask(uint64(body.Attributes.Flags)),
		XFRM:         mask(body.Attributes.XFRM),
		MiscSelect:   body.MiscSelect,
		CPUSVN:       hex.EncodeToString(body.CPUSVN[:]),
	}
	return claims
}

func tdxClaims(td *dcap.TDReport) *TDXClaims {
	claims := &TDXClaims{
		TEETCBSVN:      hex.EncodeToString(td.TEETCBSVN[:]),
		MRSEAM:         hex.EncodeToString(td.MRSEAM[:]),
		MRSIGNERSEAM:   hex.EncodeToString(td.MRSIGNERSEAM[:]),
		SEAMAttributes: hex.EncodeToString(td.SEAMAttributes[:]),
		TDAttributes:   mask(uint64(td.Attributes)),
		XFAM:           mask(td.XFAM),
		MRTD:           hex.EncodeToString(td.MRTD[:]),
		MRCONFIGID:     hex.EncodeToString(td.MRCONFIGID[:]),
		MROWNER:        hex.EncodeToString(td.MROWNER[:]),
		MROWNERCONFIG:  hex.EncodeToString(td.MROWNERCONFIG[:]),
		SEPTVEDisable:  td.Attributes&dcap.TDSEPTVEDisable != 0,
		TEETCBSVN2:     hex.EncodeToString(td.TEETCBSVN2[:]),
		MRServiceTD:    hex.EncodeToString(td.MRServiceTD[:]),
	}
	for i, register := range td.RTMR {
		claims.RTMR[i] = hex.EncodeToString(register[:])
	}
	return claims
}

// mask writes a bit mask as 16 hex digits.
func mask(bits uint64) string { return fmt.Sprintf("%016x", bits) }
