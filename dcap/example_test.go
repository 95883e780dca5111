package dcap_test

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/adyton-dev/adyton/dcap"
	"github.com/adyton-dev/adyton/dcap/pcs"
	"github.com/adyton-dev/adyton/refusal"
)

// Fetch the collateral for a quote, verify it, then judge it.
func Example_verify() {
	raw, err := os.ReadFile("quote.bin")
	if err != nil {
		fmt.Println(err)
		return
	}
	quote, err := dcap.ParseQuote(raw)
	if err != nil {
		fmt.Println(err)
		return
	}
	service, err := pcs.New(pcs.IntelURL, pcs.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	collateral, err := service.Collateral(context.Background(), quote)
	if err != nil {
		fmt.Println(err)
		return
	}

	// Keep the verifier: it remembers what it has verified.
	verifier, err := dcap.NewVerifier(dcap.VerifierOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	result, err := verifier.Verify(raw, collateral, time.Now())
	if err != nil {
		fmt.Println("could not be verified:", refusal.Of(err), err)
		return
	}

	policy := dcap.Policy{
		Statuses:            []dcap.Status{dcap.SWHardeningNeeded},
		Advisories:          []string{"INTEL-SA-00615"},
		MinEvaluationNumber: 18,
		CollateralGrace:     24 * time.Hour,
		Rollback:            new(dcap.RollbackGuard),
	}
	if err := policy.Appraise(result); err != nil {
		fmt.Println("refused:", refusal.Of(err), err)
		return
	}
	fmt.Printf("%s on FMSPC %s is %s\n", result.Quote.TEE, result.PCK.FMSPC, result.Status)
}
