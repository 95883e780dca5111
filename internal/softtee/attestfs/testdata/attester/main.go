// Command attester is what TestGVisor runs in the sandbox: it attests several times
// and prints what it saw.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"syscall"
)

func main() {
	if err := run("/dev/attestation"); err != nil {
		fmt.Println("failed:", err)
		os.Exit(1)
	}
	fmt.Println("attested")
}

func run(dir string) error {
	for i := range byte(5) {
		data := bytes.Repeat([]byte{i + 1}, 64)
		if err := os.WriteFile(dir+"/user_report_data", data, 0); err != nil {
			return err
		}
		quote, err := os.ReadFile(dir + "/quote")
		if err != nil {
			return err
		}
		if len(quote) != 12*384 || !bytes.Equal(quote[320:384], data) {
			return fmt.Errorf("attestation %d: a quote of %d bytes that is not of what was written", i, len(quote))
		}
	}
	for name, size := range map[string]int{"my_target_info": 512, "report": 432, "attestation_type": 4, "keys/_sgx_mrenclave": 16, "keys/_sgx_mrsigner": 16} {
		content, err := os.ReadFile(dir + "/" + name)
		if err != nil || len(content) != size {
			return fmt.Errorf("%s has %d bytes (%v), want %d", name, len(content), err, size)
		}
	}
	key := bytes.Repeat([]byte{7}, 16)
	if err := os.WriteFile(dir+"/keys/default", key, 0); err != nil {
		return err
	}
	if got, err := os.ReadFile(dir + "/keys/default"); err != nil || !bytes.Equal(got, key) {
		return fmt.Errorf("keys/default = %x (%v)", got, err)
	}
	if err := os.WriteFile(dir+"/keys/default", key[:15], 0); !errors.Is(err, syscall.EACCES) {
		return fmt.Errorf("a key of 15 bytes = %v, want EACCES", err)
	}
	return nil
}
