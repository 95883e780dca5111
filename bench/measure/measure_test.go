package measure

import (
	"bytes"
	"testing"

	"github.com/adyton-dev/adyton/sgx"
)

func TestPagesAndStreamAreTheSameEnclave(t *testing.T) {
	t.Parallel()
	enclave := bytes.Repeat([]byte("enclave "), 2*sgx.PageSize/8)
	inMemory, err := pages(enclave)
	if err != nil {
		t.Fatal(err)
	}
	streamed, err := sgx.MeasureSGXS(bytes.NewReader(sgxs(enclave)))
	if err != nil || streamed != inMemory {
		t.Errorf("stream gives %s, %v; pages give %s", streamed, err, inMemory)
	}
}
