package audit

import (
	"os"
	"strconv"
)

// A Follower hears what the log has written. Its methods are called on the
// goroutines that write the log, one call of each at a time: they must not wait.
type Follower interface {
	// Block hands over the records of a block that is in its segment, each with
	// its newline, the first of them with number seq. They are the log's again
	// when Block is back. A lost machine may take with it what was handed over
	// within the last second: the numbers are then given again.
	Block(seq uint64, count int, records []byte)

	// Checkpoint hands over each checkpoint once it is on the disk, and the
	// current one when the log is opened. keep: it is in the history now; it may
	// have been handed over before, without. The slice is nobody's to change.
	Checkpoint(msg []byte, keep bool)
}

// Origin names the log in its checkpoints.
func (l *Log) Origin() string { return *l.origin.Load() }

// tellBlock hands over the block that has just been written.
func (w *writer) tellBlock() {
	if f := w.opt.Follower; f != nil {
		f.Block(w.block.firstSeq, int(w.block.count), w.block.raw)
	}
}

// tell hands over a checkpoint, but not one that is signed by Open: of that
// tellFirst tells.
func (n *notary) tell(msg []byte, keep bool) {
	if n.follower != nil && n.jobs != nil {
		n.follower.Checkpoint(msg, keep)
	}
}

// tellFirst hands over the checkpoint that an opened log begins with.
func (n *notary) tellFirst(path string) {
	if n.follower == nil {
		return
	}
	if msg, err := os.ReadFile(path); err == nil {
		n.follower.Checkpoint(msg, true)
	}
}

// Unshipped says which records a target of shipping has not got. Between From
// and To there may be some that it has.
type Unshipped struct {
	Target string `json:"target"`
	Count  int64  `json:"count"`
	From   uint64 `json:"from"` // seq
	To     uint64 `json:"to"`   // seq
}

func (u *Unshipped) append(b []byte) []byte {
	b = append(b, `,"unshipped":{"target":`...)
	b = appendString(b, u.Target)
	b = append(b, `,"count":`...)
	b = strconv.AppendInt(b, u.Count, 10)
	b = append(b, `,"from":`...)
	b = strconv.AppendUint(b, u.From, 10)
	b = append(b, `,"to":`...)
	b = strconv.AppendUint(b, u.To, 10)
	return append(b, '}')
}
