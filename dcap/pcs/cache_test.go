package pcs

import (
	"fmt"
	"testing"
	"time"
)

func TestCacheKeepsUntilNextUpdateAndIsBounded(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 6, 15, 12, 0, 0, 0, time.UTC)
	limit := now.Add(time.Hour)
	for _, row := range []struct {
		body string
		want time.Time
	}{
		{`{"tcbInfo":{"nextUpdate":"2026-06-15T12:30:00Z"}}`, now.Add(30 * time.Minute)},
		{`{"enclaveIdentity":{"nextUpdate":"2026-06-15T12:10:00Z"}}`, now.Add(10 * time.Minute)},
		{`{"tcbInfo":{"nextUpdate":"2099-01-01T00:00:00Z"}}`, limit},
		{"-----BEGIN CERTIFICATE-----", limit},
	} {
		if got := expiryOf([]byte(row.body), limit); !got.Equal(row.want) {
			t.Errorf("expiry of %s = %s, want %s", row.body, got, row.want)
		}
	}
	c := cache{entries: map[string]entry{}}
	c.put("expired", response{}, now, now)
	if _, ok := c.get("expired", now); ok {
		t.Error("an expired document is kept")
	}
	for i := range maxEntries + 10 {
		c.put(fmt.Sprint(i), response{body: []byte{1}}, now, now.Add(time.Duration(i+1)*time.Second))
	}
	if len(c.entries) != maxEntries {
		t.Errorf("%d entries, the bound is %d", len(c.entries), maxEntries)
	}
	if _, ok := c.get("0", now); ok {
		t.Error("the first to expire is still there")
	}
	if _, ok := c.get("200", now.Add(201*time.Second)); ok {
		t.Error("an entry is served at its end")
	}
}
