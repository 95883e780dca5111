// Package connect is how the commands of the broker's administration reach it:
// over its API, or, for a broker of this machine that is stopped, in its
// directory. It imports the broker, its client and cobra's flags.
package connect

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"

	"github.com/adyton-dev/adyton/internal/broker"
	"github.com/adyton-dev/adyton/internal/broker/admin"
	"github.com/adyton-dev/adyton/internal/cli/ui"
)

// Remote are the flags that name a broker by its URL.
type Remote struct {
	URL, SPKI, Key string
}

// AddFlags gives cmd --broker, --broker-spki and the flag keyFlag for the key file.
func (r *Remote) AddFlags(cmd *cobra.Command, keyFlag, whose string) {
	flags := cmd.PersistentFlags()
	flags.StringVar(&r.URL, "broker", "", "URL of the broker, https://HOST:PORT")
	flags.StringVar(&r.SPKI, "broker-spki", "", "pin of the broker's key, sha256:HEX, as 'adyton broker pin' prints it")
	flags.StringVar(&r.Key, keyFlag, "", "file with "+whose+" private key")
}

// Client makes the client.
func (r *Remote) Client(keyFlag string) (*admin.Client, error) {
	if r.URL == "" || r.Key == "" {
		return nil, ui.Usage("name the broker and your key: --broker URL --broker-spki PIN --%s FILE", keyFlag)
	}
	return admin.New(r.URL, r.SPKI, r.Key)
}

// Serving is what a running broker leaves in its directory, so that commands on
// the same machine find it.
type Serving struct {
	URL  string `json:"url"`
	SPKI string `json:"spki"`
}

const servingFile = "serving.json"

// Announce writes s into dir; the caller calls remove when it stops.
func Announce(dir string, s Serving) (remove func(), err error) {
	data, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("announce broker: %w", err)
	}
	path := filepath.Join(dir, servingFile)
	if err := renameio.WriteFile(path, append(data, '\n'), 0o600); err != nil {
		return nil, fmt.Errorf("announce broker: %w", err)
	}
	return func() { _ = os.Remove(path) }, nil
}

// Local makes the administrator's client of the broker that runs in dir.
func Local(dir string) (*admin.Client, error) {
	data, err := os.ReadFile(filepath.Join(dir, servingFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("the broker in %s is in use by another command; try again", dir)
	}
	if err != nil {
		return nil, fmt.Errorf("find running broker: %w", err)
	}
	var s Serving
	if err := json.Unmarshal(data, &s); err != nil {
		return nil, fmt.Errorf("find running broker: %s: %w", servingFile, err)
	}
	return admin.New(s.URL, s.SPKI, filepath.Join(dir, broker.AdminKeyFile))
}

// Exists gives a helpful error if there is no broker in dir.
func Exists(dir string) error {
	if _, err := os.Stat(filepath.Join(dir, broker.StoreFile)); err != nil {
		return fmt.Errorf("there is no broker in %s; make one with `adyton broker init --dir %s`", dir, dir)
	}
	return nil
}
