package server_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/adyton-dev/adyton/internal/broker"
	"github.com/adyton-dev/adyton/internal/broker/admin"
	"github.com/adyton-dev/adyton/internal/broker/api"
	"github.com/adyton-dev/adyton/internal/broker/audit"
	"github.com/adyton-dev/adyton/internal/broker/owner"
	"github.com/adyton-dev/adyton/internal/broker/server"
	"github.com/adyton-dev/adyton/internal/broker/store/bolt"
	"github.com/adyton-dev/adyton/internal/broker/vault"
)

// serveEnv makes the test binary be a broker: its value is the directory.
const serveEnv = "ADYTON_TEST_SERVE_BROKER"

func TestMain(m *testing.M) {
	if dir := os.Getenv(serveEnv); dir != "" {
		if err := serveBroker(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// serveBroker is the real server in a process of its own.
func serveBroker(dir string) error {
	ctx := context.Background()
	b, err := broker.Open(ctx, dir, options(dir))
	if err != nil {
		return err
	}
	limits := server.DefaultLimits()
	limits.Rate, limits.ClientRate = 1e6, 1e6
	s, err := server.New(server.Config{Broker: b, Limits: limits, Metrics: server.NewMetrics(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	if err := b.Started(ctx); err != nil {
		return err
	}
	return s.Serve(ctx, listener, filepath.Join(dir, "ready"))
}

func options(dir string) broker.Options {
	return broker.Options{Means: vault.Means{KeyFile: filepath.Join(dir, broker.KeyFile)}}
}

// kills is how often the broker is killed; writers write at the same time.
const (
	kills   = 220
	writers = 8
)

func TestNoAcknowledgedWriteIsLostBySIGKILL(t *testing.T) {
	t.Parallel()
	if testing.Short() && os.Getenv("CI") != "true" {
		t.Skip("takes a minute")
	}
	dir := filepath.Join(t.TempDir(), "broker")
	if _, err := broker.Init(t.Context(), dir, broker.InitOptions{Protection: vault.KeyFile}); err != nil {
		t.Fatal(err)
	}
	verifier, err := broker.AuditVerifier(dir)
	if err != nil {
		t.Fatal(err)
	}
	ownerKey := registerOwner(t, dir)

	acknowledged := make(map[string]int64) // resource → how often it was acknowledged
	inFlight := make(map[string]bool)      // resources whose last write was not acknowledged
	var total int
	var checkpoint []byte
	for round := range kills {
		total += killDuringWrites(t, dir, ownerKey, acknowledged, inFlight)

		s, err := bolt.Open(filepath.Join(dir, broker.StoreFile))
		if err != nil {
			t.Fatalf("after kill %d: %v", round+1, err)
		}
		var earlier [][]byte
		if checkpoint != nil {
			earlier = append(earlier, checkpoint)
		}
		if _, err := audit.VerifyStore(t.Context(), s, verifier, earlier...); err != nil {
			t.Fatalf("after kill %d: %v", round+1, err)
		}
		if checkpoint, err = audit.StoredCheckpoint(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		checkResources(t, dir, acknowledged, inFlight)
	}
	t.Logf("%d kills, %d acknowledged writes, none lost; the audit log verified after every kill", kills, total)
}

// registerOwner makes the owner of repository r.
func registerOwner(t *testing.T, dir string) ed25519.PrivateKey {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pem, err := owner.MarshalPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	b, err := broker.Open(t.Context(), dir, options(dir))
	if err != nil {
		t.Fatal(err)
	}
	if err := b.AddOwner(t.Context(), broker.Admin(), api.Owner{Name: "o", PublicKey: string(pem), Repositories: []string{"r"}}); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	return private
}

// killDuringWrites starts the broker, writes as fast as it answers, and kills it
// at a random instant. Each write makes a resource's next version.
func killDuringWrites(t *testing.T, dir string, key ed25519.PrivateKey, acknowledged map[string]int64, inFlight map[string]bool) int {
	t.Helper()
	ready := filepath.Join(dir, "ready")
	if err := os.RemoveAll(ready); err != nil {
		t.Fatal(err)
	}
	var stderr strings.Builder
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), serveEnv+"="+dir)
	cmd.Stderr = &stderr
	// The broker does not outlive a test that fails.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	url := awaitFile(t, ready, &stderr)

	var mu sync.Mutex
	total := 0
	var wg sync.WaitGroup
	for w := range writers {
		c, err := admin.NewWithKey(url, "", key)
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			for n := 0; ; n++ {
				name := fmt.Sprintf("r/w%d/%d", w, n%4)
				mu.Lock()
				inFlight[name] = true
				next := acknowledged[name] + 1
				mu.Unlock()
				if err := c.PutResource(context.Background(), name, fmt.Append(nil, name, " ", next), nil, false); err != nil {
					return // killed
				}
				mu.Lock()
				acknowledged[name], inFlight[name] = next, false
				total++
				mu.Unlock()
			}
		})
	}
	time.Sleep(time.Duration(mathrand.IntN(100)) * time.Millisecond) // the random instant is what is tested
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
	wg.Wait()
	return total
}

func awaitFile(t *testing.T, path string, stderr fmt.Stringer) string {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		if data, err := os.ReadFile(path); err == nil {
			return string(data)
		}
	}
	t.Fatalf("the broker did not start: %s", stderr)
	return ""
}

// checkResources checks that every resource has at least its last acknowledged
// write. A write that was not acknowledged may have been made: then it counts as
// acknowledged from here on.
func checkResources(t *testing.T, dir string, acknowledged map[string]int64, inFlight map[string]bool) {
	t.Helper()
	b, err := broker.Open(t.Context(), dir, options(dir))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}()
	list, err := b.Resources(t.Context(), broker.Admin())
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]api.Metadata)
	for _, m := range list {
		got[m.Resource] = m
	}
	for name := range inFlight {
		want, m := acknowledged[name], got[name]
		if m.Version != want && !(inFlight[name] && m.Version == want+1) {
			t.Fatalf("resource %s is at version %d, %d was acknowledged", name, m.Version, want)
		}
		if m.Version > 0 && m.Size != len(fmt.Append(nil, name, " ", m.Version)) {
			t.Fatalf("resource %s version %d has %d bytes", name, m.Version, m.Size)
		}
		acknowledged[name], inFlight[name] = m.Version, false
	}
}
