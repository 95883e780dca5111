package ratls_test

import (
	"context"
	"errors"
	"net"

	"github.com/adyton-dev/adyton/appraise"
	"github.com/adyton-dev/adyton/attest"
	"github.com/adyton-dev/adyton/attest/ratls"
)

// Two enclaves of one signer hold a mutually attested connection: this function
// in one of them, Listen in place of Dial in the other.
func Example() {
	connect := func(ctx context.Context, appraiser *appraise.Appraiser, mrsigner, address string) (net.Conn, error) {
		attester, err := attest.Detect(attest.Paths{})
		if err != nil {
			return nil, err
		}
		endpoint, err := ratls.New(ctx, ratls.Config{Attester: attester, Appraiser: appraiser, Authorize: func(peer *appraise.Claims) error {
			if peer.SGX == nil || peer.SGX.MRSIGNER != mrsigner || peer.SGX.ISVProdID != 7 || peer.SGX.ISVSVN < 2 {
				return errors.New("not an enclave of ours")
			}
			return nil
		}})
		if err != nil {
			return nil, err
		}
		return endpoint.Dial(ctx, "tcp", address)
	}
	_ = connect
}
