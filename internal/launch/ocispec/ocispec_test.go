package ocispec_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"slices"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/adyton-dev/adyton/internal/launch/ocispec"
)

var update = flag.Bool("update", false, "write the golden files")

func config() ocispec.Config {
	return ocispec.Config{
		Root: "/run/root", ReadOnlyRoot: true, Args: []string{"/init"}, Env: []string{"A=b"}, Hostname: "host",
		Mounts: []ocispec.Mount{
			{Destination: "/data/inner", Size: 4096},
			{Destination: "/data", Source: "/host/data", ReadOnly: true},
		},
		Cgroup: "/adyton/x", Limits: ocispec.Limits{Memory: 1 << 28, NoSwap: true, Threads: 100}, MaxFiles: 4096,
	}
}

func TestSpecificationIsTheGoldenOne(t *testing.T) {
	t.Parallel()
	spec, err := ocispec.New(config())
	if err != nil {
		t.Fatal(err)
	}
	got, err := json.MarshalIndent(spec, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	const golden = "testdata/spec.golden.json"
	if *update {
		if err := os.WriteFile(golden, append(got, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(bytes.TrimSpace(want), got) {
		t.Errorf("the specification is not %s; if it should change: go test ./internal/launch/ocispec -update\n%s", golden, got)
	}
}

func TestSeccompDeniesWhatIsNotListed(t *testing.T) {
	t.Parallel()
	c := config()
	c.Seccomp = true
	spec, err := ocispec.New(c)
	if err != nil {
		t.Fatal(err)
	}
	filter := spec.Linux.Seccomp
	if filter == nil || filter.DefaultAction != specs.ActErrno {
		t.Fatalf("filter: %+v", filter)
	}
	for _, rule := range filter.Syscalls {
		for _, name := range []string{"mount", "kexec_load", "init_module", "open_by_handle_at", "bpf"} {
			if rule.Action == specs.ActAllow && slices.Contains(rule.Names, name) {
				t.Errorf("%s is allowed", name)
			}
		}
	}
}

func TestNamespacesFollowNetworkAndUsers(t *testing.T) {
	t.Parallel()
	has := func(c ocispec.Config, kind specs.LinuxNamespaceType) bool {
		spec, err := ocispec.New(c)
		if err != nil {
			t.Fatal(err)
		}
		return slices.ContainsFunc(spec.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == kind })
	}
	c := config()
	if !has(c, specs.NetworkNamespace) || has(c, specs.UserNamespace) {
		t.Error("default: want a network of its own and no user name space")
	}
	c.HostNetwork, c.Users = true, &ocispec.UserNamespace{UIDs: []specs.LinuxIDMapping{{Size: 1}}}
	if has(c, specs.NetworkNamespace) || !has(c, specs.UserNamespace) {
		t.Error("host network without root: want the host's network and a user name space")
	}
}

func TestMountsOutsideTheContainerAreErrors(t *testing.T) {
	t.Parallel()
	for _, destination := range []string{"", "/", "data", "/a/../b", "/a/"} {
		c := config()
		c.Mounts = []ocispec.Mount{{Destination: destination}}
		if _, err := ocispec.New(c); err == nil {
			t.Errorf("mount at %q is accepted", destination)
		}
	}
}
