// Package audit is `adyton audit`: it reads and verifies the broker's audit log.
// It imports the log's package and the broker's client.
package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"
	"golang.org/x/mod/sumdb/note"

	"github.com/adyton-dev/adyton/internal/broker"
	"github.com/adyton-dev/adyton/internal/broker/admin"
	log "github.com/adyton-dev/adyton/internal/broker/audit"
	"github.com/adyton-dev/adyton/internal/broker/store/bolt"
	"github.com/adyton-dev/adyton/internal/cli/broker/connect"
	"github.com/adyton-dev/adyton/internal/cli/ui"
)

// New makes the command group.
func New() *cobra.Command {
	var s source
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Read and verify the broker's record of its decisions",
		Long: `Every decision of the broker is a record in an append-only log: a Merkle tree
(RFC 6962) whose head is signed with each change (a checkpoint). "verify" recomputes
the tree, so that an edited, removed, added or reordered record shows.

That the whole log was put back to an older state shows only against a checkpoint
that was kept elsewhere: save one with "checkpoint" and give it to "verify --since".

The log is read from the broker's directory (--dir), whether the broker runs or not;
from a broker elsewhere (--broker); or from a file that "list -o json" wrote (--file).`,
		Example: `  adyton audit list --dir broker
  adyton audit checkpoint --dir broker > kept.checkpoint
  adyton audit verify --dir broker --since kept.checkpoint`,
	}
	flags := cmd.PersistentFlags()
	flags.StringVar(&s.dir, "dir", "", "the broker's directory on this machine")
	flags.StringVar(&s.file, "file", "", "exported records, one JSON object a line; needs --checkpoint for verify")
	s.remote.AddFlags(cmd, "admin-key", "the administrator's")
	cmd.MarkFlagsMutuallyExclusive("dir", "broker", "file")
	cmd.AddCommand(newList(&s), newShow(&s), newVerify(&s), newCheckpoint(&s))
	return cmd
}

// source is where the log is read from.
type source struct {
	dir, file string
	remote    connect.Remote
}

// opened is a log that can be read.
type opened struct {
	records iter.Seq2[[]byte, error]
	// checkpoint is the log's newest; nil for a file.
	checkpoint []byte
	close      func() error
}

// errNoLog is for a command line that names no log.
var errNoLog = ui.Usage("name the log: --dir, --broker or --file")

func (s *source) open(ctx context.Context) (*opened, error) {
	switch {
	case s.file != "":
		f, err := os.Open(s.file)
		if err != nil {
			return nil, err
		}
		return &opened{records: log.FromLines(f), close: f.Close}, nil
	case s.dir != "":
		return s.openDir(ctx)
	case s.remote.URL != "":
		c, err := s.remote.Client("admin-key")
		if err != nil {
			return nil, err
		}
		return openClient(ctx, c)
	}
	return nil, errNoLog
}

func (s *source) openDir(ctx context.Context) (*opened, error) {
	if err := connect.Exists(s.dir); err != nil {
		return nil, err
	}
	db, err := bolt.OpenReadOnly(filepath.Join(s.dir, broker.StoreFile))
	if errors.Is(err, bolt.ErrInUse) {
		c, err := connect.Local(s.dir)
		if err != nil {
			return nil, err
		}
		return openClient(ctx, c)
	}
	if err != nil {
		return nil, err
	}
	checkpoint, err := log.StoredCheckpoint(ctx, db)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return &opened{records: log.FromStore(ctx, db), checkpoint: checkpoint, close: db.Close}, nil
}

// openClient reads from a broker that runs. The log may grow meanwhile; only the
// records that the checkpoint signs are read.
func openClient(ctx context.Context, c *admin.Client) (*opened, error) {
	checkpoint, err := c.Checkpoint(ctx)
	if err != nil {
		return nil, err
	}
	size, err := log.CheckpointSize(checkpoint)
	if err != nil {
		return nil, err
	}
	const page = 1000
	records := func(yield func([]byte, error) bool) {
		for n := int64(0); n < size; {
			records, err := c.Records(ctx, n, int(min(page, size-n)))
			if err == nil && len(records) == 0 {
				return
			}
			if err != nil {
				yield(nil, err)
				return
			}
			for _, r := range records {
				if !yield(r, nil) {
					return
				}
			}
			n += int64(len(records))
		}
	}
	return &opened{records: records, checkpoint: checkpoint, close: func() error { return nil }}, nil
}

func newList(s *source) *cobra.Command {
	var (
		out     ui.Output
		event   string
		refused bool
		last    int
	)
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the decisions",
		Long:    "Lists the decisions, oldest first. With -o json each record is one line, exactly the\nbytes that the log's tree covers: \"verify --file\" accepts the whole list.",
		Example: "  adyton audit list --dir broker --refused\n  adyton audit list --dir broker -o json > log.jsonl",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if last < 0 {
				return ui.Usage("--last %d: it counts records, from the newest", last)
			}
			l, err := s.open(cmd.Context())
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, l.close()) }()
			records, err := selectRecords(l.records, event, refused, last)
			if err != nil {
				return err
			}
			if out.JSON() {
				for _, r := range records {
					if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%s\n", r); err != nil {
						return err
					}
				}
				return nil
			}
			return table(cmd.OutOrStdout(), records)
		},
	}
	cmd.Flags().StringVar(&event, "event", "", "only this event, for example release")
	cmd.Flags().BoolVar(&refused, "refused", false, "only refusals")
	cmd.Flags().IntVar(&last, "last", 0, "only the last N")
	out.AddFlag(cmd)
	return cmd
}

func selectRecords(all iter.Seq2[[]byte, error], event string, refused bool, last int) ([][]byte, error) {
	var records [][]byte
	for data, err := range all {
		if err != nil {
			return nil, err
		}
		var r log.Record
		if err := json.Unmarshal(data, &r); err != nil {
			return nil, fmt.Errorf("audit record: %w", err)
		}
		if event != "" && r.Event != event || refused && r.Allowed {
			continue
		}
		records = append(records, data)
		if last > 0 && len(records) > last {
			records = records[1:]
		}
	}
	return records, nil
}

func table(w io.Writer, records [][]byte) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "SEQ\tTIME\tEVENT\tOUTCOME\tWHO\tRESOURCE")
	for _, data := range records {
		var r log.Record
		if err := json.Unmarshal(data, &r); err != nil {
			return fmt.Errorf("audit record: %w", err)
		}
		outcome := "allowed"
		if !r.Allowed {
			outcome = string(r.Reason)
		}
		fmt.Fprintf(tw, "%d\t%s\t%s\t%s\t%s\t%s\n", r.Sequence, r.Time.Format("2006-01-02 15:04:05"), r.Event, outcome, who(&r), r.Resource)
	}
	return tw.Flush()
}

// who names the owner, or the enclave by the beginning of its measurement.
func who(r *log.Record) string {
	switch {
	case r.Actor != "":
		return r.Actor
	case r.Identity != nil && len(r.Identity.Measurement) >= 12:
		return r.Identity.TEE + ":" + r.Identity.Measurement[:12]
	case r.Identity != nil:
		return r.Identity.TEE
	}
	return "-"
}

func newShow(s *source) *cobra.Command {
	return &cobra.Command{
		Use:     "show SEQ",
		Short:   "Show one record in full",
		Example: "  adyton audit show --dir broker 12",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			wanted, err := strconv.ParseInt(args[0], 10, 64)
			if err != nil || wanted < 0 {
				return ui.Usage("%q is not a record's number: see 'adyton audit list'", args[0])
			}
			l, err := s.open(cmd.Context())
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, l.close()) }()
			n := int64(0)
			for data, err := range l.records {
				if err != nil {
					return err
				}
				if n == wanted {
					var indented bytes.Buffer
					if err := json.Indent(&indented, data, "", "  "); err != nil {
						return fmt.Errorf("audit record: %w", err)
					}
					_, err := fmt.Fprintln(cmd.OutOrStdout(), indented.String())
					return err
				}
				n++
			}
			return fmt.Errorf("there is no record %d; the log has %d, from 0", wanted, n)
		},
	}
}

func newCheckpoint(s *source) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:     "checkpoint",
		Short:   "Print the newest signed checkpoint, to be kept elsewhere",
		Example: "  adyton audit checkpoint --dir broker --save kept.checkpoint",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			l, err := s.open(cmd.Context())
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, l.close()) }()
			if l.checkpoint == nil {
				return ui.Usage("a file has no checkpoint: name the broker by --dir or --broker")
			}
			if file == "" {
				_, err := cmd.OutOrStdout().Write(l.checkpoint)
				return err
			}
			if err := renameio.WriteFile(file, l.checkpoint, 0o644); err != nil {
				return fmt.Errorf("save checkpoint: %w", err)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&file, "save", "", "file to write (default standard output)")
	return cmd
}

// verified is the outcome of verify.
type verified struct {
	Records int64  `json:"records"`
	Root    string `json:"root"`
	// Since is how many records the earlier checkpoint signs.
	Since   int64         `json:"since,omitempty"`
	Elapsed time.Duration `json:"elapsed_ns"`
}

func newVerify(s *source) *cobra.Command {
	var (
		out                    ui.Output
		key, since, checkpoint string
	)
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Verify that no record was edited, removed, added or reordered",
		Long: `Recomputes the log's tree from all records and compares it with the newest signed
checkpoint and, with --since, with one that was kept from earlier: then it also shows
if the log was cut back or replaced. Exit code 3 (AuditCorrupt) if it does not fit.

The checkpoints' key is audit.pub of --dir unless --key names a copy. Keep one: who
can write the directory can exchange the key with everything else.`,
		Example: `  adyton audit verify --dir broker --key kept-audit.pub --since kept.checkpoint
  adyton audit verify --file log.jsonl --checkpoint kept.checkpoint --key kept-audit.pub`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			start := time.Now()
			verifier, err := s.verifier(key)
			if err != nil {
				return err
			}
			l, err := s.open(cmd.Context())
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, l.close()) }()
			if checkpoint != "" {
				if l.checkpoint, err = os.ReadFile(checkpoint); err != nil {
					return fmt.Errorf("--checkpoint: %w", err)
				}
			}
			if l.checkpoint == nil {
				return ui.Usage("a file needs --checkpoint")
			}
			var result verified
			var earlier [][]byte
			if since != "" {
				kept, err := os.ReadFile(since)
				if err != nil {
					return fmt.Errorf("--since: %w", err)
				}
				old, err := log.OpenCheckpoint(kept, verifier)
				if err != nil {
					return fmt.Errorf("--since: %w", err)
				}
				earlier, result.Since = append(earlier, kept), old.N
			}
			tree, err := log.Verify(l.records, verifier, l.checkpoint, earlier...)
			if err != nil {
				return err
			}
			result.Records, result.Root, result.Elapsed = tree.N, tree.Hash.String(), time.Since(start)
			return out.Print(cmd, result, func(w io.Writer) error {
				fmt.Fprintf(w, "%d records verified in %v; root %s", result.Records, result.Elapsed.Round(time.Millisecond), result.Root)
				if since != "" {
					fmt.Fprintf(w, "; the first %d are those of the earlier checkpoint", result.Since)
				}
				_, err := fmt.Fprintln(w)
				return err
			})
		},
	}
	cmd.Flags().StringVar(&key, "key", "", "file with the checkpoints' public key (default audit.pub in --dir)")
	cmd.Flags().StringVar(&since, "since", "", "file with a checkpoint that was kept from earlier")
	cmd.Flags().StringVar(&checkpoint, "checkpoint", "", "file with the checkpoint to verify against (default the log's newest)")
	out.AddFlag(cmd)
	return cmd
}

func (s *source) verifier(key string) (note.Verifier, error) {
	if key == "" {
		if s.dir == "" {
			if s.remote.URL == "" && s.file == "" {
				return nil, errNoLog
			}
			return nil, ui.Usage("name the checkpoints' key: --key FILE, a copy of audit.pub in the broker's directory")
		}
		if err := connect.Exists(s.dir); err != nil {
			return nil, err
		}
		return broker.AuditVerifier(s.dir)
	}
	data, err := os.ReadFile(key)
	if err != nil {
		return nil, fmt.Errorf("--key: %w", err)
	}
	verifier, err := broker.ParseAuditKey(string(data))
	if err != nil {
		return nil, fmt.Errorf("--key %s: %w", key, err)
	}
	return verifier, nil
}
