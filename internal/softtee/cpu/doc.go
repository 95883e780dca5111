// Package cpu is a CPU with SGX in software: the root of trust of the software TEE.
// It owns what a real CPU burns into fuses and executes the instructions that turn
// it into identities, reports and keys: ECREATE's and EINIT's checks, EREPORT and
// EGETKEY, as the Intel SDM, volume 3D, describes them.
//
// It protects nothing from whoever holds the seed or can read the process, and is
// for development and tests only; what it gives is the exact behaviour.
//
// It knows of no containers, files or networks, does no input or output, and all
// its values are immutable and so safe for use by many goroutines. It may import
// the standard library and package sgx. To add an instruction, add a method in a
// file of its own and a test named after each of its rules.
//
// # Launch control
//
// The CPU has flexible launch control and a driver like that of Linux, which sets
// IA32_SGXLEPUBKEYHASH to the MRSIGNER of each enclave before EINIT. So every
// signer may launch, without a launch token, and may set EINITTOKEN_KEY and
// PROVISIONKEY; who should be let have those attributes is for the caller of EINIT
// to decide, as /dev/sgx_provision does on Linux.
//
// # Key derivation
//
// Two 128-bit root keys come from the seed:
//
//	seal root         = HMAC-SHA-256(seed, "adyton softtee v1 seal fuses")[:16]
//	provisioning root = HMAC-SHA-256(seed, "adyton softtee v1 provisioning fuses")[:16]
//
// A key is AES-CMAC(root, KEYDEPENDENCIES), where KEYDEPENDENCIES has the fields
// that the SDM gives EGETKEY, in the order of the type keyDependencies, integers
// little-endian. The provisioning root is used for the PROVISION key only. On a
// real CPU an older CPUSVN's key is reached through a one-way chain; here CPUSVN is
// one of the dependencies and the rollback rule is a check.
package cpu
