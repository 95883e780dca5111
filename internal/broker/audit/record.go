package audit

import (
	"time"

	"github.com/adyton-dev/adyton/refusal"
)

// The events that are recorded.
const (
	EventInit           = "broker.init"     // the broker was created
	EventStart          = "broker.start"    // the broker was started
	EventAuth           = "auth"            // a request for a challenge was refused
	EventAttest         = "attest"          // evidence was accepted or refused
	EventRelease        = "release"         // a resource was released or refused
	EventAdmin          = "admin"           // an administrative request was refused
	EventResourcePut    = "resource.put"    // a resource was stored
	EventResourceDelete = "resource.delete" // a resource was removed
	EventPolicyPut      = "policy.put"      // a release policy was set
	EventPolicyDelete   = "policy.delete"   // a release policy was removed
	EventOwnerAdd       = "owner.add"       // an owner was registered
	EventOwnerRemove    = "owner.remove"    // an owner was removed
)

// Record is one decision. It never holds a secret.
type Record struct {
	// Sequence is the record's number in the log, from 0.
	Sequence int64 `json:"seq"`
	// Time is when the decision was recorded, in UTC.
	Time  time.Time `json:"time"`
	Event string    `json:"event"`
	// Allowed is the decision.
	Allowed bool `json:"allowed"`
	// Reason and Detail say why not.
	Reason refusal.Reason `json:"reason,omitempty"`
	Detail string         `json:"detail,omitempty"`
	// Actor is the owner who asked; "admin" is the administrator.
	Actor string `json:"actor,omitempty"`
	// Client is the IP address that the request came from.
	Client string `json:"client,omitempty"`
	// Session names the attestation that the decision belongs to.
	Session string `json:"session,omitempty"`
	// Resource is the resource, repository or owner that the decision is about.
	Resource string `json:"resource,omitempty"`
	// Version is the version of the resource.
	Version int64 `json:"version,omitempty"`
	// Policy is the SHA-256 of the policy that decided or was set. With a change of a
	// resource it is that of its own policy, if it has one.
	Policy string `json:"policy,omitempty"`
	// BrokerPolicy is the SHA-256 of the broker-wide policy that a release had to
	// pass too.
	BrokerPolicy string `json:"broker_policy,omitempty"`
	// Identity says what was attested, in the claims' names.
	Identity *Identity `json:"identity,omitempty"`
}

// Identity is the part of an attestation's claims that says who it was.
type Identity struct {
	TEE   string `json:"tee"`
	Debug bool   `json:"debug,omitempty"`
	// Measurement is MRENCLAVE, MRTD or the SNP launch measurement.
	Measurement string `json:"measurement,omitempty"`
	// Signer is MRSIGNER, or the SNP ID key digest.
	Signer  string `json:"signer,omitempty"`
	Product uint32 `json:"product,omitempty"`
	SVN     uint32 `json:"svn,omitempty"`
	// Root is the name of the root of trust.
	Root string `json:"root,omitempty"`
	// TCB is the platform's TCB status.
	TCB string `json:"tcb,omitempty"`
	// Claims is the SHA-256 of the whole claims.
	Claims string `json:"claims"`
}
