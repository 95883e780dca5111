// Package dcap parses Intel DCAP quotes (SGX and TDX) and verifies them against
// Intel's collateral.
//
// It works in three steps that a caller can take apart:
//
//   - [ParseQuote] turns bytes into a [Quote]; nothing in it is trusted yet.
//   - [Verifier.Verify] checks every signature from the quote up to a trusted
//     root, every CRL, and matches the platform against the TCB levels. It gives
//     a [Result]: facts, a TCB status and what has expired, without judging them.
//     An error means "could not be verified" and carries a refusal reason.
//   - [Policy.Appraise] judges a Result: which statuses, advisories, roots, ages
//     and identities are acceptable. The zero Policy accepts only up-to-date,
//     unexpired, non-debug hardware.
//
// Collateral is given as the documents that a PCS or PCCS serves. Where they come
// from does not matter: all are verified by signature and date. Package
// [github.com/adyton-dev/adyton/dcap/pcs] fetches them.
//
// The package imports sgx, refusal, golang.org/x/crypto/cryptobyte and the
// standard library, and keeps no state outside a [Verifier] and a
// [RollbackGuard].
//
// To add a quote version or body, extend quote.go and the sizes there; to add a
// kind of collateral, parse it from bytes in a file of its own (as crl.go does),
// memoize the parsed form in [Verifier], and check its dates in verify.go, because
// only what is a pure function of bytes may be remembered.
//
// Sources: Intel "SGX ECDSA QuoteLibReference" and "TDX DCAP Quoting Library API"
// (quote formats, appendix A), "SGX PCK Certificate and CRL Profile", the PCS API
// documentation (TCB info, QE identity), and Intel's Quote Verification Library
// for the order of checks.
package dcap
