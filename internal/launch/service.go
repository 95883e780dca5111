package launch

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"

	"github.com/adyton-dev/adyton/internal/initd"
	"github.com/adyton-dev/adyton/internal/launch/ocispec"
	"github.com/adyton-dev/adyton/internal/launch/relay"
	"github.com/adyton-dev/adyton/internal/softtee/attestfs"
)

// ServeOptions are what an enclave is served with.
type ServeOptions struct {
	// Init is the init program, the one that was measured.
	Init string
	// Broker, if set, is the URL that the enclave's broker is reached at, in place
	// of the signed one. The key that the broker must prove stays the signed one.
	Broker string
	Logger *slog.Logger
}

// Service is what the host serves to one enclave. Close it when the enclave ends.
type Service struct {
	dir         string
	init        string
	attestation *attestfs.Server
	relay       *relay.Relay // nil: no broker
}

// Serve writes the enclave's files into dir, which must be an empty directory of
// mode 0700, and serves its attestation files and its broker there.
func Serve(dir string, enclave *Enclave, platform Platform, o ServeOptions) (_ *Service, err error) {
	s := &Service{dir: dir, init: o.Init}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	text, err := enclave.Descriptor.JSON()
	if err != nil {
		return nil, err
	}
	for name, content := range map[string][]byte{initd.DescriptorFile: text, initd.InitDataFile: enclave.InitData} {
		if err := os.WriteFile(s.path(name), content, 0o444); err != nil {
			return nil, fmt.Errorf("write the enclave's files: %w", err)
		}
	}
	target, err := brokerAddress(enclave, o.Broker)
	if err != nil {
		return nil, err
	}
	if target != "" {
		report := func(err error) { o.Logger.Warn("the enclave cannot reach its broker", "error", err) }
		if s.relay, err = relay.Listen(s.path(initd.BrokerSocket), target, report); err != nil {
			return nil, err
		}
	}
	if err := os.Mkdir(s.attestationDir(), 0o755); err != nil {
		return nil, fmt.Errorf("make the directory of attestation files: %w", err)
	}
	s.attestation, err = attestfs.Mount(s.attestationDir(), enclave, platform, attestfs.Options{Logger: o.Logger})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// brokerAddress gives the host:port of the broker, or "" if there is none.
func brokerAddress(enclave *Enclave, override string) (string, error) {
	text := override
	if text == "" && enclave.Descriptor.Broker != nil {
		text = enclave.Descriptor.Broker.URL
	}
	if text == "" {
		if len(enclave.Descriptor.Unlock) > 0 {
			return "", fmt.Errorf("enclave %q unlocks resources and is signed without the URL of its broker: give it with --broker", enclave.Descriptor.Name)
		}
		return "", nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" {
		return "", fmt.Errorf("broker URL %q: want https://host:port", text)
	}
	port := u.Port()
	if port == "" {
		port = "443"
	}
	return net.JoinHostPort(u.Hostname(), port), nil
}

// Mounts are what the enclave's container mounts of the service.
func (s *Service) Mounts() []ocispec.Mount {
	mounts := []ocispec.Mount{
		{Destination: "/dev/attestation", Source: s.attestationDir()},
		{Destination: initd.Program, Source: s.init, ReadOnly: true, Executable: true},
	}
	for _, file := range []string{initd.DescriptorFile, initd.InitDataFile} {
		mounts = append(mounts, ocispec.Mount{Destination: file, Source: s.path(file), ReadOnly: true})
	}
	if s.relay != nil {
		mounts = append(mounts, ocispec.Mount{Destination: initd.BrokerSocket, Source: s.path(initd.BrokerSocket), ReadOnly: true})
	}
	return mounts
}

// Close ends serving. The files stay.
func (s *Service) Close() error {
	var errs []error
	if s.relay != nil {
		errs = append(errs, s.relay.Close())
	}
	if s.attestation != nil {
		errs = append(errs, s.attestation.Close())
	}
	return errors.Join(errs...)
}

// path is where a file of the enclave is on the host.
func (s *Service) path(inside string) string { return filepath.Join(s.dir, filepath.Base(inside)) }

func (s *Service) attestationDir() string { return filepath.Join(s.dir, "attestation") }
