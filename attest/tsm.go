package attest

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/google/go-configfs-tsm/configfs/configfsi"
	"github.com/google/go-configfs-tsm/report"

	"github.com/adyton-dev/adyton/refusal"
)

// tsmAttempts bounds the retries after another writer changed our report entry
// between the write of inblob and the read of outblob.
const tsmAttempts = 4

// TSM gets evidence from Linux's configfs-tsm
// (Documentation/ABI/testing/configfs-tsm-report).
type TSM struct {
	client configfsi.Client
	tee    string
}

// NewTSM asks client which provider it has: tdx_guest or sev_guest. Any other is
// an EvidenceUnsupported refusal.
func NewTSM(client configfsi.Client) (*TSM, error) {
	provider, err := tsmProvider(client)
	if err != nil {
		return nil, fmt.Errorf("read the configfs-tsm provider: %w", err)
	}
	switch provider {
	case "tdx_guest":
		return &TSM{client: client, tee: TDX}, nil
	case "sev_guest":
		return &TSM{client: client, tee: SNP}, nil
	}
	return nil, refusal.New(refusal.EvidenceUnsupported, "configfs-tsm has the provider %q, want tdx_guest or sev_guest", provider)
}

// TEE gives [TDX] or [SNP].
func (t *TSM) TEE() string { return t.tee }

// Evidence makes a report entry of its own, so that concurrent callers do not
// meet, and removes it.
func (t *TSM) Evidence(ctx context.Context, reportData [ReportDataSize]byte) (*Evidence, error) {
	var err error
	for range tsmAttempts {
		if ctxErr := ctx.Err(); ctxErr != nil {
			return nil, fmt.Errorf("get a report: %w", ctxErr)
		}
		var evidence *Evidence
		evidence, err = t.evidence(reportData)
		if err == nil {
			return evidence, nil
		}
		if report.GetGenerationErr(err) == nil {
			break
		}
	}
	return nil, fmt.Errorf("get a report: %w", err)
}

func (t *TSM) evidence(reportData [ReportDataSize]byte) (_ *Evidence, err error) {
	entry, err := report.Create(t.client, &report.Request{InBlob: reportData[:], GetAuxBlob: t.tee == SNP})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, entry.Destroy()) }()
	response, err := entry.Get()
	if err != nil {
		return nil, err
	}
	if len(response.OutBlob) > maxQuoteSize || len(response.AuxBlob) > maxQuoteSize {
		return nil, refusal.New(refusal.EvidenceMalformed, "configfs-tsm gave more than %d bytes", maxQuoteSize)
	}
	return &Evidence{TEE: t.tee, Quote: response.OutBlob, Aux: response.AuxBlob}, nil
}

func tsmProvider(client configfsi.Client) (_ string, err error) {
	entry, err := report.CreateOpenReport(client)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, entry.Destroy()) }()
	// No report is made before outblob is read: this only completes the entry.
	if err := entry.WriteOption("inblob", make([]byte, ReportDataSize)); err != nil {
		return "", err
	}
	provider, err := entry.ReadOption("provider")
	return strings.TrimSpace(string(provider)), err
}
