package quote

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/adyton-dev/adyton/dcap"
	"github.com/adyton-dev/adyton/internal/vectors"
)

// vector is a genuine quote with what it is verified by.
type vector struct {
	quote      []byte
	collateral *dcap.Collateral
	root       []byte // Intel's root certificate, PEM
	at         time.Time
}

// loadVectors gives, by TEE, the last vector that Intel's library finds up to
// date: go-tdx-guest accepts no other.
func loadVectors() (map[string]vector, error) {
	root, err := vectors.Find()
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(root, "dcap")
	text, err := os.ReadFile(filepath.Join(dir, "runs.json"))
	if err != nil {
		return nil, fmt.Errorf("read the vectors: %w", err)
	}
	var runs []struct {
		Quote, TEE   string
		Time         time.Time
		TCBInfo      string `json:"tcb_info"`
		TCBInfoChain string `json:"tcb_info_issuer_chain"`
		QEIdentity   string `json:"qe_identity"`
		QEIDChain    string `json:"qe_identity_issuer_chain"`
		PCKCRL       string `json:"pck_crl"`
		PCKCRLChain  string `json:"pck_crl_issuer_chain"`
		RootCA       string `json:"root_ca"`
		RootCACRL    string `json:"root_ca_crl"`
		Expected     struct{ Quote string }
	}
	if err := json.Unmarshal(text, &runs); err != nil {
		return nil, fmt.Errorf("runs.json: %w", err)
	}
	loaded := map[string]vector{}
	for _, r := range runs {
		if r.Expected.Quote != "STATUS_OK" {
			continue
		}
		v := vector{collateral: &dcap.Collateral{}, at: r.Time}
		for _, file := range []struct {
			name string
			into *[]byte
		}{
			{r.Quote, &v.quote},
			{r.TCBInfo, &v.collateral.TCBInfo},
			{r.TCBInfoChain, &v.collateral.TCBInfoIssuerChain},
			{r.QEIdentity, &v.collateral.QEIdentity},
			{r.QEIDChain, &v.collateral.QEIdentityIssuerChain},
			{r.PCKCRL, &v.collateral.PCKCRL},
			{r.PCKCRLChain, &v.collateral.PCKCRLIssuerChain},
			{r.RootCA, &v.root},
			{r.RootCACRL, &v.collateral.RootCACRL},
		} {
			if *file.into, err = os.ReadFile(filepath.Join(dir, file.name)); err != nil {
				return nil, fmt.Errorf("read the vectors: %w", err)
			}
		}
		loaded[r.TEE] = v
	}
	for _, tee := range []string{"SGX", "TDX"} {
		if loaded[tee].quote == nil {
			return nil, fmt.Errorf("%s has no %s quote that is up to date", dir, tee)
		}
	}
	return loaded, nil
}

// served answers as Intel's collateral service would, from memory.
type served struct{ *dcap.Collateral }

// Get implements go-tdx-guest's trust.HTTPSGetter.
func (s served) Get(address string) (header map[string][]string, body []byte, err error) {
	chain := func(name string, pem []byte) map[string][]string {
		return map[string][]string{name: {url.QueryEscape(string(pem))}}
	}
	switch {
	case strings.Contains(address, "/pckcrl?"):
		return chain("Sgx-Pck-Crl-Issuer-Chain", s.PCKCRLIssuerChain), s.PCKCRL, nil
	case strings.Contains(address, "/tcb?"):
		return chain("Tcb-Info-Issuer-Chain", s.TCBInfoIssuerChain), s.TCBInfo, nil
	case strings.Contains(address, "/qe/identity"):
		return chain("Sgx-Enclave-Identity-Issuer-Chain", s.QEIdentityIssuerChain), s.QEIdentity, nil
	case strings.Contains(address, "RootCA"):
		return nil, s.RootCACRL, nil
	}
	return nil, nil, fmt.Errorf("%s is not among the vectors", address)
}
