package kbs

import (
	"encoding/json"

	"github.com/adyton-dev/adyton/attest"
	"github.com/adyton-dev/adyton/refusal"
)

// dcapEvidence is primary_evidence of SGX and TDX. encoding/json writes []byte as
// standard base64, as the protocol does.
type dcapEvidence struct {
	Quote []byte `json:"quote"`
	// EventLog is TDX's ACPI CCEL table. It is carried, not interpreted.
	EventLog []byte `json:"cc_eventlog,omitempty"`
}

// snpEvidence is primary_evidence of SEV-SNP.
//
// Confidential Containers sends attestation_report as the JSON form of a Rust
// struct, whose members differ between releases of its crate `sev`, and cert_chain
// as a list. Adyton sends the bytes of the report and of the certificate table in
// base64 and reads only those; another form is an EvidenceUnsupported refusal.
type snpEvidence struct {
	Report    json.RawMessage `json:"attestation_report"`
	CertTable []byte          `json:"cert_table,omitempty"`
}

// MarshalEvidence gives primary_evidence:
//
//	sgx  {"quote": base64}
//	tdx  {"quote": base64, "cc_eventlog"?: base64}
//	snp  {"attestation_report": base64 of 1184 bytes, "cert_table"?: base64 of the GHCB certificate table}
func MarshalEvidence(e *attest.Evidence) (json.RawMessage, error) {
	switch e.TEE {
	case attest.SGX, attest.TDX:
		return json.Marshal(dcapEvidence{Quote: e.Quote, EventLog: e.Aux})
	case attest.SNP:
		report, err := json.Marshal(e.Quote)
		if err != nil {
			return nil, err
		}
		return json.Marshal(snpEvidence{Report: report, CertTable: e.Aux})
	}
	return nil, refusal.New(refusal.EvidenceUnsupported, "no form for evidence of TEE %.32q", e.TEE)
}

// UnmarshalEvidence reads primary_evidence of the kind of TEE that the session
// was opened for. It checks the form only.
func UnmarshalEvidence(tee string, raw json.RawMessage) (*attest.Evidence, error) {
	switch tee {
	case attest.SGX, attest.TDX:
		var e dcapEvidence
		if err := json.Unmarshal(raw, &e); err != nil {
			return nil, refusal.New(refusal.EvidenceMalformed, "%s evidence: %w", tee, err)
		}
		if len(e.Quote) == 0 {
			return nil, refusal.New(refusal.EvidenceMalformed, "%s evidence: no quote", tee)
		}
		evidence := &attest.Evidence{TEE: tee, Quote: e.Quote}
		if tee == attest.TDX {
			evidence.Aux = e.EventLog
		}
		return evidence, nil
	case attest.SNP:
		var e snpEvidence
		if err := json.Unmarshal(raw, &e); err != nil {
			return nil, refusal.New(refusal.EvidenceMalformed, "snp evidence: %w", err)
		}
		if len(e.Report) > 0 && e.Report[0] != '"' {
			return nil, refusal.New(refusal.EvidenceUnsupported,
				"snp evidence: attestation_report is not base64 of the report: the structured form of Confidential Containers is not supported")
		}
		evidence := &attest.Evidence{TEE: tee, Aux: e.CertTable}
		if err := json.Unmarshal(e.Report, &evidence.Quote); err != nil || len(evidence.Quote) == 0 {
			return nil, refusal.New(refusal.EvidenceMalformed, "snp evidence: attestation_report is not base64")
		}
		return evidence, nil
	}
	return nil, refusal.New(refusal.EvidenceUnsupported, "evidence of TEE %.32q is not supported: want sgx, tdx or snp", tee)
}
