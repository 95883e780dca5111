package descriptor_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/adyton-dev/adyton/internal/build/descriptor"
	"github.com/adyton-dev/adyton/refusal"
	"github.com/adyton-dev/adyton/sgx"
)

var update = flag.Bool("update", false, "write the golden files instead of comparing with them")

// sample has every field set.
func sample() *descriptor.Descriptor {
	return &descriptor.Descriptor{
		APIVersion:       descriptor.Version,
		Name:             "genomics",
		Image:            descriptor.Image{Digest: "sha256:" + strings.Repeat("1a", 32), Platform: "linux/amd64"},
		Init:             "sha256:" + strings.Repeat("2b", 32),
		Arguments:        []string{"/app", "--title", "<a & b> \u20ac"},
		Environment:      map[string]string{"PATH": "/bin", "MODE": "prod"},
		PassEnvironment:  []string{"LOG_LEVEL", "ADDR"},
		WorkingDirectory: "/",
		User:             "65532:65532",
		Mounts: []descriptor.Mount{
			{Destination: "/tmp", Kind: descriptor.MountTmpfs, Size: 64 << 20},
			{Destination: "/data", Kind: descriptor.MountBind, ReadOnly: true},
		},
		ReadOnlyRoot: true,
		Memory:       512 << 20,
		Threads:      8,
		Unlock: []descriptor.Unlock{
			{Resource: "kbs:///a/key/one", File: "/run/secrets/a"},
			{Resource: "kbs:///a/key/two", Open: &descriptor.Open{From: "/data/a.sealed", To: "/tmp/a"}},
		},
		Broker: &descriptor.Broker{URL: "https://127.0.0.1:8443", SPKI: "sha256:" + strings.Repeat("3c", 32)},
	}
}

func TestGolden(t *testing.T) {
	t.Parallel()
	d := sample()
	text, err := d.JSON()
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "descriptor.json", text)
	m, err := d.Measure()
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "mrenclave", []byte(m.String()+"\n"))
}

func golden(t *testing.T, name string, have []byte) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, have, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, want) {
		t.Errorf("%s is\n%s\nwant\n%s", name, have, want)
	}
}

func TestParseGivesWhatJSONEncoded(t *testing.T) {
	t.Parallel()
	text, err := sample().JSON()
	if err != nil {
		t.Fatal(err)
	}
	d, err := descriptor.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	again, err := d.JSON()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(text, again) {
		t.Errorf("encoded again as %s, want %s", again, text)
	}
}

func TestParseRefusesAnythingButTheCanonicalForm(t *testing.T) {
	t.Parallel()
	raw, err := sample().JSON()
	if err != nil {
		t.Fatal(err)
	}
	text := string(raw)
	var indented bytes.Buffer
	if err := json.Indent(&indented, raw, "", " "); err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string]string{
		"white space":      indented.String(),
		"newline at end":   text + "\n",
		"second value":     text + "{}",
		"unknown field":    strings.Replace(text, `"init":`, `"hidden":1,"init":`, 1),
		"duplicate field":  strings.Replace(text, `"init":`, `"debug":0,"init":`, 1),
		"repeated name":    strings.Replace(text, `"name":"genomics"`, `"name":"other","name":"genomics"`, 1),
		"other case":       strings.Replace(text, `"name"`, `"Name"`, 1),
		"unsorted set":     strings.Replace(text, `["ADDR","LOG_LEVEL"]`, `["LOG_LEVEL","ADDR"]`, 1),
		"null list":        strings.Replace(text, `["ADDR","LOG_LEVEL"]`, `null`, 1),
		"other version":    strings.Replace(text, `v1alpha1`, `v1`, 1),
		"empty":            "",
		"too long":         strings.Repeat(" ", descriptor.MaxSize+1),
		"number not exact": strings.Replace(text, `536870912`, `5.36870912e8`, 1),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if bad == text {
				t.Fatal("the case changes nothing")
			}
			if _, err := descriptor.Parse([]byte(bad)); err == nil {
				t.Error("accepted")
			}
		})
	}
}

// changes has a change of each part, named after it.
var changes = []struct {
	part   string
	change func(*descriptor.Descriptor)
}{
	{"name", func(d *descriptor.Descriptor) { d.Name = "genomicz" }},
	{"image", func(d *descriptor.Descriptor) { d.Image.Digest = "sha256:" + strings.Repeat("1a", 31) + "1b" }},
	{"image", func(d *descriptor.Descriptor) { d.Image.Platform = "linux/arm64" }},
	{"init", func(d *descriptor.Descriptor) { d.Init = "sha256:" + strings.Repeat("2b", 31) + "2c" }},
	{"arguments", func(d *descriptor.Descriptor) { d.Arguments[1] = "--titlf" }},
	{"arguments", func(d *descriptor.Descriptor) { d.Arguments = append(d.Arguments, "") }},
	{"arguments", func(d *descriptor.Descriptor) { d.Arguments = []string{"/app --title", d.Arguments[2]} }},
	{"environment", func(d *descriptor.Descriptor) { d.Environment["MODE"] = "prod " }},
	{"environment", func(d *descriptor.Descriptor) { d.Environment["LD_PRELOAD"] = "/data/evil.so" }},
	{"environment", func(d *descriptor.Descriptor) { delete(d.Environment, "MODE") }},
	{"pass-environment", func(d *descriptor.Descriptor) { d.PassEnvironment[0] = "LOG_FORMAT" }},
	{"working-directory", func(d *descriptor.Descriptor) { d.WorkingDirectory = "/data" }},
	{"user", func(d *descriptor.Descriptor) { d.User = "0:65532" }},
	{"mounts", func(d *descriptor.Descriptor) { d.Mounts[1].ReadOnly = false }},
	{"mounts", func(d *descriptor.Descriptor) { d.Mounts[1].Destination = "/dat" }},
	{"mounts", func(d *descriptor.Descriptor) { d.Mounts[0].Size++ }},
	{"mounts", func(d *descriptor.Descriptor) {
		d.Mounts = append(d.Mounts, descriptor.Mount{Destination: "/etc", Kind: descriptor.MountBind})
	}},
	{"read-only-root", func(d *descriptor.Descriptor) { d.ReadOnlyRoot = false }},
	{"memory", func(d *descriptor.Descriptor) { d.Memory++ }},
	{"threads", func(d *descriptor.Descriptor) { d.Threads++ }},
	{"unlock", func(d *descriptor.Descriptor) { d.Unlock[0].Resource = "kbs:///b/key/one" }},
	{"unlock", func(d *descriptor.Descriptor) { d.Unlock[1].Open.From = "/data/b.sealed" }},
	{"unlock", func(d *descriptor.Descriptor) { d.Unlock[0], d.Unlock[1] = d.Unlock[1], d.Unlock[0] }},
	{"broker", func(d *descriptor.Descriptor) { d.Broker.SPKI = "sha256:" + strings.Repeat("3c", 31) + "3d" }},
	{"broker", func(d *descriptor.Descriptor) { d.Broker.URL = "https://127.0.0.1:8444" }},
}

func TestAnyChangeGivesAnotherMRENCLAVEAndIsRefusedByItsPart(t *testing.T) {
	t.Parallel()
	signed := sample()
	want, err := signed.Measure()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range changes {
		t.Run(c.part, func(t *testing.T) {
			t.Parallel()
			actual := sample()
			c.change(actual)
			got, err := actual.Measure()
			if err != nil {
				t.Fatal(err)
			}
			if got == want {
				t.Error("MRENCLAVE is the same")
			}
			err = signed.Check(actual)
			if refusal.Of(err) != refusal.MeasurementMismatch {
				t.Fatalf("Check gives %v, want MeasurementMismatch", err)
			}
			if !strings.Contains(err.Error(), ": "+c.part+": signed ") || strings.Count(err.Error(), ": signed ") != 1 {
				t.Errorf("%q does not name the part %s alone", err, c.part)
			}
			if len(err.Error()) > 600 || strings.ContainsRune(err.Error(), '\n') {
				t.Errorf("%q is not one short line", err)
			}
		})
	}
}

func TestCheckAcceptsWhatWasSigned(t *testing.T) {
	t.Parallel()
	actual := sample()
	// Sets have no order.
	actual.Mounts[0], actual.Mounts[1] = actual.Mounts[1], actual.Mounts[0]
	actual.PassEnvironment[0], actual.PassEnvironment[1] = actual.PassEnvironment[1], actual.PassEnvironment[0]
	if err := sample().Check(actual); err != nil {
		t.Error(err)
	}
}

func TestCheckShowsWhereALongPartDiffers(t *testing.T) {
	t.Parallel()
	signed, actual := sample(), sample()
	signed.Arguments[2] = strings.Repeat("x", 5000) + "ONE"
	actual.Arguments[2] = strings.Repeat("x", 5000) + "TWO"
	err := signed.Check(actual)
	if err == nil || !strings.Contains(err.Error(), "ONE") || !strings.Contains(err.Error(), "TWO") || len(err.Error()) > 400 {
		t.Errorf("Check gives %v", err)
	}
}

// TestCloneSharesNothing changes each part of a clone.
func TestCloneSharesNothing(t *testing.T) {
	t.Parallel()
	for _, c := range changes {
		d := sample()
		c.change(d.Clone())
		if err := sample().Check(d); err != nil {
			t.Errorf("a change of the clone changed the original: %v", err)
		}
	}
}

func TestSECSHasRoomForMemoryAndPages(t *testing.T) {
	t.Parallel()
	d := sample()
	secs, err := d.SECS(descriptor.Attributes(false))
	if err != nil {
		t.Fatal(err)
	}
	if secs.Size != 1<<30 || secs.SSAFrameSize != 1 {
		t.Errorf("512Mi and some pages give SIZE %#x, SSAFRAMESIZE %d, want 1Gi and 1", secs.Size, secs.SSAFrameSize)
	}
	if want := sgx.AttributeMode64Bit | sgx.AttributeKSS; secs.Attributes.Flags != want || secs.Attributes.XFRM != 3 {
		t.Errorf("attributes are %v, XFRM %#x", secs.Attributes.Flags, secs.Attributes.XFRM)
	}
}

// TestLayoutIsAsDocumented measures the documented pages by hand.
func TestLayoutIsAsDocumented(t *testing.T) {
	t.Parallel()
	d := sample()
	d.Threads = 2
	d.Arguments[2] = strings.Repeat("long", 3000)
	parts, err := d.Parts()
	if err != nil {
		t.Fatal(err)
	}
	secs, err := d.SECS(descriptor.Attributes(false))
	if err != nil {
		t.Fatal(err)
	}
	m, err := sgx.NewMeasurer(1, secs.Size)
	if err != nil {
		t.Fatal(err)
	}
	offset := uint64(0)
	add := func(flags sgx.SecInfoFlags, page []byte) {
		t.Helper()
		if err := m.AddPage(offset, flags, (*[4096]byte)(page)); err != nil {
			t.Fatal(err)
		}
		offset += 4096
	}
	for _, p := range parts {
		region := make([]byte, (64+len(p.Content)+4095)/4096*4096)
		copy(region, "ADYTPART")
		region[8], region[9] = byte(len(p.Content)), byte(len(p.Content)>>8)
		copy(region[16:], p.Name)
		copy(region[64:], p.Content)
		for ; len(region) > 0; region = region[4096:] {
			add(sgx.PageTypeREG|sgx.SecInfoR, region)
		}
	}
	for range 2 {
		add(sgx.PageTypeTCS, (&sgx.TCS{OSSA: offset + 4096, NSSA: 1}).Bytes())
		add(sgx.PageTypeREG|sgx.SecInfoR|sgx.SecInfoW, make([]byte, 4096))
	}
	got, err := d.Measure()
	if err != nil {
		t.Fatal(err)
	}
	if got != m.Sum() {
		t.Errorf("MRENCLAVE is %s, want %s", got, m.Sum())
	}
}

func TestValidateNamesTheBadPart(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		part   string
		change func(*descriptor.Descriptor)
	}{
		{"version", func(d *descriptor.Descriptor) { d.APIVersion = "" }},
		{"name", func(d *descriptor.Descriptor) { d.Name = "../x" }},
		{"image", func(d *descriptor.Descriptor) { d.Image.Digest = "sha256:12" }},
		{"image", func(d *descriptor.Descriptor) { d.Image.Platform = "linux" }},
		{"init", func(d *descriptor.Descriptor) { d.Init = "sha256:" + strings.Repeat("AB", 32) }},
		{"arguments", func(d *descriptor.Descriptor) { d.Arguments = nil }},
		{"arguments", func(d *descriptor.Descriptor) { d.Arguments[1] = "a\x00b" }},
		{"arguments", func(d *descriptor.Descriptor) { d.Arguments[1] = "\xff" }},
		{"environment", func(d *descriptor.Descriptor) { d.Environment["A=B"] = "" }},
		{"environment", func(d *descriptor.Descriptor) { d.Environment["A"] = "\x00" }},
		{"pass-environment", func(d *descriptor.Descriptor) { d.PassEnvironment = []string{"A", "A"} }},
		{"pass-environment", func(d *descriptor.Descriptor) { d.PassEnvironment = []string{"LD_PRELOAD"} }},
		{"pass-environment", func(d *descriptor.Descriptor) { d.PassEnvironment = []string{"PATH"} }},
		{"pass-environment", func(d *descriptor.Descriptor) { d.PassEnvironment = []string{"GODEBUG"} }},
		{"working-directory", func(d *descriptor.Descriptor) { d.WorkingDirectory = "data" }},
		{"user", func(d *descriptor.Descriptor) { d.User = "nobody" }},
		{"user", func(d *descriptor.Descriptor) { d.User = "0:4294967295" }},
		{"mounts", func(d *descriptor.Descriptor) { d.Mounts[0].Destination = "/data" }},
		{"mounts", func(d *descriptor.Descriptor) { d.Mounts[0].Destination = "/" }},
		{"mounts", func(d *descriptor.Descriptor) { d.Mounts[0].Destination = "/dev/attestation" }},
		{"mounts", func(d *descriptor.Descriptor) { d.Mounts[0].Destination = "/run" }},
		{"mounts", func(d *descriptor.Descriptor) { d.Mounts[0].Destination = "/a/../b" }},
		{"mounts", func(d *descriptor.Descriptor) { d.Mounts[0].Kind = "overlay" }},
		// The host could make /data/memory/deep a link to /run/adyton.
		{"mounts", func(d *descriptor.Descriptor) {
			d.Mounts = append(d.Mounts, descriptor.Mount{Destination: "/data/memory/deep", Kind: descriptor.MountTmpfs})
		}},
		{"memory", func(d *descriptor.Descriptor) { d.Memory = 0 }},
		{"memory", func(d *descriptor.Descriptor) { d.Memory = 1 << 60 }},
		{"threads", func(d *descriptor.Descriptor) { d.Threads = 0 }},
		{"unlock", func(d *descriptor.Descriptor) { d.Unlock[0].File = "/data/a" }},
		{"unlock", func(d *descriptor.Descriptor) { d.Unlock[0].File = "/etc/a" }},
		{"unlock", func(d *descriptor.Descriptor) { d.Unlock[0].File = "/run/adyton/enclave.json" }},
		{"unlock", func(d *descriptor.Descriptor) { d.Unlock[0].File = "/run" }},
		{"unlock", func(d *descriptor.Descriptor) { d.Unlock[0].Env = "A" }},
		{"unlock", func(d *descriptor.Descriptor) { d.Unlock[0].File = "" }},
		{"unlock", func(d *descriptor.Descriptor) { d.Unlock[0].File = "/tmp/a" }},
		{"unlock", func(d *descriptor.Descriptor) { d.Unlock[0].Resource = "file:///etc/passwd" }},
		{"unlock", func(d *descriptor.Descriptor) { d.Broker = nil }},
		{"unlock", func(d *descriptor.Descriptor) {
			d.Mounts = append(d.Mounts, descriptor.Mount{Destination: "/run/secrets", Kind: descriptor.MountBind})
		}},
		{"broker", func(d *descriptor.Descriptor) { d.Broker.SPKI = "" }},
	} {
		d := sample()
		c.change(d)
		err := d.Validate()
		if err == nil || !strings.HasPrefix(err.Error(), "enclave descriptor: "+c.part+": ") {
			t.Errorf("Validate gives %v, want an error about %s", err, c.part)
		}
	}
	if err := sample().Validate(); err != nil {
		t.Error(err)
	}
}

func FuzzParse(f *testing.F) {
	text, err := sample().JSON()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(`{}`))
	f.Add([]byte(`{"apiVersion":"adyton.dev/v1alpha1"`))
	f.Fuzz(func(t *testing.T, text []byte) {
		d, err := descriptor.Parse(text)
		if err != nil {
			return
		}
		again, err := d.JSON()
		if err != nil || !bytes.Equal(again, text) {
			t.Fatalf("%q is accepted and encoded as %q (%v)", text, again, err)
		}
		if _, err := d.Measure(); err != nil {
			t.Fatalf("%q is accepted but cannot be measured: %v", text, err)
		}
	})
}

func BenchmarkMeasure(b *testing.B) {
	d := sample()
	for b.Loop() {
		if _, err := d.Measure(); err != nil {
			b.Fatal(err)
		}
	}
}
