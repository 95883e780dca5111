package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/adyton-dev/adyton/examples/genomics/synth"
	"github.com/adyton-dev/adyton/refusal"
)

// zeros stands in the example's files where a digest of the deployment goes.
var zeros = strings.Repeat("0", 64)

// demo is the state that the chapters hand to each other.
type demo struct {
	console
	adyton
	samples, variants int
	sandbox           string

	collateral *server // of the software TEE
	broker     *server
	pin        string // of the broker's TLS key
	signer     string // MRSIGNER of the institute
	plain      []byte // the result computed without any protection, to compare with
}

func (d *demo) stopServers() {
	for _, s := range []*server{d.broker, d.collateral} {
		if s != nil {
			s.stop()
		}
	}
}

func (d *demo) path(elem ...string) string { return filepath.Join(append([]string{d.dir}, elem...)...) }

// all runs the steps of a chapter until one fails.
func all(steps ...func() error) error {
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func hospitals() []string { return []string{"hospital-a", "hospital-b"} }

func resource(hospital string) string { return "kbs:///" + hospital + "/key/cohort" }

// platform makes the software TEE and starts the broker that trusts it by name.
func (d *demo) platform(ctx context.Context) error {
	d.chapter("The platform: a software TEE, and a key broker that trusts it by name")
	return all(
		func() error {
			return d.step("tee", func() (string, error) {
				if _, err := d.run(ctx, "softtee", "init", "--dir", "softtee"); err != nil {
					return "", err
				}
				if _, err := d.run(ctx, "softtee", "platform", "create", "--dir", "softtee", "--tcb", "out-of-date", "stale"); err != nil {
					return "", err
				}
				policy, err := d.run(ctx, "softtee", "show", "--dir", "softtee", "--trust-policy")
				if err != nil {
					return "", err
				}
				if err := os.WriteFile(d.path("trust.yaml"), policy, 0o644); err != nil {
					return "", err
				}
				ready := d.path("collateral.url")
				d.collateral, err = d.serve(ctx, "collateral", ready, "softtee", "serve", "--dir", "softtee", "--listen", "127.0.0.1:0", "--ready-file", ready)
				return "software CPU, quoting enclave and PCK CA made; collateral served in Intel's formats", err
			})
		},
		func() error {
			return d.step("broker", func() (string, error) {
				if err := d.startBroker(ctx); err != nil {
					return "", err
				}
				for _, hospital := range hospitals() {
					if _, err := d.run(ctx, "broker", "keygen", hospital); err != nil {
						return "", err
					}
					if _, err := d.run(ctx, "broker", "owner", "add", "--broker", d.broker.url, "--broker-spki", d.pin, "--admin-key", "broker/state/admin.key",
						"--public-key", hospital+".pub", "--repository", hospital, hospital); err != nil {
						return "", err
					}
				}
				return "up, itself in an enclave: its root key is sealed to that enclave's signer", nil
			})
		},
	)
}

// brokerEnclave is the enclave.yaml of the broker: which of its commands it runs.
const brokerEnclave = `apiVersion: adyton.dev/v1alpha1
kind: EnclaveBuild
name: %s
image: oci:./broker-image
args: [%s]
mounts: [{path: /var/lib/broker}]
readOnlyRoot: true
memory: 512Mi
threads: 16
productID: 1
svn: 1
`

// startBroker makes the broker an image, with the trust policy in it, and runs it
// as an enclave: once to make its keys, then to serve.
func (d *demo) startBroker(ctx context.Context) error {
	if _, err := d.run(ctx, "enclave", "pack", "--to", "broker-image", "--user", "0:0", d.binary+"=/adyton", "trust.yaml=/etc/adyton/trust.yaml"); err != nil {
		return err
	}
	if _, err := d.keygen(ctx, "broker.pem"); err != nil {
		return err
	}
	for name, args := range map[string][]string{
		"broker-init": {"broker", "init", "--dir", "/var/lib/broker/state"},
		"broker": {"broker", "serve", "--dir", "/var/lib/broker/state", "--listen", "127.0.0.1:0", "--ready-file", "/var/lib/broker/url",
			"--trust-policy", "/etc/adyton/trust.yaml", "--collateral-url", d.collateral.url},
	} {
		list, err := json.Marshal(args)
		if err != nil {
			return err
		}
		file := name + ".enclave.yaml"
		if err := os.WriteFile(d.path(file), fmt.Appendf(nil, brokerEnclave, name, list[1:len(list)-1]), 0o644); err != nil {
			return err
		}
		if _, err := d.run(ctx, "enclave", "sign", "-f", file, "--key", "broker.pem"); err != nil {
			return err
		}
	}
	if err := os.Mkdir(d.path("broker"), 0o700); err != nil {
		return err
	}
	enclave := func(name string, flags ...string) []string {
		args := []string{"run", "--softtee", "softtee", "--run-dir", d.path("run"), "--sandbox", d.sandbox, "--enclave", name, "--mount", "/var/lib/broker=" + d.path("broker")}
		return append(append(args, flags...), "oci:./broker-image")
	}
	if _, err := d.run(ctx, enclave("broker-init")...); err != nil {
		return err
	}
	pin, err := d.run(ctx, "broker", "pin", "--dir", "broker/state")
	if err != nil {
		return err
	}
	d.pin = strings.TrimSpace(string(pin))
	d.broker, err = d.serve(ctx, "broker", d.path("broker", "url"), enclave("broker", "--network", "host")...)
	return err
}

// institute builds the enclave, so that the hospitals can approve its signer.
func (d *demo) institute(ctx context.Context) error {
	d.chapter("The institute: one enclave, measured and signed")
	return all(
		func() error {
			return d.step("build", func() (string, error) {
				build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid=", "-o", d.path("genomics"), "./examples/genomics/cmd/genomics")
				build.Env = append(os.Environ(), "CGO_ENABLED=0")
				if out, err := build.CombinedOutput(); err != nil {
					return "", fmt.Errorf("build the program: %w: %s", err, out)
				}
				if _, err := d.run(ctx, "enclave", "pack", "--to", "image", "genomics=/genomics"); err != nil {
					return "", err
				}
				return "image of one static program, reproducible", nil
			})
		},
		func() error {
			return d.step("sign", func() (string, error) {
				key, err := d.keygen(ctx, "institute.pem")
				if err != nil {
					return "", err
				}
				d.signer = key
				if err := d.enclave("enclave.yaml", "oci:./image", nil); err != nil {
					return "", err
				}
				out, err := d.run(ctx, "enclave", "sign", "-f", "enclave.yaml", "--key", "institute.pem", "-o", "json")
				if err != nil {
					return "", err
				}
				var signed struct {
					MRENCLAVE string `json:"mrenclave"`
				}
				if err := json.Unmarshal(out, &signed); err != nil {
					return "", fmt.Errorf("read what enclave sign said: %w", err)
				}
				return fmt.Sprintf("MRENCLAVE %.16s…, signer %.16s…, product 7, SVN 2", signed.MRENCLAVE, d.signer), nil
			})
		},
	)
}

// hospitals makes the cohorts and seals each under its hospital's key and policy.
func (d *demo) hospitals(ctx context.Context) error {
	d.chapter(fmt.Sprintf("The hospitals: %d samples × %d variants each, sealed under their own keys", d.samples, d.variants))
	for cohort, hospital := range hospitals() {
		if err := d.step(hospital, func() (string, error) {
			if err := synth.Write(ctx, d.path(hospital), d.cohort(cohort)); err != nil {
				return "", err
			}
			if err := substitute("examples/genomics/policy/release.yaml", d.path(hospital+".yaml"), zeros, d.signer); err != nil {
				return "", err
			}
			if err := os.Mkdir(d.path(hospital+"-sealed"), 0o755); err != nil {
				return "", err
			}
			sealed := filepath.Join(hospital+"-sealed", "cohort.sealed")
			if _, err := d.run(ctx, "data", "seal", "--broker", d.broker.url, "--broker-spki", d.pin, "--owner-key", hospital+".key",
				"--resource", resource(hospital), "--policy", hospital+".yaml", hospital, sealed); err != nil {
				return "", err
			}
			info, err := os.Stat(d.path(sealed))
			if err != nil {
				return "", err
			}
			return fmt.Sprintf("VCF 4.3 made and sealed (%.1f MB); policy: this signer, product 7, SVN ≥ 2, sandboxed", float64(info.Size())/1e6), nil
		}); err != nil {
			return err
		}
	}
	return nil
}

// compute runs the study inside the enclave and compares it with the plain run.
func (d *demo) compute(ctx context.Context) error {
	d.chapter("The study: launched as signed, attested, unlocked, computed")
	var result []byte
	return all(
		func() error {
			return d.step("plain", func() (string, error) {
				cmd := exec.CommandContext(ctx, d.path("genomics"), "--cohort="+d.path("hospital-a"), "--cohort="+d.path("hospital-b"), "--min-count=5", "--top=20")
				var stderr bytes.Buffer
				cmd.Stderr = &stderr
				var err error
				if d.plain, err = cmd.Output(); err != nil {
					return "", fmt.Errorf("compute the plain result: %w: %s", err, stderr.String())
				}
				// From here on the host has only ciphertext.
				for _, hospital := range hospitals() {
					err = errors.Join(err, os.RemoveAll(d.path(hospital)))
				}
				return "computed unprotected, for comparison; the hospitals' plain files are now gone from this host", err
			})
		},
		func() error {
			return d.step("enclave", func() (string, error) {
				var err error
				if result, err = d.run(ctx, d.launch("oci:./image")...); err != nil {
					return "", err
				}
				return "launched in " + d.sandbox + ", attested, both keys released, study computed", nil
			})
		},
		func() error {
			return d.step("compare", func() (string, error) {
				if !bytes.Equal(result, d.plain) {
					return "", errors.New("the enclave's result differs from the plain one")
				}
				planted := d.cohort(0).Planted()
				for _, a := range planted {
					if !significant(result, a.ID) {
						return "", fmt.Errorf("the planted association %s is not in the result", a.ID)
					}
				}
				return fmt.Sprintf("equal to the plain result bit for bit; all %d planted associations found", len(planted)), nil
			})
		},
		func() error {
			d.block(string(result))
			return nil
		},
	)
}

// cohort says what the data of a hospital are like.
func (d *demo) cohort(number int) synth.Spec {
	return synth.Spec{Seed: 5, Cohort: number, Samples: d.samples, Variants: d.variants}
}

// significant reports whether the result marks the variant.
func significant(result []byte, id string) bool {
	for line := range strings.Lines(string(result)) {
		if fields := strings.Fields(line); len(fields) > 2 && fields[0] == "*" && fields[2] == id {
			return true
		}
	}
	return false
}

// launch is the command line that runs the enclave of an image.
func (d *demo) launch(image string, flags ...string) []string {
	args := []string{"run", "--softtee", "softtee", "--sandbox", d.sandbox, "--broker", d.broker.url, "--run-dir", d.path("run"),
		"--mount", "/data/hospital-a=" + d.path("hospital-a-sealed"), "--mount", "/data/hospital-b=" + d.path("hospital-b-sealed")}
	return append(append(args, flags...), image)
}

// attempt is something that must be refused.
type attempt struct {
	what   string
	reason refusal.Reason
	// prepare makes the image to run and gives its reference and further flags.
	prepare func(ctx context.Context) (image string, flags []string, err error)
}

// refusals shows that whatever differs from what was approved gets nothing.
func (d *demo) refusals(ctx context.Context) error {
	d.chapter("The refusals: anything else gets nothing, and the reason is one stable word")
	for _, a := range []attempt{
		{"a tampered image", refusal.MeasurementMismatch, d.tampered},
		{"an unapproved signer", refusal.SignerNotApproved, func(ctx context.Context) (string, []string, error) {
			if _, err := d.keygen(ctx, "stranger.pem"); err != nil {
				return "", nil, err
			}
			return d.variant(ctx, "stranger", "stranger.pem", nil)
		}},
		{"a lower SVN", refusal.SVNTooLow, func(ctx context.Context) (string, []string, error) {
			return d.variant(ctx, "old", "institute.pem", map[string]string{"svn: 2": "svn: 1"})
		}},
		{"a debug enclave", refusal.DebugNotAllowed, func(ctx context.Context) (string, []string, error) {
			return d.variant(ctx, "debug", "institute.pem", map[string]string{"debug: false": "debug: true"})
		}},
		{"an out-of-date platform", refusal.TCBOutOfDate, func(context.Context) (string, []string, error) {
			return "oci:./image", []string{"--platform", "stale"}, nil
		}},
		{"no sandbox", refusal.SandboxRequired, func(context.Context) (string, []string, error) {
			return "oci:./image", []string{"--sandbox", "none"}, nil
		}},
	} {
		if err := d.step("refused", func() (string, error) {
			image, flags, err := a.prepare(ctx)
			if err != nil {
				return "", fmt.Errorf("prepare %s: %w", a.what, err)
			}
			r, err := d.try(ctx, d.launch(image, flags...)...)
			if err != nil {
				return "", err
			}
			if r.code == 0 || !strings.Contains(r.stderr, string(a.reason)) {
				return "", fmt.Errorf("%s: exit code %d, want the reason %s, got: %s", a.what, r.code, a.reason, r.stderr)
			}
			return fmt.Sprintf("%-24s %s", a.what, d.paint("33", string(a.reason))), nil
		}); err != nil {
			return err
		}
	}
	return nil
}

// variant signs a changed copy of the enclave in a copy of the image.
func (d *demo) variant(ctx context.Context, name, key string, changes map[string]string) (string, []string, error) {
	image := "image-" + name
	if err := os.CopyFS(d.path(image), os.DirFS(d.path("image"))); err != nil {
		return "", nil, fmt.Errorf("copy the image: %w", err)
	}
	file := name + ".enclave.yaml"
	if err := d.enclave(file, "oci:./"+image, changes); err != nil {
		return "", nil, err
	}
	_, err := d.run(ctx, "enclave", "sign", "-f", file, "--key", key)
	return "oci:./" + image, nil, err
}

// tampered flips one bit in the largest blob of a copy of the image, its program.
func (d *demo) tampered(context.Context) (string, []string, error) {
	if err := os.CopyFS(d.path("image-tampered"), os.DirFS(d.path("image"))); err != nil {
		return "", nil, fmt.Errorf("copy the image: %w", err)
	}
	blobs := d.path("image-tampered", "blobs", "sha256")
	entries, err := os.ReadDir(blobs)
	if err != nil {
		return "", nil, err
	}
	var largest string
	var size int64
	for _, entry := range entries {
		info, err := entry.Info()
		if err != nil {
			return "", nil, err
		}
		if info.Size() > size {
			largest, size = filepath.Join(blobs, entry.Name()), info.Size()
		}
	}
	content, err := os.ReadFile(largest)
	if err != nil {
		return "", nil, err
	}
	content[size/2] ^= 1
	return "oci:./image-tampered", nil, os.WriteFile(largest, content, 0o644)
}

// whatRootSees looks at everything that is left on the host.
func (d *demo) whatRootSees(ctx context.Context) error {
	d.chapter("What root on this host can see, and what it cannot change unnoticed")
	d.broker.stop()
	d.broker = nil
	return all(
		func() error {
			return d.step("data", func() (string, error) {
				for _, secret := range []string{"##fileformat=VCF", "#CHROM\tPOS", "\x1f\x8b\x08\x04\x00\x00\x00\x00\x00\xff\x06\x00BC\x02\x00"} {
					found, err := d.holding([]byte(secret), "hospital-a-sealed", "hospital-b-sealed", "broker", "run")
					if err != nil {
						return "", err
					}
					if len(found) > 0 {
						return "", fmt.Errorf("plaintext %q is in %s", secret, strings.Join(found, ", "))
					}
				}
				return "sealed files, broker and run folders searched for plaintext: none", nil
			})
		},
		func() error {
			sealed, err := os.ReadFile(d.path("hospital-a-sealed", "cohort.sealed"))
			if err != nil {
				return err
			}
			middle := len(sealed) / 2
			for row := range 3 {
				at := middle + 16*row
				d.block(fmt.Sprintf("%08x  % x\n", at, sealed[at:at+16]))
			}
			return nil
		},
		func() error {
			return d.step("audit", func() (string, error) {
				out, err := d.run(ctx, "audit", "verify", "--dir", "broker/state")
				if err != nil {
					return "", err
				}
				count, _, _ := strings.Cut(string(out), " ")
				return count + " decisions on record, log verified", nil
			})
		},
		func() error {
			return d.step("audit", func() (string, error) { return d.forgedLog(ctx) })
		},
	)
}

// forgedLog turns a refusal of the exported log into a release and has it verified.
func (d *demo) forgedLog(ctx context.Context) (string, error) {
	list, err := d.run(ctx, "audit", "list", "--dir", "broker/state", "-o", "json")
	if err != nil {
		return "", err
	}
	checkpoint, err := d.run(ctx, "audit", "checkpoint", "--dir", "broker/state")
	if err != nil {
		return "", err
	}
	forged := bytes.Replace(list, []byte(refusal.SVNTooLow), []byte("SVNTooHi_"), 1)
	if bytes.Equal(forged, list) {
		return "", errors.New("the log has no record of the refused SVN")
	}
	for name, content := range map[string][]byte{"forged.log": forged, "checkpoint": checkpoint} {
		if err := os.WriteFile(d.path(name), content, 0o600); err != nil {
			return "", err
		}
	}
	r, err := d.try(ctx, "audit", "verify", "--file", "forged.log", "--checkpoint", "checkpoint", "--key", "broker/state/audit.pub")
	if err != nil {
		return "", err
	}
	if r.code == 0 || !strings.Contains(r.stderr, string(refusal.AuditCorrupt)) {
		return "", fmt.Errorf("a forged log: exit code %d: %s", r.code, r.stderr)
	}
	return fmt.Sprintf("one word of one record changed: %s", d.paint("33", string(refusal.AuditCorrupt))), nil
}

// holding gives the files below the folders that contain text.
func (d *demo) holding(text []byte, folders ...string) ([]string, error) {
	var found []string
	for _, folder := range folders {
		err := filepath.WalkDir(d.path(folder), func(path string, entry os.DirEntry, err error) error {
			if errors.Is(err, os.ErrNotExist) || err == nil && !entry.Type().IsRegular() {
				return nil
			}
			if err != nil {
				return err
			}
			content, err := os.ReadFile(path)
			if bytes.Contains(content, text) {
				found = append(found, path)
			}
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("search %s: %w", folder, err)
		}
	}
	return found, nil
}

// keygen makes an enclave signing key and gives its MRSIGNER.
func (d *demo) keygen(ctx context.Context, file string) (string, error) {
	out, err := d.run(ctx, "enclave", "keygen", file, "-o", "json")
	if err != nil {
		return "", err
	}
	var key struct {
		MRSIGNER string `json:"mrsigner"`
	}
	if err := json.Unmarshal(out, &key); err != nil {
		return "", fmt.Errorf("read what enclave keygen said: %w", err)
	}
	return key.MRSIGNER, nil
}

// enclave writes the example's enclave.yaml for this deployment, with changes.
func (d *demo) enclave(file, image string, changes map[string]string) error {
	pairs := []string{zeros, strings.TrimPrefix(d.pin, "sha256:"), "oci:./image", image}
	for from, to := range changes {
		pairs = append(pairs, from, to)
	}
	return substitute("examples/genomics/enclave.yaml", d.path(file), pairs...)
}

// substitute copies a text file, replacing each of the pairs' first by its second.
func substitute(from, to string, pairs ...string) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return fmt.Errorf("the demo runs in the repository's folder: %w", err)
	}
	return os.WriteFile(to, []byte(strings.NewReplacer(pairs...).Replace(string(text))), 0o644)
}
