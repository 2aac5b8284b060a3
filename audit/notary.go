package audit

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
)

const (
	// keepEvery is how far apart the checkpoints in the history are when
	// nothing else gives reason to keep one.
	keepEvery = time.Hour
	// maxHistory is how many checkpoints the history has at most: with each of
	// about 230 bytes, a megabyte.
	maxHistory = 4096
)

// A notary keeps the tree over the blocks and signs it. It has a goroutine of
// its own, so that the files that it writes and syncs do not hold up records.
//
// The order of its writes is what makes a kill harmless: bundles and tiles, then
// the checkpoint that needs them, then the history. A file that is there
// without a checkpoint that needs it is written again.
type notary struct {
	dir    string
	id     logID
	signer note.Signer
	step   stepFunc

	follower Follower // nil: none

	expired *claim   // what is on record as removed when the log is opened
	tree    *tree    // as last signed
	signed  bool     // there is a checkpoint of it
	waiting [][]byte // entries handed over and not signed yet
	keep    bool     // the next checkpoint is to be kept
	history int      // checkpoints in the history
	kept    time.Time
	last    uint64 // size of the last one kept

	progress *progress // of the log

	jobs chan statement
	done chan error // for each statement, whether it is signed
}

// A statement hands entries of blocks to the notary that are on the disk.
type statement struct {
	entries [][]byte
	keep    bool // the checkpoint is one to keep
}

func (n *notary) start() {
	n.jobs, n.done = make(chan statement, 1), make(chan error, 1)
	go func() {
		for s := range n.jobs {
			n.done <- n.sign(s)
		}
	}()
}

// sign adds entries to the tree, writes what is new of it, and a checkpoint.
// After an error nothing has changed, and the entries wait for the next call.
func (n *notary) sign(s statement) error {
	n.waiting = append(n.waiting, s.entries...)
	n.keep = n.keep || s.keep
	if len(n.waiting) > 0 || !n.signed {
		next := n.tree.clone()
		files := next.grow(n.waiting)
		for _, f := range files {
			if err := n.write(f); err != nil {
				return err
			}
		}
		msg, err := signCheckpoint(Checkpoint{n.id.origin(), next.size, next.root()}, n.signer)
		if err != nil {
			return err
		}
		if err := replaceFile(n.step, filepath.Join(n.dir, checkpointFile), msg); err != nil {
			return err
		}
		n.tree, n.waiting, n.signed = next, nil, true
		n.progress.checkpoint.Store(time.Now().UnixNano())
		n.tidy(files)
		n.tell(msg, false)
	}
	if n.keep || time.Since(n.kept) >= keepEvery {
		return n.remember()
	}
	return nil
}

func (n *notary) write(f tileFile) error {
	path := filepath.Join(n.dir, f.path)
	err := replaceFile(n.step, path, f.data)
	if errors.Is(err, fs.ErrNotExist) {
		if err := makeDirs(filepath.Dir(path)); err != nil {
			return err
		}
		err = replaceFile(n.step, path, f.data)
	}
	return err
}

// tidy removes the partial tiles that a full one has made superfluous. The log
// "MAY delete any partial tile once the corresponding full tile is available";
// one that cannot be removed does no harm.
func (n *notary) tidy(files []tileFile) {
	for _, f := range files {
		if !strings.HasSuffix(filepath.Dir(f.path), ".p") {
			os.RemoveAll(filepath.Join(n.dir, f.path+".p"))
		}
	}
}

// remember adds the checkpoint to the history, unless the last one there is of
// the same size. It comes after the checkpoint itself, so that no crash can
// leave one in the history that is ahead of it.
func (n *notary) remember() error {
	if n.history == 0 || n.last != n.tree.size {
		msg, err := os.ReadFile(filepath.Join(n.dir, checkpointFile))
		if err != nil {
			return err
		}
		if err := n.appendHistory(string(msg) + "\n"); err != nil {
			return err
		}
		n.history++
		n.last = n.tree.size
		n.tell(msg, true)
	}
	n.keep, n.kept = false, time.Now()
	if n.history > maxHistory {
		return n.thin()
	}
	return nil
}

func (n *notary) appendHistory(entry string) error {
	path := filepath.Join(n.dir, historyFile)
	if err := n.step.before("append", path); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if _, err := f.WriteString(entry); err != nil {
		return errors.Join(err, f.Truncate(info.Size()))
	}
	if err := n.step.before("sync", path); err != nil {
		return errors.Join(err, f.Truncate(info.Size()))
	}
	return fdatasync(f)
}

// thin leaves out every second checkpoint of the older half of the history.
func (n *notary) thin() error {
	path := filepath.Join(n.dir, historyFile)
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	notes, _ := splitHistory(b)
	var kept strings.Builder
	count := 0
	for i, msg := range notes {
		if i >= len(notes)/2 || i%2 == 0 {
			kept.WriteString(msg + "\n")
			count++
		}
	}
	if err := replaceFile(n.step, path, []byte(kept.String())); err != nil {
		return err
	}
	n.history = count
	return nil
}
