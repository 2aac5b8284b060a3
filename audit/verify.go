package audit

import (
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// VerifyOptions say what a log is held against.
type VerifyOptions struct {
	// Key is the public key of the log, as its key.pub has it. Empty: key.pub
	// of the directory, which proves no more than that the log is of one piece:
	// whoever could replace the log could replace that file.
	Key string

	// Old are checkpoints of the log that were kept elsewhere, or histories of
	// them. The log must have all that they cover, unchanged.
	Old [][]byte

	// Witnesses must each have cosigned one of Old.
	Witnesses []*Witness
}

// A mark is a checkpoint other than the current one.
type mark struct {
	Checkpoint
	place string
	given bool // by the caller; the history of the directory is whoever's who has the directory
	// known says that the tree that is signed has been compared with it, ok that
	// it was found to agree.
	known, ok bool
}

// A verification is the state of Verify.
type verification struct {
	dir    string
	id     logID
	head   Checkpoint
	marks  []mark // by size
	claim  *claim // what is recorded as removed; nil: nothing
	report *Report
	// overtaken says that blocks were gone at the beginning for which nothing
	// accounts, and that the log was signed again meanwhile: they may be on
	// record by now.
	overtaken bool
}

// triesOfVerify is how often Verify begins at most where the gateway removes
// segments under it. Removals are hours apart.
const triesOfVerify = 3

// Verify checks the log in dir against its signed checkpoint, and against older
// ones. An error means that it could not be read; what is wrong with the log is
// in the report. It writes nothing. The log may be growing meanwhile.
func Verify(dir string, o VerifyOptions) (Report, error) {
	var v *verification
	var err error
	for range triesOfVerify {
		v = &verification{dir: dir, report: new(Report)}
		if err = v.run(o); err != nil || !v.overtaken {
			break
		}
	}
	r := v.report
	slices.SortStableFunc(r.Findings, func(a, b Finding) int {
		switch {
		case a.Fault == Unsigned && b.Fault != Unsigned:
			return -1
		case a.Fault != Unsigned && b.Fault == Unsigned:
			return 1
		}
		return cmp.Compare(a.Block, b.Block)
	})
	r.Findings = r.Findings[:min(len(r.Findings), maxFindings)]
	switch f := r.Fault(); {
	case err != nil:
		r.Verdict = "unreadable"
	case f != "":
		r.Verdict = string(f)
	default:
		r.Verdict = "intact"
	}
	return *r, err
}

// find adds a finding and returns its index.
func (v *verification) find(f Fault, place string, block uint64, format string, args ...any) int {
	if len(v.report.Findings) == 2*maxFindings { // to be sorted, and then cut
		return 2*maxFindings - 1
	}
	v.report.Findings = append(v.report.Findings, Finding{f, place, block, fmt.Sprintf(format, args...)})
	return len(v.report.Findings) - 1
}

func (v *verification) note(format string, args ...any) {
	v.report.Notes = append(v.report.Notes, fmt.Sprintf(format, args...))
}

func (v *verification) run(o VerifyOptions) error {
	if _, err := os.Stat(filepath.Join(v.dir, logIDFile)); err != nil {
		if _, err := readLogID(v.dir); err != nil {
			return err // which says it better
		}
		return err
	}
	wasOpen := v.isOpen()
	key, err := v.key(o.Key)
	if err != nil || key == nil {
		return err
	}
	// The history first, and what is removed: they are never ahead of the checkpoint.
	v.readClaim(key)
	if err := v.readMarks(o.Old, key, wasOpen); err != nil {
		return err
	}
	v.checkWitnesses(o)
	head, ok, err := v.readHead(key)
	if err != nil || !ok {
		return err
	}
	v.head, v.report.Checkpoint, v.report.Log = head, &head, head.Origin
	if !v.checkID() {
		return nil
	}
	v.report.Compared = len(v.marks)
	v.checkSizes()
	tree := v.tree()
	if err := v.checkClaim(key); err != nil {
		return err
	}
	blocks, err := v.blocks(tree)
	if err != nil {
		return err
	}
	again, _, err := v.readHead(key)
	if err != nil {
		return err
	}
	v.overtaken = again != head && blocks.late
	blocks.finish(!wasOpen && !v.isOpen() && again == head)
	blocks.intact(v.checkMarks(blocks.signed))
	v.removals()
	return nil
}

// isOpen says whether a writer has the log, or had it and was killed.
func (v *verification) isOpen() bool {
	_, err := os.Stat(filepath.Join(v.dir, openFile))
	return err == nil
}

func (v *verification) key(given string) (note.Verifier, error) {
	if given != "" {
		return newVerifier(given)
	}
	vkey, err := ReadKey(v.dir)
	if errors.Is(err, fs.ErrPermission) {
		return nil, err
	}
	if err != nil {
		v.find(Unsigned, pubKeyFile, 0, "no public key: %v", err)
		return nil, nil
	}
	v.note("the key is that of the directory: compare it with one that was kept elsewhere, or give that one")
	return newVerifier(vkey)
}

func (v *verification) readHead(key note.Verifier) (c Checkpoint, ok bool, err error) {
	msg, err := os.ReadFile(filepath.Join(v.dir, checkpointFile))
	if errors.Is(err, fs.ErrNotExist) {
		v.find(Unsigned, checkpointFile, 0, "no checkpoint: nothing is signed")
		return c, false, nil
	}
	if err != nil {
		return c, false, err
	}
	if c, err = openCheckpoint(msg, key); err != nil {
		v.find(Unsigned, checkpointFile, 0, "%v", err)
		return c, false, nil
	}
	return c, true, nil
}

// readMarks reads the history of the directory, and the checkpoints given.
func (v *verification) readMarks(old [][]byte, key note.Verifier, wasOpen bool) error {
	b, err := os.ReadFile(filepath.Join(v.dir, historyFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	add := func(msg []byte, place string, given bool) {
		c, err := openCheckpoint(msg, key)
		if err != nil {
			v.find(Unsigned, place, 0, "%v", err)
			return
		}
		v.marks = append(v.marks, mark{Checkpoint: c, place: place, given: given})
	}
	notes, rest := splitHistory(b)
	for i, msg := range notes {
		add([]byte(msg), fmt.Sprintf("%s: checkpoint %d", historyFile, i+1), false)
	}
	switch {
	case rest != "" && wasOpen:
		v.note("%s ends with %d bytes of an unfinished checkpoint", historyFile, len(rest))
	case rest != "":
		v.find(Unsigned, historyFile, 0, "%d bytes at the end are no checkpoint", len(rest))
	}
	for i, msg := range givenCheckpoints(old) {
		add(msg, givenPlace(i), true)
	}
	slices.SortStableFunc(v.marks, func(a, b mark) int { return cmp.Compare(a.Size, b.Size) })
	return nil
}

// checkID compares log-id with the signed origin.
func (v *verification) checkID() bool {
	b, err := os.ReadFile(filepath.Join(v.dir, logIDFile))
	digits, _ := strings.CutPrefix(v.head.Origin, originPrefix)
	id, decodeErr := hex.DecodeString(digits)
	if err != nil || decodeErr != nil || len(id) != len(v.id) || string(b) != digits+"\n" {
		v.find(Altered, logIDFile, 0, "not the id of the log that is signed, %s", v.head.Origin)
		return false
	}
	v.id = logID(id)
	return true
}

// checkSizes tells of checkpoints that cover more than that of the log.
func (v *verification) checkSizes() {
	for _, m := range v.marks {
		if m.Size > v.head.Size {
			v.find(Truncated, m.place, v.head.Size, "a signed checkpoint covers %d blocks, that of the log only %d", m.Size, v.head.Size)
		}
	}
}

// checkMarks says where the log is not what the checkpoints cover, and returns
// how many blocks are. signed is how many of those that are there a signature
// proves.
func (v *verification) checkMarks(signed uint64) uint64 {
	if signed < v.head.Size {
		v.find(Altered, checkpointFile, signed, "from block %d on neither the tiles nor the blocks give the root that is signed", signed)
		return signed
	}
	for _, m := range v.marks {
		if m.known && !m.ok {
			good := v.lastGood(m)
			v.find(Altered, m.place, good, "the first %d blocks are not those of this signed checkpoint: the log was rewritten or forked", m.Size)
			return good
		}
	}
	return v.head.Size
}

// lastGood is how far back the log may differ from what m was signed over: to
// the last mark that agrees. Against a checkpoint of the caller only others of
// the caller count.
func (v *verification) lastGood(m mark) (size uint64) {
	for _, o := range v.marks {
		if o.known && o.ok && o.Size < m.Size && (o.given || !m.given) {
			size = max(size, o.Size)
		}
	}
	return size
}
