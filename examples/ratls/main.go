// Command ratls is an enclave that talks only to enclaves of its own signer, over
// TLS 1.3 whose certificates carry evidence (RA-TLS). Without $PEER it waits for one
// message and prints it; with $PEER it sends one there.
//
//	ratls TRUST-POLICY COLLATERAL-URL MRSIGNER
//
// docs/tutorials/ra-tls.md runs two of it.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/adyton-dev/adyton/appraise"
	"github.com/adyton-dev/adyton/attest"
	"github.com/adyton-dev/adyton/attest/ratls"
	"github.com/adyton-dev/adyton/dcap/pcs"
)

func main() {
	if err := run(context.Background(), os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "ratls:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) != 3 {
		return errors.New("usage: ratls TRUST-POLICY COLLATERAL-URL MRSIGNER")
	}
	endpoint, err := newEndpoint(ctx, args[0], args[1], args[2])
	if err != nil {
		return err
	}
	if peer := os.Getenv("PEER"); peer != "" {
		return send(ctx, endpoint, peer)
	}
	return receive(ctx, endpoint)
}

// newEndpoint makes an end of connections that shows evidence of this enclave and
// accepts only peers of the signer.
func newEndpoint(ctx context.Context, policyFile, collateralURL, mrsigner string) (*ratls.Endpoint, error) {
	policy, err := appraise.LoadTrustPolicy(policyFile)
	if err != nil {
		return nil, err
	}
	collateral, err := pcs.New(collateralURL, pcs.Options{})
	if err != nil {
		return nil, err
	}
	appraiser, err := appraise.New(policy, collateral, appraise.Options{})
	if err != nil {
		return nil, err
	}
	attester, err := attest.Detect(attest.Paths{})
	if err != nil {
		return nil, err
	}
	return ratls.New(ctx, ratls.Config{Attester: attester, Appraiser: appraiser, Authorize: func(peer *appraise.Claims) error {
		if peer.SGX == nil || peer.SGX.MRSIGNER != mrsigner || peer.SGX.ISVSVN < 1 {
			return errors.New("not an enclave of our signer")
		}
		return nil
	}})
}

// greeting is what an enclave says to a peer that it has accepted.
const greeting = "welcome\n"

func send(ctx context.Context, endpoint *ratls.Endpoint, address string) error {
	conn, err := endpoint.Dial(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	// The peer decides after its side of the handshake, and says so by speaking first.
	if _, err := io.ReadFull(conn, make([]byte, len(greeting))); err != nil {
		return err
	}
	if _, err := io.WriteString(conn, "only for you"); err != nil {
		return err
	}
	if err := conn.CloseWrite(); err != nil {
		return err
	}
	answer, err := io.ReadAll(io.LimitReader(conn, 1024))
	if err != nil {
		return err
	}
	fmt.Printf("answer: %s\n", answer)
	return nil
}

// receive takes connections until one of them is of an accepted peer.
func receive(ctx context.Context, endpoint *ratls.Endpoint) error {
	listener, err := endpoint.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer listener.Close()
	fmt.Printf("listening on %s\n", listener.Addr())
	for {
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		if err = answer(ctx, conn.(*ratls.Conn)); err == nil {
			return nil
		}
		fmt.Printf("refused: %v\n", err)
	}
}

func answer(ctx context.Context, conn *ratls.Conn) (err error) {
	defer func() { err = errors.Join(err, conn.Close()) }()
	peer, err := conn.Peer(ctx)
	if err != nil {
		return err
	}
	if _, err := io.WriteString(conn, greeting); err != nil {
		return err
	}
	message, err := io.ReadAll(io.LimitReader(conn, 1024))
	if err != nil {
		return err
	}
	if _, err := io.WriteString(conn, "received"); err != nil {
		return err
	}
	fmt.Printf("enclave %.16s… of our signer says: %s\n", peer.SGX.MRENCLAVE, message)
	return nil
}
