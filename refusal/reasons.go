package refusal

// The reasons, by the room that gives them.
const (
	// build and launch

	// MeasurementMismatch: what is about to run is not what was signed. The detail names the parts that differ.
	MeasurementMismatch Reason = "MeasurementMismatch"
	// SignatureInvalid: a SIGSTRUCT is malformed or its RSA signature does not verify. Sign the enclave again.
	SignatureInvalid Reason = "SignatureInvalid"
	// SignatureMissing: the image carries no SIGSTRUCT for this enclave. Sign it with `adyton enclave sign`.
	SignatureMissing Reason = "SignatureMissing"
	// AttributesRefused: the enclave's attributes, XFRM or MISCSELECT are not those that its SIGSTRUCT allows.
	AttributesRefused Reason = "AttributesRefused"
	// LaunchFailed: the enclave was accepted but its sandbox could not be started.
	LaunchFailed Reason = "LaunchFailed"

	// attest

	// EvidenceMalformed: a quote, report or document cannot be parsed.
	EvidenceMalformed Reason = "EvidenceMalformed"
	// EvidenceUnsupported: the evidence is well formed but of a kind or version that is not supported.
	EvidenceUnsupported Reason = "EvidenceUnsupported"
	// QuoteSignatureInvalid: the quote's signature or its quoting enclave's report does not verify.
	QuoteSignatureInvalid Reason = "QuoteSignatureInvalid"
	// ReportDataMismatch: the evidence is genuine but not bound to this session or key.
	ReportDataMismatch Reason = "ReportDataMismatch"
	// InitDataMismatch: the init-data shown is not the one bound into CONFIGID (SGX), MRCONFIGID (TDX) or HOST_DATA (SNP).
	InitDataMismatch Reason = "InitDataMismatch"
	// RootNotTrusted: the certificate chain ends in a root that no policy names.
	RootNotTrusted Reason = "RootNotTrusted"
	// SoftwareRootNotTrusted: the evidence is of a software TEE and the policy does not name its root.
	SoftwareRootNotTrusted Reason = "SoftwareRootNotTrusted"
	// CertificateInvalid: a PCK or signing chain is malformed, wrongly issued or badly signed.
	CertificateInvalid Reason = "CertificateInvalid"
	// CertificateRevoked: a certificate of the chain is on its CRL.
	CertificateRevoked Reason = "CertificateRevoked"
	// CollateralMissing: TCB info, QE identity, a CRL or the PCK chain could not be had. Check the collateral service.
	CollateralMissing Reason = "CollateralMissing"
	// CollateralInvalid: a collateral document is malformed, wrongly signed or for another platform.
	CollateralInvalid Reason = "CollateralInvalid"
	// CollateralExpired: a collateral document or certificate is past its date and no grace covers it. Refresh it.
	CollateralExpired Reason = "CollateralExpired"
	// CollateralNotYetValid: a collateral document or certificate is dated in the future. Check the clock.
	CollateralNotYetValid Reason = "CollateralNotYetValid"
	// CollateralRollback: the collateral's evaluation number is lower than the policy's floor or one already seen.
	CollateralRollback Reason = "CollateralRollback"
	// QEIdentityMismatch: the quoting enclave is not the one that its identity document describes.
	QEIdentityMismatch Reason = "QEIdentityMismatch"
	// TDXModuleMismatch: the TDX module is not one that the TCB info describes.
	TDXModuleMismatch Reason = "TDXModuleMismatch"
	// TCBOutOfDate: platform firmware or the quoting enclave is below the level that policy accepts. Update the platform.
	TCBOutOfDate Reason = "TCBOutOfDate"
	// TCBConfigurationNeeded: the platform needs a configuration change that policy does not waive.
	TCBConfigurationNeeded Reason = "TCBConfigurationNeeded"
	// TCBSWHardeningNeeded: the platform needs software hardening that policy does not waive.
	TCBSWHardeningNeeded Reason = "TCBSWHardeningNeeded"
	// TCBRelaunchAdvised: the TDX module was updated after this TD was launched. Launch the TD again.
	TCBRelaunchAdvised Reason = "TCBRelaunchAdvised"
	// TCBRevoked: the platform's TCB level is revoked.
	TCBRevoked Reason = "TCBRevoked"
	// TCBNotSupported: no TCB level of the collateral describes the platform.
	TCBNotSupported Reason = "TCBNotSupported"
	// AdvisoryNotAccepted: a security advisory applies that policy does not accept.
	AdvisoryNotAccepted Reason = "AdvisoryNotAccepted"
	// DebugNotAllowed: the enclave or TD is in debug mode, where the host can read it.
	DebugNotAllowed Reason = "DebugNotAllowed"
	// IdentityMismatch: the evidence is of another enclave than the one expected.
	IdentityMismatch Reason = "IdentityMismatch"
	// SignerNotApproved: the enclave is signed by a key that the policy does not name.
	SignerNotApproved Reason = "SignerNotApproved"
	// ProductNotApproved: the enclave's product id is not the one that the policy names.
	ProductNotApproved Reason = "ProductNotApproved"
	// SVNTooLow: the enclave's security version is below the policy's minimum.
	SVNTooLow Reason = "SVNTooLow"
	// SandboxRequired: the policy releases only to workloads in a sandbox of their own.
	SandboxRequired Reason = "SandboxRequired"

	// unlock

	// PolicyDenied: the release policy has no rule for this, or a rule without a reason of its own failed.
	PolicyDenied Reason = "PolicyDenied"
	// PolicyInvalid: a policy does not compile or could not be evaluated.
	PolicyInvalid Reason = "PolicyInvalid"
	// SessionInvalid: the session or token is unknown, expired or already used. Attest again.
	SessionInvalid Reason = "SessionInvalid"
	// Unauthorized: the request has no valid credential.
	Unauthorized Reason = "Unauthorized"
	// Forbidden: the credential is valid but does not cover this resource or action.
	Forbidden Reason = "Forbidden"
	// ResourceNotFound: there is no such resource.
	ResourceNotFound Reason = "ResourceNotFound"
	// RateLimited: too many requests. Retry after the time that the answer names.
	RateLimited Reason = "RateLimited"
	// BrokerUnreachable: the broker did not answer.
	BrokerUnreachable Reason = "BrokerUnreachable"
	// BrokerNotTrusted: the broker's certificate is not the one that the enclave was signed for.
	BrokerNotTrusted Reason = "BrokerNotTrusted"
	// DataCorrupt: sealed data is truncated, reordered or changed.
	DataCorrupt Reason = "DataCorrupt"
	// AuditCorrupt: the audit log is not the one that its checkpoints sign.
	AuditCorrupt Reason = "AuditCorrupt"
)
