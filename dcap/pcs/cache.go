package pcs

import (
	"crypto/x509"
	"encoding/json"
	"sync"
	"time"
)

// cache keeps answers until they expire. It holds unverified bytes and exists to
// spare requests only.
type cache struct {
	mu      sync.Mutex
	entries map[string]entry // by URL
}

type entry struct {
	response
	until time.Time
}

func (c *cache) get(target string, now time.Time) (response, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.entries[target]
	if !ok || !now.Before(e.until) {
		return response{}, false
	}
	return e.response, true
}

// put keeps an answer, in place of the one that expires first if the cache is full.
func (c *cache) put(target string, doc response, now, until time.Time) {
	if !now.Before(until) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, known := c.entries[target]; !known && len(c.entries) >= maxEntries {
		first := ""
		for other, e := range c.entries {
			if first == "" || e.until.Before(c.entries[first].until) {
				first = other
			}
		}
		delete(c.entries, first)
	}
	c.entries[target] = entry{doc, until}
}

// expiryOf gives a document's nextUpdate, at most limit. A PCK certificate has none.
func expiryOf(body []byte, limit time.Time) time.Time {
	type dated struct {
		NextUpdate time.Time `json:"nextUpdate"`
	}
	var signed struct {
		TCBInfo         dated `json:"tcbInfo"`
		EnclaveIdentity dated `json:"enclaveIdentity"`
	}
	var next time.Time
	if json.Unmarshal(body, &signed) == nil {
		next = signed.TCBInfo.NextUpdate
		if next.IsZero() {
			next = signed.EnclaveIdentity.NextUpdate
		}
	} else if list, err := x509.ParseRevocationList(derOf(body)); err == nil {
		next = list.NextUpdate
	}
	if !next.IsZero() && next.Before(limit) {
		return next
	}
	return limit
}
