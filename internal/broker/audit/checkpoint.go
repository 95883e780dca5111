package audit

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/adyton-dev/adyton/refusal"
)

// maxCheckpoint bounds a checkpoint in bytes.
const maxCheckpoint = 4096

// signCheckpoint gives tree as a signed note in the form of C2SP tlog-checkpoint:
// the origin, the number of records and the base64 tree hash, a line each. The
// origin is the name of the signing key.
func signCheckpoint(tree tlog.Tree, signer note.Signer) ([]byte, error) {
	text := fmt.Sprintf("%s\n%d\n%s\n", signer.Name(), tree.N, tree.Hash)
	signed, err := note.Sign(&note.Note{Text: text}, signer)
	if err != nil {
		return nil, fmt.Errorf("sign checkpoint: %w", err)
	}
	return signed, nil
}

// OpenCheckpoint checks a checkpoint's signature and gives the tree that it signs.
func OpenCheckpoint(checkpoint []byte, verifier note.Verifier) (tlog.Tree, error) {
	tree, err := openCheckpoint(checkpoint, verifier)
	if err != nil {
		return tlog.Tree{}, refusal.New(refusal.AuditCorrupt, "checkpoint: %w", err)
	}
	return tree, nil
}

func openCheckpoint(checkpoint []byte, verifier note.Verifier) (tlog.Tree, error) {
	if len(checkpoint) > maxCheckpoint {
		return tlog.Tree{}, fmt.Errorf("%d bytes; the limit is %d", len(checkpoint), maxCheckpoint)
	}
	n, err := note.Open(checkpoint, note.VerifierList(verifier))
	if err != nil {
		return tlog.Tree{}, err
	}
	origin, tree, err := parseCheckpoint(n.Text)
	if err != nil {
		return tlog.Tree{}, err
	}
	if origin != verifier.Name() {
		return tlog.Tree{}, errors.New("it is of another log")
	}
	return tree, nil
}

// CheckpointSize gives how many records a checkpoint says that it signs, without
// checking that it does.
func CheckpointSize(checkpoint []byte) (int64, error) {
	text, _, _ := strings.Cut(string(checkpoint), "\n\n")
	_, tree, err := parseCheckpoint(text + "\n")
	return tree.N, err
}

// parseCheckpoint reads the three lines of a checkpoint's text.
func parseCheckpoint(text string) (origin string, tree tlog.Tree, err error) {
	lines := strings.Split(text, "\n")
	if len(lines) != 4 || lines[3] != "" {
		return "", tree, errors.New("not a checkpoint")
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil || size < 0 || strconv.FormatInt(size, 10) != lines[1] {
		return "", tree, fmt.Errorf("size %q", lines[1])
	}
	hash, err := tlog.ParseHash(lines[2])
	if err != nil {
		return "", tree, fmt.Errorf("tree hash: %w", err)
	}
	return lines[0], tlog.Tree{N: size, Hash: hash}, nil
}
