package audit

import (
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const (
	checkpointFile = "checkpoint"
	historyFile    = "checkpoints"
)

// A Checkpoint says what the first Size blocks of a log are: the head of the
// tree over them, as in https://c2sp.org/tlog-checkpoint.
type Checkpoint struct {
	Origin string    `json:"origin"`
	Size   uint64    `json:"size"`
	Root   tlog.Hash `json:"root"` // base64 in JSON
}

// text is the body of the signed note.
func (c Checkpoint) text() string {
	return fmt.Sprintf("%s\n%d\n%s\n", c.Origin, c.Size, c.Root)
}

// signCheckpoint returns the signed note.
func signCheckpoint(c Checkpoint, signer note.Signer) ([]byte, error) {
	return note.Sign(&note.Note{Text: c.text()}, signer)
}

// openCheckpoint checks the signature of a checkpoint and parses it. Signatures
// of others (witnesses) may be there; only that of the log counts.
func openCheckpoint(msg []byte, v note.Verifier) (Checkpoint, error) {
	var c Checkpoint
	n, err := note.Open(msg, note.VerifierList(v))
	if err != nil {
		var unverified *note.UnverifiedNoteError
		if errors.As(err, &unverified) {
			return c, fmt.Errorf("no signature by the key %s+%08x", v.Name(), v.KeyHash())
		}
		return c, err
	}
	// The last character of base64 may have bits that count for nothing. They
	// are to be zero, so that no byte of a checkpoint can be changed unseen.
	for _, s := range append(n.Sigs, n.UnverifiedSigs...) {
		if _, err := base64.StdEncoding.Strict().DecodeString(s.Base64); err != nil {
			return c, errors.New("a signature with bits that mean nothing")
		}
	}
	lines := strings.Split(n.Text, "\n")
	if len(lines) != 4 || lines[3] != "" { // three lines, and what is behind the last newline
		return c, errors.New("signed, but not a checkpoint of three lines")
	}
	c.Origin = lines[0]
	if c.Size, err = strconv.ParseUint(lines[1], 10, 63); err != nil {
		return c, errors.New("signed, but not a checkpoint: bad size")
	}
	if c.Root, err = tlog.ParseHash(lines[2]); err != nil || c.text() != n.Text {
		return c, errors.New("signed, but not a checkpoint: bad root")
	}
	if c.Origin != v.Name() {
		return c, fmt.Errorf("a checkpoint of %q, signed by %q", c.Origin, v.Name())
	}
	return c, nil
}

// readCheckpoint reads the checkpoint of the log in dir, as it is and parsed.
func readCheckpoint(dir string, v note.Verifier) (msg []byte, c Checkpoint, err error) {
	path := filepath.Join(dir, checkpointFile)
	if msg, err = os.ReadFile(path); err != nil {
		return nil, c, err
	}
	if c, err = openCheckpoint(msg, v); err != nil {
		return nil, c, fmt.Errorf("%s: %w", path, err)
	}
	return msg, c, nil
}

// splitHistory takes the file of checkpoints apart: each is a signed note and an
// empty line. The rest is what a crash has left of the last one.
func splitHistory(b []byte) (notes []string, rest string) {
	s := string(b)
	for {
		// A note is text, an empty line, signatures; then another empty line.
		i := strings.Index(s, "\n\n")
		if i < 0 {
			return notes, s
		}
		j := strings.Index(s[i+2:], "\n\n")
		if j < 0 {
			return notes, s
		}
		end := i + 2 + j + 1
		notes = append(notes, s[:end])
		s = s[end+1:]
	}
}
