package appraise

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

// AMDKDS is where go-sev-guest's URLs point: AMD's Key Distribution Service.
const AMDKDS = "https://kdsintf.amd.com"

const (
	maxVCEK   = 16 << 10
	maxCached = 1024
)

// KDS fetches certificates from AMD's Key Distribution Service, or from a mirror,
// and remembers them: AMD answers the same request once in 10 seconds.
type KDS struct {
	base   string
	client *http.Client

	mu     sync.Mutex
	cached map[string][]byte // by URL; what AMD serves there never changes
}

// NewKDS makes a client. base is [AMDKDS] or a mirror's URL; empty: AMDKDS.
func NewKDS(base string) *KDS {
	if base == "" {
		base = AMDKDS
	}
	return &KDS{
		base:   strings.TrimSuffix(base, "/"),
		client: &http.Client{Timeout: 20 * time.Second},
		cached: make(map[string][]byte),
	}
}

// Get fetches a URL below AMDKDS.
func (k *KDS) Get(ctx context.Context, url string) ([]byte, error) {
	k.mu.Lock()
	body, ok := k.cached[url]
	k.mu.Unlock()
	if ok {
		return body, nil
	}
	path, ok := strings.CutPrefix(url, AMDKDS+"/")
	if !ok {
		return nil, fmt.Errorf("%s is not of AMD's KDS", url)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, k.base+"/"+path, nil)
	if err != nil {
		return nil, err
	}
	response, err := k.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answered %s", k.base, response.Status)
	}
	body, err = io.ReadAll(io.LimitReader(response.Body, maxVCEK+1))
	if err != nil {
		return nil, err
	}
	if len(body) > maxVCEK {
		return nil, fmt.Errorf("%s answered more than %d bytes", k.base, maxVCEK)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.cached) >= maxCached {
		clear(k.cached)
	}
	k.cached[url] = body
	return body, nil
}
