package appraise

// Claims are the facts about a TEE whose evidence has been verified and accepted.
//
// Their JSON form is the schema that release policies (CEL), tokens and the audit
// log share. Byte strings are lower-case hex in the order of the bytes in the
// report, without prefix; identifiers and bit masks that are integers in the
// report are numbers, except 64-bit masks, which are 16 hex digits (most
// significant first), because JSON and CEL numbers lose bits above 2^53.
type Claims struct {
	// TEE is "sgx", "tdx" or "snp". Exactly that one of SGX, TDX and SNP is present.
	TEE string `json:"tee"`
	// Debug says that the host can read the TEE: SGX ATTRIBUTES.DEBUG, any TUD bit
	// of TDATTRIBUTES, or SNP's guest policy DEBUG.
	Debug bool `json:"debug"`
	// ReportData is the caller's 64 bytes, already compared with what was expected.
	ReportData string `json:"report_data"`
	// Root is the trust anchor that the evidence chains to.
	Root RootClaims `json:"root"`
	// TCB is the state of the platform's firmware and quoting enclave.
	TCB TCBClaims `json:"tcb"`
	// Platform identifies the model, not the machine.
	Platform PlatformClaims `json:"platform"`

	SGX *SGXClaims `json:"sgx,omitempty"`
	TDX *TDXClaims `json:"tdx,omitempty"`
	SNP *SNPClaims `json:"snp,omitempty"`

	// InitData is the "data" table of the init-data document, if one was shown and
	// the evidence binds its digest; else empty. Adyton's launcher writes "sandbox"
	// ("gvisor", "kata", "none") and "network". A value whose key ends in .json or
	// .toml and that parses as such is an object, any other is a string.
	InitData map[string]any `json:"init_data"`
}

// RootClaims names a root of the trust policy.
type RootClaims struct {
	// Name is as in the policy: "intel", "amd" or the name of an own root.
	Name string `json:"name"`
	// Software says that the TEE is simulated: it protects nothing.
	Software bool `json:"software"`
}

// TCBClaims is the outcome of TCB appraisal.
type TCBClaims struct {
	// Status is Intel's word for the merged status: UpToDate, SWHardeningNeeded,
	// ConfigurationNeeded, ConfigurationAndSWHardeningNeeded, OutOfDate,
	// OutOfDateConfigurationNeeded, TDRelaunchAdvised,
	// TDRelaunchAdvisedConfigurationNeeded. AMD publishes no status: "" for SNP.
	Status string `json:"status"`
	// Date is the oldest TCB date of platform, quoting enclave and TDX module, in
	// RFC 3339, UTC; "" for SNP.
	Date string `json:"date"`
	// Advisories are Intel's advisories that apply, sorted, such as INTEL-SA-00615.
	Advisories []string `json:"advisories"`
	// EvaluationDataNumber is the collateral's tcbEvaluationDataNumber; 0 for SNP.
	EvaluationDataNumber uint32 `json:"evaluation_data_number"`
	// CollateralExpired says that a document or certificate was past its date and
	// the policy's grace covered it.
	CollateralExpired bool `json:"collateral_expired"`
}

// PlatformClaims says what the machine's model is. Both are "" for SNP.
type PlatformClaims struct {
	// FMSPC is 6 bytes: family, model, stepping, platform and custom SKU.
	FMSPC string `json:"fmspc"`
	// PCEID is 2 bytes as in the PCK certificate.
	PCEID string `json:"pceid"`
}

// SGXClaims are the fields of an enclave's report body (SDM volume 3D, "REPORT").
type SGXClaims struct {
	MRENCLAVE string `json:"mrenclave"`   // 32 bytes
	MRSIGNER  string `json:"mrsigner"`    // 32 bytes
	ISVProdID uint16 `json:"isv_prod_id"` // the signer's number for the product
	ISVSVN    uint16 `json:"isv_svn"`     // the signer's security version of it
	// ConfigID (64 bytes) and ConfigSVN were set by the launcher; zero without KSS.
	ConfigID     string `json:"config_id"`
	ConfigSVN    uint16 `json:"config_svn"`      // security version of the configuration
	ISVExtProdID string `json:"isv_ext_prod_id"` // 16 bytes
	ISVFamilyID  string `json:"isv_family_id"`   // 16 bytes
	Attributes   string `json:"attributes"`      // ATTRIBUTES.FLAGS, 64-bit mask
	XFRM         string `json:"xfrm"`            // 64-bit mask
	MiscSelect   uint32 `json:"misc_select"`     // what the CPU reports of exceptions, by bit
	CPUSVN       string `json:"cpu_svn"`         // 16 bytes
}

// TDXClaims are the fields of a TD report (TDX module ABI, TDREPORT_STRUCT) as a
// quote carries them.
type TDXClaims struct {
	TEETCBSVN      string    `json:"tee_tcb_svn"`     // 16 bytes
	MRSEAM         string    `json:"mr_seam"`         // 48 bytes
	MRSIGNERSEAM   string    `json:"mr_signer_seam"`  // 48 bytes
	SEAMAttributes string    `json:"seam_attributes"` // 8 bytes
	TDAttributes   string    `json:"td_attributes"`   // 64-bit mask
	XFAM           string    `json:"xfam"`            // 64-bit mask
	MRTD           string    `json:"mr_td"`           // 48 bytes
	MRCONFIGID     string    `json:"mr_config_id"`    // 48 bytes
	MROWNER        string    `json:"mr_owner"`        // 48 bytes
	MROWNERCONFIG  string    `json:"mr_owner_config"` // 48 bytes
	RTMR           [4]string `json:"rtmr"`            // 48 bytes each
	// SEPTVEDisable says that the host cannot inject #VE by unmapping private pages.
	SEPTVEDisable bool `json:"sept_ve_disable"`
	// TEETCBSVN2 (16 bytes) and MRServiceTD (48 bytes) are zero before TD 1.5.
	TEETCBSVN2  string `json:"tee_tcb_svn_2"`
	MRServiceTD string `json:"mr_service_td"` // measurement of the service TDs
}

// SNPClaims are the fields of a SEV-SNP attestation report (AMD 56860, ATTESTATION_REPORT).
type SNPClaims struct {
	// Product is the processor line that the certificate names: Milan, Genoa, Turin.
	Product         string    `json:"product"`
	Version         uint32    `json:"version"`           // of the report's format
	GuestSVN        uint32    `json:"guest_svn"`         // the guest owner's security version
	Policy          string    `json:"policy"`            // 64-bit mask
	FamilyID        string    `json:"family_id"`         // 16 bytes
	ImageID         string    `json:"image_id"`          // 16 bytes
	VMPL            uint32    `json:"vmpl"`              // privilege level that asked for the report; always 0
	PlatformInfo    string    `json:"platform_info"`     // 64-bit mask
	Measurement     string    `json:"measurement"`       // 48 bytes
	HostData        string    `json:"host_data"`         // 32 bytes
	IDKeyDigest     string    `json:"id_key_digest"`     // 48 bytes
	AuthorKeyDigest string    `json:"author_key_digest"` // 48 bytes
	ReportID        string    `json:"report_id"`         // 32 bytes
	ReportIDMA      string    `json:"report_id_ma"`      // 32 bytes
	ChipID          string    `json:"chip_id"`           // 64 bytes; zero if masked
	CurrentTCB      SNPTCB    `json:"current_tcb"`       // of the firmware that runs
	ReportedTCB     SNPTCB    `json:"reported_tcb"`      // that the VCEK is derived from
	CommittedTCB    SNPTCB    `json:"committed_tcb"`     // below which the firmware cannot go back
	LaunchTCB       SNPTCB    `json:"launch_tcb"`        // when the guest was launched
	GuestPolicy     SNPPolicy `json:"guest_policy"`      // policy, by bit
}

// SNPTCB is a TCB_VERSION by component.
type SNPTCB struct {
	Bootloader uint8 `json:"bootloader"` // SVN of the boot loader
	TEE        uint8 `json:"tee"`        // SVN of the secure processor's operating system
	SNP        uint8 `json:"snp"`        // SVN of the SNP firmware
	Microcode  uint8 `json:"microcode"`  // level of the microcode
}

// SNPPolicy is the guest policy, by bit.
type SNPPolicy struct {
	SMT          bool `json:"smt"`           // may run with hyper-threading
	MigrateMA    bool `json:"migrate_ma"`    // may have a migration agent
	Debug        bool `json:"debug"`         // may be debugged by the host
	SingleSocket bool `json:"single_socket"` // runs on one socket only
}
