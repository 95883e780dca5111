package server

import (
	"fmt"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"

	"github.com/adyton-dev/adyton/refusal"
)

// Limits bound what clients may ask of the server.
type Limits struct {
	// Rate is how many requests a second are served, of all clients together and
	// of one IP address; bursts of twice that are served at once.
	Rate, ClientRate float64
	// Pending and Attested are how many sessions wait for evidence and are attested.
	Pending, Attested int
	// Connections is how many are open at a time.
	Connections int
}

// DefaultLimits are for one machine. A client address may stand for many
// enclaves, because `adyton run` relays them.
func DefaultLimits() Limits {
	return Limits{Rate: 2000, ClientRate: 500, Pending: 8192, Attested: 16384, Connections: 1024}
}

// clients is how many addresses' rates are kept; beyond that the least recently
// seen is forgotten, and the global rate still holds.
const clients = 8192

type limiter struct {
	global    *rate.Limiter
	perClient rate.Limit
	clients   *lru.Cache[string, *rate.Limiter]
}

func newLimiter(l Limits) (*limiter, error) {
	cache, err := lru.New[string, *rate.Limiter](clients)
	if err != nil {
		return nil, fmt.Errorf("rate limits: %w", err)
	}
	return &limiter{
		global:    rate.NewLimiter(rate.Limit(l.Rate), burst(l.Rate)),
		perClient: rate.Limit(l.ClientRate),
		clients:   cache,
	}, nil
}

func burst(perSecond float64) int { return max(1, int(2*perSecond)) }

// allow gives a refusal of reason RateLimited if client asks too often. A client
// over its own rate does not use up the others'.
func (l *limiter) allow(client string) error {
	own, ok := l.clients.Get(client)
	if !ok {
		own = rate.NewLimiter(l.perClient, burst(float64(l.perClient)))
		// Another request may have been first: its limiter counts.
		if earlier, found, _ := l.clients.PeekOrAdd(client, own); found {
			own = earlier
		}
	}
	if !own.Allow() {
		return refusal.New(refusal.RateLimited, "more than %g requests a second from one address; retry in a second", float64(l.perClient))
	}
	if !l.global.Allow() {
		return refusal.New(refusal.RateLimited, "more than %g requests a second; retry in a second", float64(l.global.Limit()))
	}
	return nil
}
