package ratls_test

import (
	"testing"

	"github.com/adyton-dev/adyton/appraise"
	"github.com/adyton-dev/adyton/appraise/appraisetest"
	"github.com/adyton-dev/adyton/attest/ratls"
	"github.com/adyton-dev/adyton/refusal"
)

// TestTwoEnclavesOfOneSigner holds a mutually attested connection between two
// enclaves of the software TEE, and refuses an enclave of another product.
func TestTwoEnclavesOfOneSigner(t *testing.T) {
	t.Parallel()
	lab := appraisetest.New(t)
	policy := lab.Policy()
	policy.RequireSandbox = true
	initData := []byte("version = \"0.1.0\"\nalgorithm = \"sha384\"\n[data]\nsandbox = \"gvisor\"\n")
	newEndpoint := func(product uint16) *ratls.Endpoint {
		return endpoint(t, func(c *ratls.Config) {
			c.Attester = lab.Attester(appraisetest.Enclave{ISVProdID: product, ISVSVN: 2, InitData: initData})
			c.InitData = initData
			c.Appraiser = lab.Appraiser(policy)
			c.Authorize = func(peer *appraise.Claims) error {
				if peer.SGX == nil || peer.SGX.ISVProdID != 7 || peer.SGX.ISVSVN < 2 {
					return refusal.New(refusal.ProductNotApproved, "not product 7")
				}
				return nil
			}
		})
	}
	serverSaw, clientSaw, err := connect(t, newEndpoint(7), newEndpoint(7))
	if err != nil {
		t.Fatal(err)
	}
	if serverSaw.SGX.MRSIGNER != clientSaw.SGX.MRSIGNER || serverSaw.InitData["sandbox"] != "gvisor" {
		t.Errorf("server saw %+v, client saw %+v", serverSaw, clientSaw)
	}
	if _, _, err := connect(t, newEndpoint(7), newEndpoint(8)); refusal.Of(err) != refusal.ProductNotApproved {
		t.Errorf("client of another product: %v", err)
	}
	if _, _, err := connect(t, newEndpoint(8), newEndpoint(7)); refusal.Of(err) != refusal.ProductNotApproved {
		t.Errorf("server of another product: %v", err)
	}
}

// TestSoftwareTEEIsRefusedByDefault: nothing above asks whether a TEE is
// simulated; the trust policy does.
func TestSoftwareTEEIsRefusedByDefault(t *testing.T) {
	t.Parallel()
	lab := appraisetest.New(t)
	attester := lab.Attester(appraisetest.Enclave{})
	anyone := func(*appraise.Claims) error { return nil }
	server := endpoint(t, func(c *ratls.Config) { c.Attester = attester })
	client := endpoint(t, func(c *ratls.Config) {
		c.Appraiser, c.Authorize = lab.Appraiser(appraise.DefaultTrustPolicy()), anyone
	})
	if _, _, err := connect(t, server, client); refusal.Of(err) != refusal.SoftwareRootNotTrusted {
		t.Errorf("connect: %v", err)
	}
}
