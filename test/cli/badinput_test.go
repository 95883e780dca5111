package cli_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const enclaveYAML = `apiVersion: adyton.dev/v1alpha1
kind: EnclaveBuild
name: app
image: oci:%s
memory: 64Mi
threads: 4
productID: 1
svn: 1
`

// damagedImage copies the fixture's image to img with its largest layer (gzip) as damage
// gives it, or without it.
func damagedImage(names map[string]string, damage func(path string) ([]byte, error)) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		t.Helper()
		img := filepath.Join(dir, "img")
		if err := os.CopyFS(img, os.DirFS(strings.TrimPrefix(names["IMAGE"], "oci:"))); err != nil {
			t.Fatal(err)
		}
		largest, size := "", int64(0)
		blobs := filepath.Join(img, "blobs", "sha256")
		entries, err := os.ReadDir(blobs)
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range entries {
			if info, err := entry.Info(); err != nil {
				t.Fatal(err)
			} else if blob, err := os.ReadFile(filepath.Join(blobs, entry.Name())); err != nil {
				t.Fatal(err)
			} else if blob[0] == 0x1f && info.Size() > size {
				largest, size = filepath.Join(blobs, entry.Name()), info.Size()
			}
		}
		damaged, err := damage(largest)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(largest); err != nil {
			t.Fatal(err)
		}
		if damaged == nil {
			return
		}
		if err := os.WriteFile(largest, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func badInput(t *testing.T, names map[string]string) {
	yaml := func(edit ...string) func(*testing.T, string) {
		text := strings.NewReplacer(edit...).Replace(strings.Replace(enclaveYAML, "%s", names["FIXTURE"]+"/image", 1))
		return write("enclave.yaml", text)
	}
	remote := "--broker $URL --broker-spki $PIN "
	owner := remote + "--owner-key $OWNER.key "
	for group, rows := range map[string][]bad{
		"command line": {
			{name: "unknown command", args: "lauch", code: usage, want: `unknown command "lauch".*--help`},
			{name: "unknown flag", args: "--lauch", code: usage, want: `unknown flag: --lauch.*--help`},
			{name: "unknown sub-command", args: "softtee platform drop", code: usage, want: `unknown command "drop" for "adyton softtee platform".*--help`},
			{name: "unknown sub-command flag", args: "broker owner --drop", code: usage, want: `unknown flag.*--help`},
			{name: "no help for it", args: "help lauch", code: usage, want: `unknown command "lauch"`},
			{name: "completion for an unknown shell", args: "completion tcsh", code: usage, want: `unknown command "tcsh"`},
			{name: "missing argument", args: "policy check", code: usage, want: `accepts 1 arg.*--help`},
			{name: "too many arguments", args: "policy check a b", code: usage, want: `accepts 1 arg.*--help`},
			{name: "missing flag", args: "policy test --policy $POLICY", code: usage, want: `"claims".*--help`},
			{name: "flag without value", args: "softtee init --dir", code: usage, want: `needs an argument.*--help`},
			{name: "output format", args: "softtee show -o yaml", code: usage, want: `text or json`},
			{name: "exclusive flags", args: "softtee show --pem --trust-policy", code: usage, want: `pem.*trust-policy`},
			{name: "number", args: "policy init --product 70000", code: usage, want: `70000.*--product.*out of range`},
			{name: "manual pages into a file", args: "man $POLICY", code: failure, want: `release.yaml`},
		},
		"softtee": {
			{name: "init twice", args: "softtee init --dir $TEE", code: failure, want: `--if-missing`},
			{name: "init in a used directory", setup: write("tee/letter", "x"), args: "softtee init --dir tee", code: failure, want: `tee`},
			{name: "init on a file", setup: write("tee", "x"), args: "softtee init --dir tee", code: failure, want: `tee`},
			{name: "init in a file", setup: write("tee", "x"), args: "softtee init --dir tee/tee", code: failure, want: `tee`},
			{name: "show without init", args: "softtee show --dir none", code: failure, want: `none.*adyton softtee init`},
			{name: "show of a file", args: "softtee show --dir $POLICY", code: failure, want: `release.yaml`},
			{name: "empty installation", setup: write("tee/installation.json", ""), args: "softtee show --dir tee", code: failure, want: `installation.json`},
			{name: "corrupt installation", setup: write("tee/installation.json", `{"id": 5}`), args: "softtee show --dir tee", code: failure, want: `installation.json`},
			{name: "binary installation", setup: write("tee/installation.json", "\x00\xff"), args: "softtee show --dir tee", code: failure, want: `installation.json`},
			{name: "huge installation", setup: write("tee/installation.json", strings.Repeat(" ", 32<<20)), args: "softtee show --dir tee", code: failure, want: `installation.json`},
			{name: "platform name", args: "softtee platform create --dir $TEE ../escape", code: failure, want: `escape.*name|name.*escape`},
			{name: "empty platform name", args: "softtee platform create --dir $TEE $EMPTY", code: failure, want: `name`},
			{name: "platform exists", args: "softtee platform create --dir $TEE default", code: failure, want: `default`},
			{name: "platform status", args: "softtee platform create --dir $TEE --tcb good x", code: usage, want: `out-of-date`},
			{name: "platform CA", args: "softtee platform create --dir $TEE --ca mine x", code: failure, want: `platform or processor`},
			{name: "platform TCB info", args: "softtee platform create --dir $TEE --tcb-info odd x", code: failure, want: `expired`},
			{name: "port in use", args: "softtee serve --dir $TEE --listen $PORT --ready-file ready", code: failure, want: `in use.*--listen`},
			{name: "listen address", args: "softtee serve --dir $TEE --listen nonsense", code: failure, want: `--listen.*nonsense`},
			{name: "listen port", args: "softtee serve --dir $TEE --listen 127.0.0.1:99999", code: failure, want: `--listen.*99999`},
			{name: "ready file nowhere", args: "softtee serve --dir $TEE --listen 127.0.0.1:0 --ready-file none/ready", code: failure, want: `--ready-file.*none`},
			{name: "no home", args: "softtee show", env: []string{"HOME=", "XDG_STATE_HOME=relative"}, code: failure, want: `softtee|HOME`},
		},
		"broker": {
			{name: "init twice", args: "broker init --dir $BROKER", code: failure, want: `broker`},
			{name: "init in a used directory", setup: write("b/letter", "x"), args: "broker init --dir b", code: failure, want: `b.*empty`},
			{name: "init on a file", setup: write("b", "x"), args: "broker init --dir b", code: failure, want: `b`},
			{name: "init seal-to", args: "broker init --dir b --seal-to stone", code: usage, want: `passphrase`},
			{name: "init in no enclave", args: "broker init --dir b --seal-to sgx-mrsigner --attestation-dir none", code: failure, want: `none`},
			{name: "init no passphrase file", args: "broker init --dir b --passphrase-file none", code: failure, want: `none`},
			{name: "init empty passphrase", setup: write("pass", "\n"), args: "broker init --dir b --passphrase-file pass", code: failure, want: `passphrase.*empty|empty.*passphrase|short`},
			{name: "init passphrase from closed input", args: "broker init --dir b --seal-to passphrase", code: failure, want: `--passphrase-file`},
			{name: "init bad host", args: "broker init --dir b --host bad\x01name", code: failure, want: `host`},
			{name: "serve nothing", args: "broker serve --dir none", code: failure, want: `adyton broker init`},
			{name: "serve twice", args: "broker serve --dir $BROKER --listen 127.0.0.1:0", code: failure, want: `in use|another|runs`},
			{name: "serve corrupt store", setup: all(write("b/broker.db", strings.Repeat("x", 9000))), args: "broker serve --dir b", code: failure, want: `b`},
			{name: "serve wrong passphrase", setup: all(write("pass", "right horse"), write("wrong", "wrong horse"), func(t *testing.T, dir string) {
				mustRun(t, invocation{dir: dir, args: expand("broker init --dir b --passphrase-file pass", names, dir)})
			}), args: "broker serve --dir b --listen 127.0.0.1:0 --passphrase-file wrong", code: failure, want: `passphrase`},
			{name: "serve root key readable by others", setup: func(t *testing.T, dir string) {
				mustRun(t, invocation{dir: dir, args: expand("broker init --dir b", names, dir)})
				if err := os.Chmod(filepath.Join(dir, "b", "root.key"), 0o644); err != nil {
					t.Fatal(err)
				}
			}, args: "broker serve --dir b --listen 127.0.0.1:0", code: failure, want: `root\.key.*chmod`},
			{name: "serve truncated store", setup: func(t *testing.T, dir string) {
				mustRun(t, invocation{dir: dir, args: expand("broker init --dir b", names, dir)})
				if err := os.Truncate(filepath.Join(dir, "b", "broker.db"), 5000); err != nil {
					t.Fatal(err)
				}
			}, args: "broker serve --dir b --listen 127.0.0.1:0", code: failure, want: `broker\.db`},
			{name: "serve port in use", setup: func(t *testing.T, dir string) {
				mustRun(t, invocation{dir: dir, args: expand("broker init --dir b", names, dir)})
			}, args: "broker serve --dir b --listen $PORT --ready-file ready", code: failure, want: `in use.*--listen`},
			{name: "serve trust policy missing", args: "broker serve --dir $BROKER --trust-policy none.yaml", code: failure, want: `none.yaml`},
			{name: "serve trust policy broken", setup: write("t.yaml", "apiVersion: adyton.dev/v1alpha1\nkind: TrustPolicy\nmetadata: {name: x}\nspec:\n  rots: []\n"), args: "broker serve --dir $BROKER --trust-policy t.yaml", code: failure, want: `t\.yaml:5:\d+.*rots`},
			{name: "serve trust policy of another kind", args: "broker serve --dir $BROKER --trust-policy $POLICY", code: failure, want: `release\.yaml:\d+:\d+`},
			{name: "serve collateral URL", args: "broker serve --dir $BROKER --collateral-url gopher://x", code: failure, want: `gopher`},
			{name: "serve rate", args: "broker serve --dir $BROKER --rate 0", code: usage, want: `--rate`},
			{name: "serve TLS pair", args: "broker serve --dir $BROKER --tls-cert x", code: usage, want: `tls-key`},
			{name: "pin of nothing", args: "broker pin --dir none", code: failure, want: `adyton broker init`},
			{name: "keygen exists", setup: write("a.key", "x"), args: "broker keygen a", code: failure, want: `a\.key exists`},
			{name: "keygen public exists", setup: write("a.pub", "x"), args: "broker keygen a", code: failure, want: `a\.pub exists`},
			{name: "keygen nowhere", args: "broker keygen none/a", code: failure, want: `none`},
			{name: "owner add no key file", args: "broker owner add --dir $BROKER o --public-key none --repository r", code: failure, want: `--public-key.*none`},
			{name: "owner add bad key", args: "broker owner add --dir $BROKER o --public-key $POLICY --repository r", code: failure, want: `(?i)public key`},
			{name: "owner add private key", args: "broker owner add --dir $BROKER o --public-key $OWNER.key --repository r", code: failure, want: `(?i)public key`},
			{name: "owner add bad repository", args: "broker owner add --dir $BROKER o --public-key $OWNER.pub --repository a/b", code: failure, want: `a/b`},
			{name: "owner add bad name", args: "broker owner add --dir $BROKER ../o --public-key $OWNER.pub --repository r", code: failure, want: `name`},
			{name: "owner add taken repository", args: "broker owner add --dir $BROKER o --public-key $OWNER.pub --repository hospital", code: failure, want: `registered already`},
			{name: "owner remove unknown", args: "broker owner remove --dir $BROKER nobody", code: refused, want: `nobody`},
			{name: "owner list nowhere", args: "broker owner list", code: usage, want: `dir.*broker`},
			{name: "owner list twice", args: "broker owner list --dir $BROKER --broker $URL", code: usage, want: `dir.*broker`},
			{name: "owner removed by an owner", args: "broker owner remove " + remote + "--admin-key $OWNER.key owner", code: refused, want: `^adyton: [A-Z]\w+: `},
			{name: "broker down", args: "broker resource get-metadata --broker https://127.0.0.1:1 --broker-spki $PIN --owner-key $OWNER.key kbs:///hospital/key/a", code: refused, want: `BrokerUnreachable.*127\.0\.0\.1:1.*running`},
			{name: "broker unresolvable", args: "broker resource get-metadata --broker https://nowhere.invalid --broker-spki $PIN --owner-key $OWNER.key kbs:///hospital/key/a", code: refused, want: `BrokerUnreachable.*nowhere\.invalid`},
			{name: "broker over http", args: "broker resource get-metadata --broker http://$PORT --broker-spki $PIN --owner-key $OWNER.key kbs:///hospital/key/a", code: refused, want: `BrokerUnreachable|https`},
			{name: "broker URL", args: "broker resource get-metadata --broker nonsense --broker-spki $PIN --owner-key $OWNER.key kbs:///hospital/key/a", code: failure, want: `nonsense.*https://`},
			{name: "wrong pin", args: "broker resource get-metadata --broker $URL --broker-spki sha256:" + strings.Repeat("00", 32) + " --owner-key $OWNER.key kbs:///hospital/key/a", code: refused, want: `BrokerNotTrusted`},
			{name: "pin format", args: "broker resource get-metadata --broker $URL --broker-spki abc --owner-key $OWNER.key kbs:///hospital/key/a", code: failure, want: `sha256:`},
			{name: "no pin", args: "broker resource get-metadata --broker $URL --owner-key $OWNER.key kbs:///hospital/key/a", code: failure, want: `adyton broker pin`},
			{name: "no owner key", args: "broker resource get-metadata " + remote + "--owner-key none kbs:///hospital/key/a", code: failure, want: `none`},
			{name: "owner key readable by others", setup: func(t *testing.T, dir string) {
				key, err := os.ReadFile(names["OWNER"] + ".key")
				if err != nil {
					t.Fatal(err)
				}
				write("open.key", string(key))(t, dir)
				if err := os.Chmod(filepath.Join(dir, "open.key"), 0o640); err != nil {
					t.Fatal(err)
				}
			}, args: "broker resource get-metadata " + remote + "--owner-key open.key kbs:///hospital/key/a", code: failure, want: `open\.key.*chmod`},
			{name: "owner key is no key", args: "broker resource get-metadata " + remote + "--owner-key $PLAIN kbs:///hospital/key/a", code: failure, want: `plain`},
			{name: "foreign repository", args: "broker resource get-metadata " + owner + "kbs:///other/key/a", code: refused, want: `^adyton: [A-Z]\w+: `},
			{name: "resource name", args: "broker resource get-metadata " + owner + "kbs:///hospital/key", code: failure, want: `kbs:///`},
			{name: "resource path", args: "broker resource get-metadata " + owner + "kbs:///hospital/../key", code: failure, want: `kbs:///`},
			{name: "resource missing", args: "broker resource get-metadata " + owner + "kbs:///hospital/key/none", code: refused, want: `ResourceNotFound`},
			{name: "resource file missing", args: "broker resource put " + owner + "--policy $POLICY kbs:///hospital/key/a none", code: failure, want: `none`},
			{name: "resource is a directory", args: "broker resource put " + owner + "--policy $POLICY kbs:///hospital/key/a .", code: failure, want: `directory`},
			{name: "resource too large", setup: write("big", strings.Repeat("x", 2<<20)), args: "broker resource put " + owner + "--policy $POLICY kbs:///hospital/key/a big", code: failure, want: `big.*1048576`},
			{name: "resource policy broken", setup: write("p.yaml", "apiVersion: [\n"), args: "broker resource put " + owner + "--policy p.yaml kbs:///hospital/key/a $PLAIN", code: refused, want: `^adyton: PolicyInvalid: p\.yaml:\d+:\d+`},
		},
		"policy": {
			{name: "missing", args: "policy check none.yaml", code: failure, want: `none\.yaml`},
			{name: "directory", args: "policy check .", code: failure, want: `directory`},
			{name: "empty", setup: write("p.yaml", ""), args: "policy check p.yaml", code: refused, want: `^adyton: PolicyInvalid: p\.yaml:1:1`},
			{name: "binary", setup: write("p.yaml", "\x00\x01\xff"), args: "policy check p.yaml", code: refused, want: `^adyton: PolicyInvalid: p\.yaml`},
			{name: "syntax", setup: write("p.yaml", "apiVersion: adyton.dev/v1alpha1\nkind: ReleasePolicy\nmetadata: {name: x\nspec: {}\n"), args: "policy check p.yaml", code: refused, want: `^adyton: PolicyInvalid: p\.yaml:\d+:\d+`},
			{name: "tab", setup: write("p.yaml", "apiVersion: adyton.dev/v1alpha1\n\tkind: ReleasePolicy\n"), args: "policy check p.yaml", code: refused, want: `^adyton: PolicyInvalid: p\.yaml:\d+:\d+`},
			{name: "wrong type", setup: write("p.yaml", "apiVersion: adyton.dev/v1alpha1\nkind: ReleasePolicy\nmetadata: {name: x}\nspec: {validations: 5}\n"), args: "policy check p.yaml", code: refused, want: `^adyton: PolicyInvalid: p\.yaml:4:\d+`},
			{name: "unknown field", setup: write("p.yaml", "apiVersion: adyton.dev/v1alpha1\nkind: ReleasePolicy\nmetadata: {name: x}\nspec: {validation: []}\n"), args: "policy check p.yaml", code: refused, want: `^adyton: PolicyInvalid: p\.yaml:4:\d+.*validation`},
			{name: "expression", setup: write("p.yaml", "apiVersion: adyton.dev/v1alpha1\nkind: ReleasePolicy\nmetadata: {name: x}\nspec:\n  validations:\n  - expression: sgx.isv_svn >\n    reason: SVNTooLow\n"), args: "policy check p.yaml", code: refused, want: `^adyton: PolicyInvalid: p\.yaml:6:\d+`},
			{name: "unknown claim", setup: write("p.yaml", "apiVersion: adyton.dev/v1alpha1\nkind: ReleasePolicy\nmetadata: {name: x}\nspec:\n  validations:\n  - expression: sgx.mrsinger == \"\"\n    reason: SVNTooLow\n"), args: "policy check p.yaml", code: refused, want: `^adyton: PolicyInvalid: p\.yaml:6:\d+.*mrsinger`},
			{name: "huge", setup: write("p.yaml", strings.Repeat("# \n", 1<<20)), args: "policy check p.yaml", code: failure, want: `p\.yaml.*(large|bytes|KiB|MiB)`},
			{name: "init exists", setup: write("p.yaml", "x"), args: "policy init --file p.yaml", code: failure, want: `p\.yaml.*exists`},
			{name: "init signer", args: "policy init --signer xyz", code: usage, want: `--signer.*64`},
			{name: "test claims missing", args: "policy test --policy $POLICY --claims none", code: failure, want: `none`},
			{name: "test claims broken", setup: write("c.json", "{"), args: "policy test --policy $POLICY --claims c.json", code: failure, want: `c\.json`},
			{name: "test claims unknown", setup: write("c.json", `{"tea": 1}`), args: "policy test --policy $POLICY --claims c.json", code: failure, want: `c\.json.*tea`},
			{name: "test time", setup: write("c.json", `{}`), args: "policy test --policy $POLICY --claims c.json --now yesterday", code: usage, want: `--now.*2006`},
			{name: "test resource", setup: write("c.json", `{}`), args: "policy test --policy $POLICY --claims c.json --resource x", code: usage, want: `kbs:///`},
		},
		"audit": {
			{name: "nowhere", args: "audit verify", code: usage, want: `--dir`},
			{name: "no broker", args: "audit verify --dir none", code: failure, want: `adyton broker init`},
			{name: "show number", args: "audit show --dir $BROKER x", code: usage, want: `"x"`},
			{name: "show beyond", args: "audit show --dir $BROKER 99999", code: failure, want: `99999`},
			{name: "file missing", args: "audit verify --file none --checkpoint $PLAIN --key $BROKER/audit.pub", code: failure, want: `none`},
			{name: "file broken", setup: write("log", "{\n"), args: "audit verify --file log --checkpoint $PLAIN --key $BROKER/audit.pub", code: refused, want: `plain|checkpoint`},
			{name: "key missing", args: "audit verify --dir $BROKER --key none", code: failure, want: `none`},
			{name: "key broken", args: "audit verify --dir $BROKER --key $PLAIN", code: failure, want: `plain`},
			{name: "since broken", args: "audit verify --dir $BROKER --since $PLAIN", code: refused, want: `plain|checkpoint`},
			{name: "negative last", args: "audit list --dir $BROKER --last -4", code: usage, want: `--last`},
		},
		"enclave": {
			{name: "init exists", setup: write("enclave.yaml", "x"), args: "enclave init --image $IMAGE --name a", code: failure, want: `enclave\.yaml.*exist`},
			{name: "init no image", args: "enclave init", code: usage, want: `image`},
			{name: "init bad name", args: "enclave init --image $IMAGE --name A/b", code: failure, want: `name`},
			{name: "init image missing", args: "enclave init --image oci:none --name a", code: failure, want: `none`},
			{name: "init image is a text file", args: "enclave init --image oci:$PLAIN --name a", code: failure, want: `plain`},
			{name: "init image is empty", setup: mkdir("img"), args: "enclave init --image oci:img --name a", code: failure, want: `img`},
			{name: "init image index corrupt", setup: all(write("img/oci-layout", `{"imageLayoutVersion":"1.0.0"}`), write("img/index.json", "{x")), args: "enclave init --image oci:img --name a", code: failure, want: `index\.json`},
			{name: "init image index empty", setup: all(write("img/oci-layout", `{"imageLayoutVersion":"1.0.0"}`), write("img/index.json", `{"schemaVersion":2,"manifests":[]}`)), args: "enclave init --image oci:img --name a", code: failure, want: `img`},
			{name: "init image index of wrong types", setup: all(write("img/oci-layout", `{"imageLayoutVersion":"1.0.0"}`), write("img/index.json", `{"schemaVersion":"2","manifests":{}}`)), args: "enclave init --image oci:img --name a", code: failure, want: `img`},
			{name: "sign image with a missing blob", setup: all(damagedImage(names, func(string) ([]byte, error) { return nil, nil }), yaml(names["FIXTURE"]+"/image", "./img")), args: "enclave sign --key $KEY", code: failure, want: `img`},
			{name: "sign image with a changed blob", setup: all(damagedImage(names, func(path string) ([]byte, error) {
				blob, err := os.ReadFile(path)
				if err != nil {
					return nil, err
				}
				blob[len(blob)/2] ^= 1
				return blob, nil
			}), yaml(names["FIXTURE"]+"/image", "./img")), args: "enclave sign --key $KEY", code: refused, want: `sha256`},
			{name: "init archive is not tar", args: "enclave init --image docker-archive:$PLAIN --name a", code: failure, want: `plain`},
			{name: "init archive is a directory", args: "enclave init --image docker-archive:. --name a", code: failure, want: `director|docker-archive`},
			{name: "init archive missing", args: "enclave init --image docker-archive:none --name a", code: failure, want: `none`},
			{name: "init reference", args: "enclave init --image UPPER//x --name a", code: failure, want: `UPPER`},
			{name: "init registry down", args: "enclave init --image 127.0.0.1:1/app --name a", code: failure, want: `127\.0\.0\.1:1`},
			{name: "init tag missing", args: "enclave init --image $IMAGE:v9 --name a", code: failure, want: `v9`},
			{name: "init unknown scheme", args: "enclave init --image tar:x --name a", code: failure, want: `tar:x`},
			{name: "keygen exists", setup: write("k.pem", "x"), args: "enclave keygen k.pem", code: failure, want: `k\.pem.*exist`},
			{name: "keygen nowhere", args: "enclave keygen none/k.pem", code: failure, want: `none`},
			{name: "pack exists", setup: mkdir("img"), args: "enclave pack --to img $PLAIN=/app --entrypoint /app", code: failure, want: `img.*exist`},
			{name: "pack file missing", args: "enclave pack --to img none=/app", code: failure, want: `none`},
			{name: "pack relative path", args: "enclave pack --to img $PLAIN=app", code: usage, want: `/PATH|absolute`},
			{name: "pack nothing", args: "enclave pack --to img", code: usage, want: `--help`},
			{name: "pack no target", args: "enclave pack $PLAIN=/app", code: usage, want: `to`},
			{name: "pack user", args: "enclave pack --to img --user root $PLAIN=/app --entrypoint /app", code: usage, want: `UID`},
			{name: "pack platform", args: "enclave pack --to img --platform x $PLAIN=/app --entrypoint /app", code: usage, want: `platform`},
			{name: "pack twice the same path", args: "enclave pack --to img $PLAIN=/app $POLICY=/app --entrypoint /app", code: failure, want: `/app`},
			{name: "pack no program", args: "enclave pack --to img $PLAIN=/app", code: usage, want: `--entrypoint`},
			{name: "measure no file", args: "enclave measure", code: failure, want: `enclave\.yaml.*adyton enclave init`},
			{name: "measure a directory", args: "enclave measure -f .", code: failure, want: `directory`},
			{name: "measure empty", setup: write("enclave.yaml", ""), args: "enclave measure", code: failure, want: `enclave\.yaml:1:1`},
			{name: "measure binary", setup: write("enclave.yaml", "\x7fELF\x00"), args: "enclave measure", code: failure, want: `enclave\.yaml`},
			{name: "measure broken", setup: yaml("threads: 4", "threads: [4"), args: "enclave measure", code: failure, want: `enclave\.yaml:\d+:\d+`},
			{name: "measure unknown field", setup: yaml("threads:", "thread:"), args: "enclave measure", code: failure, want: `enclave\.yaml:6:1.*thread`},
			{name: "measure wrong type", setup: yaml("threads: 4", "threads: four"), args: "enclave measure", code: failure, want: `enclave\.yaml:6:\d+`},
			{name: "measure twice a field", setup: yaml("threads: 4", "threads: 4\nthreads: 5"), args: "enclave measure", code: failure, want: `enclave\.yaml:7:\d+`},
			{name: "measure memory", setup: yaml("64Mi", "64 parsecs"), args: "enclave measure", code: failure, want: `enclave\.yaml:5:\d+.*size`},
			{name: "measure negative memory", setup: yaml("64Mi", "-1"), args: "enclave measure", code: failure, want: `enclave\.yaml:5:\d+.*size`},
			{name: "measure no threads", setup: yaml("threads: 4", "threads: 0"), args: "enclave measure", code: failure, want: `enclave\.yaml:6:\d+.*threads`},
			{name: "measure product", setup: yaml("productID: 1", "productID: 65536"), args: "enclave measure", code: failure, want: `enclave\.yaml:7:\d+`},
			{name: "measure mount over root", setup: yaml("svn: 1", "svn: 1\nmounts: [{path: /}]"), args: "enclave measure", code: failure, want: `enclave\.yaml:9:\d+`},
			{name: "measure relative mount", setup: yaml("svn: 1", "svn: 1\nmounts: [{path: ../etc}]"), args: "enclave measure", code: failure, want: `enclave\.yaml:9:\d+`},
			{name: "measure secret outside memory", setup: yaml("svn: 1", "svn: 1\nunlock: [{resource: 'kbs:///a/b/c', file: /etc/x}]"), args: "enclave measure", code: failure, want: `enclave\.yaml:9:\d+`},
			{name: "measure name", setup: yaml("name: app", "name: '../app'"), args: "enclave measure", code: failure, want: `enclave\.yaml:3:\d+.*name`},
			{name: "measure huge", setup: write("enclave.yaml", strings.Repeat("# \n", 1<<22)), args: "enclave measure", code: failure, want: `enclave\.yaml.*(large|bytes|KiB|MiB)`},
			{name: "measure bomb", setup: write("enclave.yaml", "a: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b]\n"), args: "enclave measure", code: failure, want: `enclave\.yaml:\d+:\d+`},
			{name: "measure no init", args: "enclave measure -f $YAML --init none", code: failure, want: `none`},
			{name: "sign no key", args: "enclave sign -f $YAML", code: usage, want: `--key.*keygen`},
			{name: "sign key missing", args: "enclave sign -f $YAML --key none", code: failure, want: `none`},
			{name: "sign key of another kind", args: "enclave sign -f $YAML --key $OWNER.key", code: failure, want: `RSA`},
			{name: "sign key readable by others", setup: func(t *testing.T, dir string) {
				key, err := os.ReadFile(names["KEY"])
				if err != nil {
					t.Fatal(err)
				}
				write("open.pem", string(key))(t, dir)
				if err := os.Chmod(filepath.Join(dir, "open.pem"), 0o644); err != nil {
					t.Fatal(err)
				}
			}, args: "enclave sign -f $YAML --key open.pem --bundle b", code: failure, want: `open\.pem.*chmod`},
			{name: "sign into nowhere", args: "enclave sign -f $YAML --key $KEY --bundle none/b", code: failure, want: `none`},
			{name: "inspect nothing", args: "enclave inspect", code: usage, want: `IMAGE|--bundle`},
			{name: "inspect unsigned name", args: "enclave inspect $IMAGE --name other", code: refused, want: `SignatureMissing`},
			{name: "inspect bundle is text", args: "enclave inspect --bundle $PLAIN", code: failure, want: `plain`},
			{name: "verify signer format", args: "enclave verify $IMAGE --signer abc", code: usage, want: `--signer.*64`},
			{name: "verify signer", args: "enclave verify $IMAGE --signer " + strings.Repeat("ab", 32), code: refused, want: `SignerNotApproved`},
			{name: "verify bundle missing", args: "enclave verify $IMAGE --bundle none", code: failure, want: `none`},
		},
		"data": {
			{name: "keygen exists", setup: write("k", "x"), args: "data keygen k", code: failure, want: `k.*exists`},
			{name: "seal input missing", args: "data seal --key-file $DATAKEY none out", code: failure, want: `none`},
			{name: "seal nowhere", args: "data seal --key-file $DATAKEY $PLAIN none/out", code: failure, want: `none`},
			{name: "seal exists", setup: write("out", "x"), args: "data seal --key-file $DATAKEY $PLAIN out", code: failure, want: `out exists.*--force`},
			{name: "seal into a directory", setup: mkdir("out"), args: "data seal --force --key-file $DATAKEY $PLAIN out", code: failure, want: `out`},
			{name: "seal key missing", args: "data seal --key-file none $PLAIN out", code: failure, want: `none`},
			{name: "seal key of wrong size", args: "data seal --key-file $PLAIN $PLAIN out", code: failure, want: `plain.*32`},
			{name: "seal no key", args: "data seal $PLAIN out", code: usage, want: `--broker.*--key-file`},
			{name: "seal resource", args: "data seal --resource x --key-file $DATAKEY $PLAIN out", code: usage, want: `--resource.*kbs:///`},
			{name: "seal link in directory", setup: func(t *testing.T, dir string) {
				mkdir("in")(t, dir)
				if err := os.Symlink("/etc/passwd", filepath.Join(dir, "in", "link")); err != nil {
					t.Fatal(err)
				}
			}, args: "data seal --key-file $DATAKEY in out", code: failure, want: `link`},
			{name: "seal key readable by others", setup: func(t *testing.T, dir string) {
				write("open.key", strings.Repeat("k", 32))(t, dir)
				if err := os.Chmod(filepath.Join(dir, "open.key"), 0o644); err != nil {
					t.Fatal(err)
				}
			}, args: "data seal --key-file open.key $PLAIN out", code: failure, want: `open\.key.*chmod`},
			{name: "seal broker down", args: "data seal --broker https://127.0.0.1:1 --broker-spki $PIN --owner-key $OWNER.key --resource kbs:///hospital/key/c --policy $POLICY $PLAIN out", code: refused, want: `BrokerUnreachable`},
			{name: "seal wrong pin", args: "data seal --broker $URL --broker-spki sha256:" + strings.Repeat("00", 32) + " --owner-key $OWNER.key --resource kbs:///hospital/key/c --policy $POLICY $PLAIN out", code: refused, want: `BrokerNotTrusted`},
			{name: "seal policy broken", setup: write("p.yaml", "kind: [\n"), args: "data seal " + owner + "--resource kbs:///hospital/key/c --policy p.yaml $PLAIN out", code: refused, want: `^adyton: PolicyInvalid: p\.yaml:\d+:\d+`},
			{name: "seal foreign repository", args: "data seal " + owner + "--resource kbs:///other/key/c --policy $POLICY $PLAIN out", code: refused, want: `^adyton: [A-Z]\w+: `},
			{name: "open missing", args: "data open --key-file $DATAKEY none out", code: failure, want: `none`},
			{name: "open exists", setup: write("out", "x"), args: "data open --key-file $DATAKEY $SEALED out", code: failure, want: `out exists.*--force`},
			{name: "open over a device", args: "data open --force --key-file $DATAKEY $SEALED /dev/null", code: failure, want: `/dev/null exists and is not a file`},
			{name: "open not sealed", args: "data open --key-file $DATAKEY $PLAIN out", code: refused, want: `DataCorrupt`},
			{name: "open empty", setup: write("in", ""), args: "data open --key-file $DATAKEY in out", code: refused, want: `DataCorrupt`},
			{name: "open truncated", setup: func(t *testing.T, dir string) {
				sealed, err := os.ReadFile(names["SEALED"])
				if err != nil {
					t.Fatal(err)
				}
				write("in", string(sealed[:len(sealed)-1]))(t, dir)
			}, args: "data open --key-file $DATAKEY in out", code: refused, want: `DataCorrupt`},
			{name: "open wrong key", setup: write("k", strings.Repeat("k", 32)), args: "data open --key-file k $SEALED out", code: refused, want: `key`},
			{name: "open outside an enclave", args: "data open --broker $URL --broker-spki $PIN $SEALED out", code: refused, want: `enclave|TEE|key`},
			{name: "info not sealed", args: "data info $PLAIN", code: refused, want: `DataCorrupt`},
			{name: "info directory", args: "data info .", code: failure, want: `directory`},
		},
		"run": {
			{name: "no image", args: "run", code: notRun, want: `--help`},
			{name: "wrong flag", args: "run --nosuch $IMAGE", code: notRun, want: `--help`},
			{name: "another signer", args: "run --signer " + strings.Repeat("0", 64) + " --softtee $TEE --run-dir $DIR/run $IMAGE", code: notRun, want: `SignatureMissing`},
			{name: "unknown sandbox", args: "run --sandbox chroot $IMAGE", code: notRun, want: `gvisor`},
			{name: "unknown network", args: "run --network bridge $IMAGE", code: notRun, want: `host`},
			{name: "image missing", args: "run --softtee $TEE --run-dir $DIR/run oci:none", code: notRun, want: `none`},
			{name: "image is a text file", args: "run --softtee $TEE --run-dir $DIR/run oci:$PLAIN", code: notRun, want: `plain`},
			{name: "no software TEE", args: "run --softtee none --run-dir $DIR/run $IMAGE", code: notRun, want: `adyton softtee init`},
			{name: "unknown platform", args: "run --softtee $TEE --platform none --run-dir $DIR/run $IMAGE", code: notRun, want: `none`},
			{name: "unknown enclave", args: "run --softtee $TEE --enclave none --run-dir $DIR/run $IMAGE", code: notRun, want: `none`},
			{name: "other arguments", args: "run --softtee $TEE --run-dir $DIR/run $IMAGE -- --evil", code: notRun, want: `MeasurementMismatch.*arguments`, change: "run"},
			{name: "other environment", args: "run --softtee $TEE --run-dir $DIR/run -e LD_PRELOAD=/x $IMAGE", code: notRun, want: `MeasurementMismatch.*environment`, change: "run"},
			{name: "unsigned mount", args: "run --softtee $TEE --run-dir $DIR/run --mount /x=/etc $IMAGE", code: notRun, want: `/x`},
			{name: "mount format", args: "run --softtee $TEE --run-dir $DIR/run --mount x $IMAGE", code: notRun, want: `PATH=HOSTPATH`},
			{name: "memory format", args: "run --softtee $TEE --run-dir $DIR/run -m lots $IMAGE", code: notRun, want: `--memory.*lots`},
			{name: "bundle is text", args: "run --softtee $TEE --run-dir $DIR/run --bundle $PLAIN $IMAGE", code: notRun, want: `bundle`},
			{name: "tty without one", args: "run -t --softtee $TEE --run-dir $DIR/run $IMAGE", code: notRun, want: `terminal`},
		},
	} {
		t.Run(group, func(t *testing.T) {
			t.Parallel()
			runBad(t, names, rows)
		})
	}
}
