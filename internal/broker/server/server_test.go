package server_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/gowebpki/jcs"

	"github.com/adyton-dev/adyton/appraise"
	"github.com/adyton-dev/adyton/attest"
	"github.com/adyton-dev/adyton/attest/kbs"
	"github.com/adyton-dev/adyton/internal/broker"
	"github.com/adyton-dev/adyton/internal/broker/admin"
	"github.com/adyton-dev/adyton/internal/broker/api"
	"github.com/adyton-dev/adyton/internal/broker/audit"
	"github.com/adyton-dev/adyton/internal/broker/owner"
	"github.com/adyton-dev/adyton/internal/broker/server"
	"github.com/adyton-dev/adyton/internal/broker/vault"
	"github.com/adyton-dev/adyton/refusal"
)

// appraiser accepts evidence whose quote is the report data that is expected,
// which shows that client and broker bind the same bytes, and refuses as told.
type appraiser struct{ refuse refusal.Reason }

func (a appraiser) Appraise(_ context.Context, e *attest.Evidence, expect appraise.Expect) (*appraise.Claims, error) {
	if a.refuse != "" {
		return nil, refusal.New(a.refuse, "as told")
	}
	if !bytes.Equal(e.Quote, expect.ReportData[:]) {
		return nil, refusal.New(refusal.ReportDataMismatch, "not bound to this session")
	}
	c := &appraise.Claims{
		TEE: e.TEE, Root: appraise.RootClaims{Name: "test", Software: true}, TCB: appraise.TCBClaims{Status: "UpToDate"},
		InitData: map[string]any{},
	}
	switch e.TEE {
	case attest.SGX:
		c.SGX = &appraise.SGXClaims{MRSIGNER: "aa", MRENCLAVE: "bb", ISVProdID: 7, ISVSVN: 2}
	case attest.TDX:
		c.TDX = &appraise.TDXClaims{MRTD: "cc"}
	case attest.SNP:
		c.SNP = &appraise.SNPClaims{Measurement: "dd"}
	}
	if expect.InitData != nil {
		c.InitData["sandbox"] = string(expect.InitData)
	}
	return c, nil
}

// attester makes such evidence.
type attester struct{ tee string }

func (a attester) TEE() string { return a.tee }

func (a attester) Evidence(_ context.Context, reportData [attest.ReportDataSize]byte) (*attest.Evidence, error) {
	return &attest.Evidence{TEE: a.tee, Quote: reportData[:]}, nil
}

type fixture struct {
	t      testing.TB
	broker *broker.Broker
	http   *httptest.Server
	dir    string
	admin  *admin.Client
	// hospital owns repository hospital-a, bank owns bank.
	hospital, bank *admin.Client
	now            func() time.Time
}

type fixtureOptions struct {
	limits    server.Limits
	appraiser appraiser
	now       func() time.Time
}

func start(t testing.TB, edit ...func(*fixtureOptions)) *fixture {
	t.Helper()
	opts := fixtureOptions{limits: server.DefaultLimits(), now: time.Now}
	opts.limits.ClientRate, opts.limits.Rate = 1e6, 1e6
	for _, e := range edit {
		e(&opts)
	}
	f := &fixture{t: t, dir: filepath.Join(t.TempDir(), "broker"), now: opts.now}
	if _, err := broker.Init(t.Context(), f.dir, broker.InitOptions{Protection: vault.KeyFile}); err != nil {
		t.Fatal(err)
	}
	metrics := server.NewMetrics()
	var err error
	f.broker, err = broker.Open(t.Context(), f.dir, broker.Options{
		Means:     vault.Means{KeyFile: filepath.Join(f.dir, broker.KeyFile)},
		Appraiser: opts.appraiser, OnDecision: metrics.Decision, Now: opts.now,
	})
	if err != nil {
		t.Fatal(err)
	}
	s, err := server.New(server.Config{Broker: f.broker, Limits: opts.limits, Metrics: metrics, Log: slog.New(slog.DiscardHandler), Now: opts.now})
	if err != nil {
		t.Fatal(err)
	}
	f.http = httptest.NewServer(s.Handler())
	t.Cleanup(func() {
		f.http.Close()
		if err := f.broker.Close(); err != nil {
			t.Error(err)
		}
	})
	if f.admin, err = admin.New(f.http.URL, "", filepath.Join(f.dir, broker.AdminKeyFile)); err != nil {
		t.Fatal(err)
	}
	f.hospital = f.owner("hospital", "hospital-a")
	f.bank = f.owner("bank", "bank")
	return f
}

func (f *fixture) owner(name string, repositories ...string) *admin.Client {
	f.t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		f.t.Fatal(err)
	}
	pem, err := owner.MarshalPublicKey(public)
	if err != nil {
		f.t.Fatal(err)
	}
	if err := f.admin.AddOwner(f.t.Context(), api.Owner{Name: name, PublicKey: string(pem), Repositories: repositories}); err != nil {
		f.t.Fatal(err)
	}
	c, err := admin.NewWithKey(f.http.URL, "", private)
	if err != nil {
		f.t.Fatal(err)
	}
	return c
}

func (f *fixture) client(edit ...func(*kbs.Options)) *kbs.Client {
	f.t.Helper()
	opts := kbs.Options{URL: f.http.URL, AllowHTTP: true, Attester: attester{attest.SGX}}
	for _, e := range edit {
		e(&opts)
	}
	c, err := kbs.New(opts)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(c.Close)
	return c
}

func releasePolicy(validations ...string) []byte {
	return []byte("apiVersion: adyton.dev/v1alpha1\nkind: ReleasePolicy\nspec:\n  validations:\n  - " + strings.Join(validations, "\n  - ") + "\n")
}

const key = "hospital-a/key/cohort"

func TestAnApprovedEnclaveGetsTheKey(t *testing.T) {
	t.Parallel()
	for _, algorithm := range []string{kbs.ECDH, kbs.RSAOAEP} {
		for _, tee := range []string{attest.SGX, attest.TDX, attest.SNP} {
			t.Run(algorithm+" "+tee, func(t *testing.T) {
				t.Parallel()
				f := start(t)
				if err := f.hospital.PutResource(t.Context(), key, []byte("secret"), releasePolicy(fmt.Sprintf("expression: tee == '%s'", tee)), false); err != nil {
					t.Fatal(err)
				}
				c := f.client(func(o *kbs.Options) { o.KeyAlgorithm, o.Attester = algorithm, attester{tee} })
				got, err := c.Resource(t.Context(), "kbs:///"+key)
				if err != nil || string(got) != "secret" {
					t.Errorf("got %q, %v", got, err)
				}
			})
		}
	}
}

func TestTheReleasePolicyDecides(t *testing.T) {
	t.Parallel()
	f := start(t)
	ctx := t.Context()
	put := func(path, policy string) {
		t.Helper()
		var text []byte
		if policy != "" {
			text = releasePolicy(policy)
		}
		if err := f.hospital.PutResource(ctx, path, []byte("v"), text, false); err != nil {
			t.Fatal(err)
		}
	}
	put("hospital-a/key/own", "{expression: sgx.isv_svn >= 3, reason: SVNTooLow}")
	put("hospital-a/key/shared", "")
	put("hospital-a/key/init", "{expression: init_data.sandbox == 'gvisor', reason: SandboxRequired}")
	put("hospital-a/key/tdx", "expression: tdx.mr_td == 'cc'")
	get := func(path string) refusal.Reason {
		t.Helper()
		_, err := f.client().Resource(ctx, path)
		return refusal.Of(err)
	}
	check := func(step, path string, want refusal.Reason) {
		t.Helper()
		if got := get(path); got != want {
			t.Errorf("%s: %s: got %q, want %q", step, path, got, want)
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check("own policy", "hospital-a/key/own", refusal.SVNTooLow)
	check("without a policy", "hospital-a/key/shared", refusal.PolicyDenied)
	check("a claim is missing", "hospital-a/key/init", refusal.PolicyInvalid)
	check("another TEE's claim", "hospital-a/key/tdx", refusal.PolicyInvalid)
	check("no such resource", "hospital-a/key/none", refusal.ResourceNotFound)

	must(f.hospital.SetPolicy(ctx, "hospital-a", releasePolicy("expression: sgx.mrsigner == 'aa'")))
	check("repository policy", "hospital-a/key/shared", "")
	check("own policy goes before the repository's", "hospital-a/key/own", refusal.SVNTooLow)
	must(f.hospital.DeletePolicy(ctx, "hospital-a/key/own"))
	check("the repository's after the own is removed", "hospital-a/key/own", "")
	must(f.admin.SetPolicy(ctx, "", releasePolicy("{expression: '!root.software', reason: SoftwareRootNotTrusted}")))
	check("the broker's policy must pass too", "hospital-a/key/shared", refusal.SoftwareRootNotTrusted)
	must(f.admin.DeletePolicy(ctx, ""))
	check("the broker's policy is removed", "hospital-a/key/shared", "")
	must(f.hospital.SetPolicy(ctx, "hospital-a/key/shared", []byte("apiVersion: adyton.dev/v1alpha1\nkind: ReleasePolicy\nspec: {validations: []}\n")))
	check("no validations refuses", "hospital-a/key/shared", refusal.PolicyDenied)
	if text, err := f.hospital.Policy(ctx, "hospital-a"); err != nil || !bytes.Contains(text, []byte("mrsigner")) {
		t.Errorf("policy is %q, %v", text, err)
	}
	c := f.client(func(o *kbs.Options) { o.InitData = []byte("gvisor") })
	if _, err := c.Resource(ctx, "hospital-a/key/init"); err != nil {
		t.Errorf("with init-data: %v", err)
	}
	must(f.hospital.DeleteResource(ctx, "hospital-a/key/shared"))
	check("a deleted resource", "hospital-a/key/shared", refusal.ResourceNotFound)
}

func TestAResourceIsCreatedOnce(t *testing.T) {
	t.Parallel()
	f := start(t)
	if err := f.hospital.PutResource(t.Context(), key, []byte("first"), nil, true); err != nil {
		t.Fatal(err)
	}
	if err := f.hospital.PutResource(t.Context(), key, []byte("second"), nil, true); !errors.Is(err, admin.ErrExists) {
		t.Errorf("got %v, want ErrExists", err)
	}
	m, err := f.hospital.Metadata(t.Context(), key)
	if err != nil || m.Version != 1 || m.Size != 5 || m.Owner != "hospital" || m.Policy != "" {
		t.Errorf("metadata %+v, %v", m, err)
	}
	list, err := f.hospital.Resources(t.Context())
	if err != nil || len(list) != 1 || list[0].Resource != key {
		t.Errorf("resources %+v, %v", list, err)
	}
}

func TestOwnersChangeOnlyTheirOwn(t *testing.T) {
	t.Parallel()
	f := start(t)
	ctx := t.Context()
	if err := f.hospital.PutResource(ctx, key, []byte("secret"), nil, false); err != nil {
		t.Fatal(err)
	}
	public, private, _ := ed25519.GenerateKey(rand.Reader)
	pem, err := owner.MarshalPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	thief := api.Owner{Name: "thief", PublicKey: string(pem), Repositories: []string{"hospital-a"}}
	stranger, err := admin.NewWithKey(f.http.URL, "", private)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		err  error
		want refusal.Reason
	}{
		"another's resource":                  {f.bank.PutResource(ctx, key, []byte("x"), nil, false), refusal.Forbidden},
		"another's policy":                    {f.bank.SetPolicy(ctx, "hospital-a", releasePolicy("expression: 'true'")), refusal.Forbidden},
		"another's resource policy":           {f.bank.SetPolicy(ctx, key, releasePolicy("expression: 'true'")), refusal.Forbidden},
		"the administrator changes none":      {f.admin.SetPolicy(ctx, key, releasePolicy("expression: 'true'")), refusal.Forbidden},
		"the administrator stores none":       {f.admin.PutResource(ctx, key, []byte("x"), nil, false), refusal.Forbidden},
		"delete another's":                    {f.bank.DeleteResource(ctx, key), refusal.Forbidden},
		"the broker's policy":                 {f.bank.SetPolicy(ctx, "", releasePolicy("expression: 'true'")), refusal.Forbidden},
		"owners register no owners":           {f.bank.AddOwner(ctx, api.Owner{Name: "x"}), refusal.Forbidden},
		"owners remove no owners":             {f.bank.RemoveOwner(ctx, "hospital", true), refusal.Forbidden},
		"an unknown key":                      {stranger.PutResource(ctx, key, []byte("x"), nil, false), refusal.Unauthorized},
		"the audit log":                       {func() error { _, err := f.bank.Records(ctx, 0, 1); return err }(), refusal.Forbidden},
		"a repository that has an owner":      {f.admin.AddOwner(ctx, thief), "conflict"},
		"an owner who still has resources":    {f.admin.RemoveOwner(ctx, "hospital", false), "conflict"},
		"an invalid policy":                   {f.hospital.SetPolicy(ctx, "hospital-a", []byte("kind: x")), refusal.PolicyInvalid},
		"a policy of a resource that is none": {f.hospital.SetPolicy(ctx, "hospital-a/a/b", releasePolicy("expression: 'true'")), refusal.ResourceNotFound},
	} {
		got := refusal.Of(c.err)
		if c.err != nil && got == "" && strings.Contains(c.err.Error(), "conflict") {
			got = "conflict"
		}
		if got != c.want {
			t.Errorf("%s: got %v, want %s", name, c.err, c.want)
		}
	}
	if err := f.admin.RemoveOwner(ctx, "hospital", true); err != nil {
		t.Fatal(err)
	}
	if err := f.hospital.PutResource(ctx, key, []byte("x"), nil, false); refusal.Of(err) != refusal.Unauthorized {
		t.Errorf("after removal: %v", err)
	}
	if err := f.admin.AddOwner(ctx, thief); err != nil {
		t.Errorf("a shredded repository is free: %v", err)
	}
}

// send makes a raw request and gives its status, problem and cookie.
func (f *fixture) send(method, path, body string, header ...string) (int, kbs.ErrorInformation, string) {
	f.t.Helper()
	req, err := http.NewRequestWithContext(f.t.Context(), method, f.http.URL+path, strings.NewReader(body))
	if err != nil {
		f.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		f.t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		f.t.Fatal(err)
	}
	var p kbs.ErrorInformation
	_ = json.Unmarshal(data, &p)
	for _, c := range resp.Cookies() {
		return resp.StatusCode, p, c.Name + "=" + c.Value + ";" + string(data)
	}
	return resp.StatusCode, p, string(data)
}

const authBody = `{"version":"0.4.0","tee":"sgx","extra-params":""}`

// challenge opens a session and gives its cookie and nonce.
func (f *fixture) challenge(tee string) (cookie, nonce string) {
	f.t.Helper()
	code, _, answer := f.send("POST", kbs.AuthPath, `{"version":"0.4.0","tee":"`+tee+`","extra-params":""}`)
	cookie, body, _ := strings.Cut(answer, ";")
	var c kbs.Challenge
	if err := json.Unmarshal([]byte(body), &c); err != nil || code != 200 {
		f.t.Fatalf("auth: %d %s", code, answer)
	}
	return cookie, c.Nonce
}

// jwk is a TEE's public key.
func jwk(t testing.TB) json.RawMessage {
	t.Helper()
	// A point of P-256: RFC 7517 appendix A.1.
	return json.RawMessage(`{"kty":"EC","crv":"P-256","alg":"ECDH-ES+A256KW","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}`)
}

func evidence(t testing.TB, nonce string, bare bool) string {
	t.Helper()
	if bare {
		return fmt.Sprintf(`{"runtime-data":{"nonce":%q,"tee-pubkey":%s},"tee-evidence":{"quote":"AAAA"}}`, nonce, jwk(t))
	}
	rd, err := kbs.ReportData(nonce, jwk(t), "")
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf(`{"runtime-data":{"nonce":%q,"tee-pubkey":%s},"tee-evidence":{"primary_evidence":{"quote":%q},"additional_evidence":""}}`,
		nonce, jwk(t), base64.StdEncoding.EncodeToString(rd[:]))
}

func TestEveryErrorHasItsOwnStatus(t *testing.T) {
	t.Parallel()
	f := start(t)
	if err := f.hospital.PutResource(t.Context(), key, []byte("v"), releasePolicy("expression: debug"), false); err != nil {
		t.Fatal(err)
	}
	attested := func() string {
		cookie, nonce := f.challenge("sgx")
		if code, p, _ := f.send("POST", kbs.AttestPath, evidence(t, nonce, false), "Cookie", cookie); code != 200 {
			t.Fatalf("attest: %d %+v", code, p)
		}
		return cookie
	}
	fresh := func() string { cookie, _ := f.challenge("sgx"); return cookie }
	nonce := func(edit func(nonce string) string) (string, string) {
		cookie, n := f.challenge("sgx")
		return cookie, edit(n)
	}
	type request struct {
		method, path, body string
		header             []string
	}
	withNonce := func(edit func(nonce string) string) request {
		cookie, body := nonce(edit)
		return request{"POST", kbs.AttestPath, body, []string{"Cookie", cookie}}
	}
	for name, c := range map[string]struct {
		request
		code    int
		variant string
		reason  refusal.Reason
	}{
		"auth: not JSON":          {request{"POST", kbs.AuthPath, "{", nil}, 400, "InvalidRequest", ""},
		"auth: too large":         {request{"POST", kbs.AuthPath, `{"version":"` + strings.Repeat("x", 20000) + `"}`, nil}, 413, "RequestTooLarge", ""},
		"auth: version 0.5":       {request{"POST", kbs.AuthPath, `{"version":"0.5.0","tee":"sgx","extra-params":""}`, nil}, 400, "ProtocolVersion", refusal.EvidenceUnsupported},
		"auth: version 1.0":       {request{"POST", kbs.AuthPath, `{"version":"1.0.0","tee":"sgx","extra-params":""}`, nil}, 400, "ProtocolVersion", refusal.EvidenceUnsupported},
		"auth: unknown TEE":       {request{"POST", kbs.AuthPath, `{"version":"0.4.0","tee":"sample","extra-params":""}`, nil}, 400, "InvalidEvidence", refusal.EvidenceUnsupported},
		"auth: other hash":        {request{"POST", kbs.AuthPath, `{"version":"0.4.0","tee":"sgx","extra-params":{"supported-hash-algorithms":["md5"]}}`, nil}, 400, "InvalidEvidence", refusal.EvidenceUnsupported},
		"attest: no cookie":       {request{"POST", kbs.AttestPath, "{}", nil}, 401, "InvalidSession", refusal.SessionInvalid},
		"attest: unknown session": {request{"POST", kbs.AttestPath, "{}", []string{"Cookie", kbs.Cookie + "=x"}}, 401, "InvalidSession", refusal.SessionInvalid},
		"attest: not JSON":        {request{"POST", kbs.AttestPath, "{", []string{"Cookie", fresh()}}, 400, "InvalidRequest", ""},
		"attest: other nonce":     {request{"POST", kbs.AttestPath, evidence(t, "other", false), []string{"Cookie", fresh()}}, 401, "InvalidSession", refusal.SessionInvalid},
		"attest: bad key":         {withNonce(func(n string) string { return `{"runtime-data":{"nonce":"` + n + `","tee-pubkey":{"kty":"EC"}}}` }), 400, "InvalidRequest", refusal.EvidenceMalformed},
		"attest: no evidence":     {withNonce(func(n string) string { return strings.Replace(evidence(t, n, false), `"quote"`, `"q"`, 1) }), 400, "InvalidEvidence", refusal.EvidenceMalformed},
		"attest: not bound":       {withNonce(func(n string) string { return evidence(t, n, true) }), 401, "AttestationFailed", refusal.ReportDataMismatch},
		"attest: more devices": {withNonce(func(n string) string {
			return strings.Replace(evidence(t, n, false), `"additional_evidence":""`, `"additional_evidence":"{\"gpu\":1}"`, 1)
		}), 400, "InvalidEvidence", refusal.EvidenceUnsupported},
		"attest: too large":          {request{"POST", kbs.AttestPath, strings.Repeat("x", 600<<10), []string{"Cookie", fresh()}}, 413, "RequestTooLarge", ""},
		"resource: nobody":           {request{"GET", "/kbs/v0/resource/" + key, "", nil}, 401, "InvalidSession", refusal.SessionInvalid},
		"resource: not attested":     {request{"GET", "/kbs/v0/resource/" + key, "", []string{"Cookie", fresh()}}, 401, "InvalidSession", refusal.SessionInvalid},
		"resource: forged token":     {request{"GET", "/kbs/v0/resource/" + key, "", []string{"Authorization", "Bearer a.b.c"}}, 401, "InvalidSession", refusal.SessionInvalid},
		"resource: denied":           {request{"GET", "/kbs/v0/resource/" + key, "", []string{"Cookie", attested()}}, 403, "PolicyDeny", refusal.PolicyDenied},
		"resource: none":             {request{"GET", "/kbs/v0/resource/hospital-a/key/none", "", []string{"Cookie", attested()}}, 404, "ResourceNotFound", refusal.ResourceNotFound},
		"resource: bad name":         {request{"GET", "/kbs/v0/resource/hospital-a/key/.x", "", []string{"Cookie", attested()}}, 400, "InvalidRequest", ""},
		"admin: no token":            {request{"POST", "/kbs/v0/resource/" + key, "v", nil}, 401, "Unauthorized", refusal.Unauthorized},
		"admin: bad token":           {request{"POST", "/kbs/v0/resource/" + key, "v", []string{"Authorization", "Bearer x"}}, 401, "Unauthorized", refusal.Unauthorized},
		"no such endpoint":           {request{"GET", "/kbs/v0/none", "", nil}, 404, "NotFound", ""},
		"not implemented":            {request{"POST", "/kbs/v0/attestation-policy", "", nil}, 501, "NotImplemented", ""},
		"proof of a tree to come":    {request{"GET", "/adyton/v1/audit/proof/consistency?from=1&size=999999", "", nil}, 400, "InvalidRequest", ""},
		"proof with bad parameters":  {request{"GET", "/adyton/v1/audit/proof/inclusion?record=x&size=1", "", nil}, 400, "InvalidRequest", ""},
		"auth: 0.1 clients may come": {request{"POST", kbs.AuthPath, `{"version":"0.1.1","tee":"sgx","extra-params":""}`, nil}, 200, "", ""},
	} {
		code, p, _ := f.send(c.method, c.path, c.body, c.header...)
		if code != c.code || strings.TrimPrefix(p.Type, kbs.ErrorTypePrefix) != c.variant || p.Reason != c.reason || code >= 400 && p.Detail == "" {
			t.Errorf("%s: got %d %+v, want %d %s %s", name, code, p, c.code, c.variant, c.reason)
		}
	}
}

func TestRefusedEvidenceKeepsItsReason(t *testing.T) {
	t.Parallel()
	for reason, want := range map[refusal.Reason]int{
		refusal.TCBOutOfDate: 401, refusal.SoftwareRootNotTrusted: 401, refusal.CollateralMissing: 503, refusal.EvidenceMalformed: 400,
	} {
		f := start(t, func(o *fixtureOptions) { o.appraiser.refuse = reason })
		cookie, nonce := f.challenge("sgx")
		if code, p, _ := f.send("POST", kbs.AttestPath, evidence(t, nonce, false), "Cookie", cookie); code != want || p.Reason != reason {
			t.Errorf("%s: got %d %+v, want %d", reason, code, p, want)
		}
	}
}

func TestANonceIsGoodForOneTry(t *testing.T) {
	t.Parallel()
	f := start(t)
	cookie, nonce := f.challenge("sgx")
	body := evidence(t, nonce, false)
	if code, _, _ := f.send("POST", kbs.AttestPath, body, "Cookie", cookie); code != 200 {
		t.Fatalf("first: %d", code)
	}
	if code, p, _ := f.send("POST", kbs.AttestPath, body, "Cookie", cookie); code != 401 || p.Reason != refusal.SessionInvalid {
		t.Errorf("again: %d %+v", code, p)
	}
	cookie, nonce = f.challenge("sgx")
	if code, _, _ := f.send("POST", kbs.AttestPath, evidence(t, nonce, true), "Cookie", cookie); code != 401 {
		t.Errorf("unbound: %d", code)
	}
	if code, p, _ := f.send("POST", kbs.AttestPath, evidence(t, nonce, false), "Cookie", cookie); code != 401 || p.Reason != refusal.SessionInvalid {
		t.Errorf("after a failure: %d %+v", code, p)
	}
}

func TestClientsBefore04SendBareEvidence(t *testing.T) {
	t.Parallel()
	f := start(t)
	cookie, nonce := f.challenge("sgx")
	canonical, err := jcs.Transform(fmt.Appendf(nil, `{"nonce":%q,"tee-pubkey":%s}`, nonce, jwk(t)))
	if err != nil {
		t.Fatal(err)
	}
	digest := sha512.Sum384(canonical)
	quote := base64.StdEncoding.EncodeToString(append(digest[:], make([]byte, 16)...))
	body := strings.Replace(evidence(t, nonce, true), `"AAAA"`, strconv.Quote(quote), 1)
	if code, p, _ := f.send("POST", kbs.AttestPath, body, "Cookie", cookie); code != 200 {
		t.Errorf("got %d %+v", code, p)
	}
}

func TestSessionsAreBoundedAndExpire(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	now := time.Now()
	clock := func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	f := start(t, func(o *fixtureOptions) { o.limits.Pending, o.limits.Attested, o.now = 10, 2, clock })
	flooded, _ := f.challenge("sgx")
	var pending []string
	for range 9 {
		c, _ := f.challenge("sgx")
		pending = append(pending, c)
	}
	// Whoever opens sessions and never attests does not lock out others: the
	// oldest pending session gives way.
	cookie, nonce := f.challenge("sgx")
	if code, p, _ := f.send("POST", kbs.AttestPath, "{}", "Cookie", flooded); code != 401 || p.Reason != refusal.SessionInvalid {
		t.Errorf("the oldest pending session: %d %+v", code, p)
	}
	if code, _, _ := f.send("POST", kbs.AttestPath, evidence(t, nonce, false), "Cookie", cookie); code != 200 {
		t.Errorf("a session opened during the flood attests: %d", code)
	}
	// The oldest attested session gives way.
	for range 2 {
		c, n := f.challenge("sgx")
		if code, _, _ := f.send("POST", kbs.AttestPath, evidence(t, n, false), "Cookie", c); code != 200 {
			t.Fatal(code)
		}
	}
	if code, p, _ := f.send("GET", "/kbs/v0/resource/a/b/c", "", "Cookie", cookie); code != 401 {
		t.Errorf("the oldest attested session: %d %+v", code, p)
	}
	mu.Lock()
	now = now.Add(3 * time.Minute)
	mu.Unlock()
	if code, p, _ := f.send("POST", kbs.AttestPath, "{}", "Cookie", pending[0]); code != 401 || p.Reason != refusal.SessionInvalid {
		t.Errorf("expired: %d %+v", code, p)
	}
	f.challenge("sgx")
}

func TestRequestsAreLimitedPerClient(t *testing.T) {
	t.Parallel()
	f := start(t, func(o *fixtureOptions) { o.limits.ClientRate = 10 })
	limited := 0
	for range 40 {
		if code, p, _ := f.send("POST", kbs.AuthPath, authBody); code == 429 && p.Reason == refusal.RateLimited {
			limited++
		}
	}
	if limited < 10 {
		t.Errorf("%d of 40 were limited", limited)
	}
	if code, _, _ := f.send("GET", "/healthz", ""); code != 200 {
		t.Errorf("health is not limited: %d", code)
	}
}

func TestTheTokenIsVerifiableByTheJWKSAndReleases(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	now := time.Now()
	clock := func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	f := start(t, func(o *fixtureOptions) { o.now = clock })
	if err := f.hospital.PutResource(t.Context(), key, []byte("v"), releasePolicy("expression: sgx.isv_svn == 2 && tcb.status == 'UpToDate'"), false); err != nil {
		t.Fatal(err)
	}
	token, err := f.client().Attest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, _, body := f.send("GET", "/.well-known/jwks.json", "")
	var keys jose.JSONWebKeySet
	if err := json.Unmarshal([]byte(body), &keys); err != nil {
		t.Fatal(err)
	}
	signed, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		t.Fatal(err)
	}
	payload, err := signed.Verify(keys.Key(signed.Signatures[0].Protected.KeyID)[0])
	if err != nil {
		t.Fatal(err)
	}
	var claims struct {
		Profile string          `json:"eat_profile"`
		Exp     int64           `json:"exp"`
		Key     json.RawMessage `json:"tee-pubkey"`
		Submods map[string]struct {
			Status   string          `json:"ear.status"`
			Evidence appraise.Claims `json:"ear.veraison.annotated-evidence"`
		} `json:"submods"`
	}
	if err := json.Unmarshal(payload, &claims); err != nil {
		t.Fatal(err)
	}
	cpu := claims.Submods["cpu0"]
	if claims.Profile == "" || claims.Key == nil || cpu.Evidence.SGX == nil || cpu.Evidence.SGX.MRSIGNER != "aa" || cpu.Status != "contraindicated" {
		t.Errorf("token %s", payload)
	}
	if code, p, _ := f.send("GET", "/kbs/v0/resource/"+key, "", "Authorization", "Bearer "+token); code != 200 {
		t.Errorf("by token: %d %+v", code, p)
	}
	mu.Lock()
	now = now.Add(broker.TokenLifetime + time.Second)
	mu.Unlock()
	if code, p, _ := f.send("GET", "/kbs/v0/resource/"+key, "", "Authorization", "Bearer "+token); code != 401 || p.Reason != refusal.SessionInvalid {
		t.Errorf("expired token: %d %+v", code, p)
	}
}

func TestEveryDecisionIsInTheVerifiedAuditLog(t *testing.T) {
	t.Parallel()
	f := start(t)
	ctx := t.Context()
	if err := f.hospital.PutResource(ctx, key, []byte("the-secret-value"), releasePolicy("{expression: sgx.isv_svn >= 9, reason: SVNTooLow}"), false); err != nil {
		t.Fatal(err)
	}
	_, _ = f.client().Resource(ctx, key)
	_ = f.bank.DeleteResource(ctx, key)
	checkpoint, err := f.admin.Checkpoint(ctx)
	if err != nil {
		t.Fatal(err)
	}
	records, err := f.admin.Records(ctx, 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	var events []string
	for _, raw := range records {
		if bytes.Contains(raw, []byte("the-secret-value")) {
			t.Errorf("a secret in %s", raw)
		}
		var r audit.Record
		if err := json.Unmarshal(raw, &r); err != nil {
			t.Fatal(err)
		}
		events = append(events, fmt.Sprintf("%s %v %s %s", r.Event, r.Allowed, r.Reason, r.Actor))
	}
	want := []string{
		"broker.init true  ", "owner.add true  admin", "owner.add true  admin", "resource.put true  hospital",
		"attest true  ", "release false SVNTooLow ", "resource.delete false Forbidden bank",
	}
	if fmt.Sprint(events) != fmt.Sprint(want) {
		t.Errorf("events\n%s\nwant\n%s", strings.Join(events, "\n"), strings.Join(want, "\n"))
	}
	verifier, err := broker.AuditVerifier(f.dir)
	if err != nil {
		t.Fatal(err)
	}
	all := func(yield func([]byte, error) bool) {
		for _, r := range records {
			if !yield(r, nil) {
				return
			}
		}
	}
	if _, err := audit.Verify(all, verifier, checkpoint); err != nil {
		t.Error(err)
	}
}

func TestARefusalIsRecordedThoughTheClientHasGone(t *testing.T) {
	t.Parallel()
	f := start(t)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	before := f.broker.Audit().Size()
	const refusals = 20
	for range refusals {
		cause := refusal.New(refusal.PolicyDenied, "no")
		if err := f.broker.Refused(gone, audit.Record{Event: audit.EventRelease}, cause); !errors.Is(err, cause) {
			t.Error(err)
		}
	}
	if got := f.broker.Audit().Size() - before; got != refusals {
		t.Errorf("%d of %d refusals are recorded", got, refusals)
	}
}

func TestNothingSecretIsInTheDirectory(t *testing.T) {
	t.Parallel()
	f := start(t)
	secret, policy := []byte("the-secret-value"), releasePolicy("{expression: debug, reason: TellTaleReason}")
	if err := f.hospital.PutResource(t.Context(), key, secret, policy, false); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(f.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		for _, word := range []string{string(secret), base64.StdEncoding.EncodeToString(secret), "TellTaleReason"} {
			if bytes.Contains(data, []byte(word)) {
				t.Errorf("%s holds %q", path, word)
			}
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestMetricsCountDecisionsAndNameNoResource(t *testing.T) {
	t.Parallel()
	f := start(t)
	if err := f.hospital.PutResource(t.Context(), key, []byte("v"), releasePolicy("{expression: debug, reason: HospitalSaysNo}"), false); err != nil {
		t.Fatal(err)
	}
	_, _ = f.client().Resource(t.Context(), key)
	_, _, text := f.send("GET", "/metrics", "")
	for _, want := range []string{
		`adyton_broker_decisions_total{event="release",outcome="refused",reason="HospitalSaysNo"} 1`,
		`adyton_broker_decisions_total{event="attest",outcome="allowed",reason=""} 1`,
		`route="GET /kbs/v0/resource/{repository}/{type}/{tag}"`, "adyton_broker_sessions_attested 1",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s", want)
		}
	}
	if strings.Contains(text, "cohort") || strings.Contains(text, "hospital-a") {
		t.Error("a resource is named in the metrics")
	}
	for _, path := range []string{"/healthz", "/readyz"} {
		if code, _, _ := f.send("GET", path, ""); code != 200 {
			t.Errorf("%s: %d", path, code)
		}
	}
}

func FuzzAttest(f *testing.F) {
	fx := start(f)
	f.Add([]byte(evidence(f, "NONCE", false)))
	f.Add([]byte(evidence(f, "NONCE", true)))
	f.Add([]byte(`{"init-data":{"format":"toml","body":"a"},"runtime-data":{},"tee-evidence":"x"}`))
	handler := fx.http.Config.Handler
	f.Fuzz(func(t *testing.T, body []byte) {
		auth := httptest.NewRecorder()
		handler.ServeHTTP(auth, httptest.NewRequest("POST", kbs.AuthPath, strings.NewReader(authBody)))
		var c kbs.Challenge
		if err := json.Unmarshal(auth.Body.Bytes(), &c); err != nil {
			t.Fatal(err)
		}
		req := httptest.NewRequest("POST", kbs.AttestPath, bytes.NewReader(bytes.ReplaceAll(body, []byte("NONCE"), []byte(c.Nonce))))
		req.AddCookie(auth.Result().Cookies()[0])
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, req)
		if w.Code == 200 || w.Code >= 500 {
			t.Errorf("%d for %q", w.Code, body)
		}
	})
}

func FuzzAuth(f *testing.F) {
	fx := start(f)
	f.Add([]byte(authBody))
	f.Add([]byte(`{"version":"0.4.0","tee":"sgx","extra-params":{"supported-hash-algorithms":["sha384"]}}`))
	handler := fx.http.Config.Handler
	f.Fuzz(func(t *testing.T, body []byte) {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequest("POST", kbs.AuthPath, bytes.NewReader(body)))
		if w.Code >= 500 {
			t.Errorf("%d for %q", w.Code, body)
		}
	})
}

func BenchmarkRelease(b *testing.B) {
	f := start(b)
	if err := f.hospital.PutResource(b.Context(), key, make([]byte, 32), releasePolicy("expression: tee == 'sgx' && sgx.isv_svn >= 2"), false); err != nil {
		b.Fatal(err)
	}
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		c := f.client()
		for pb.Next() {
			if _, err := c.Resource(b.Context(), key); err != nil {
				b.Error(err)
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "releases/s")
}
