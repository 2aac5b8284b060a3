package audit

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const (
	// lookEvery is how often the keeper looks when no segment was begun.
	lookEvery = time.Hour
	// removeAgain is how long it waits after a removal that failed.
	removeAgain = time.Minute
	// longestSegment is the time that a segment spans at most when records are
	// kept for a time, and an eighth of that time if it is shorter: a record is
	// kept no longer than this beyond it.
	longestSegment = 24 * time.Hour
)

// segmentSpan is the time after which a new segment begins; zero: none.
func segmentSpan(keep time.Duration) time.Duration { return min(longestSegment, keep/8) }

// A keeper removes the segments that need not be kept. It has a goroutine of its
// own: what it reads and unlinks holds up neither records nor checkpoints.
//
// It goes on in steps, each of which is on the disk before the next begins: the
// audit.expire record, the checkpoint that covers it, the proof of the record in
// the file expired, and then the files go, the oldest first. A kill before the
// proof is there leaves a record of a removal that has not happened, and that
// the next one repeats with the same first block; a kill after it leaves files
// that the next start removes without another record.
//
// What it decides by is signed: the headers in the bundles, as the checkpoint
// has them. Names and sizes of files only say where it may cut.
type keeper struct {
	log     *Log
	dir     string
	step    stepFunc
	logger  *slog.Logger
	key     note.Verifier
	keep    time.Duration // zero: for ever
	max     int64         // zero: no limit
	segment int64         // the size of a segment at most

	claim    *claim         // what is recorded as removed, and proved
	ledger   ledger         // of the segments behind it
	pending  *pendingExpiry // what is recorded and not proved yet
	current  atomic.Uint64  // first block of the segment that is written
	unsigned bool           // the segment before it is not all signed yet
	told     string         // the last complaint

	wake, end, done chan struct{}
	pause           chan bool // true: nothing more is to be recorded; false: it may again
}

// A pendingExpiry waits for the checkpoint over its record.
type pendingExpiry struct {
	receipt <-chan uint64
	tries   int
	seq     uint64 // 0: the writer has not taken it yet
}

func newKeeper(o *Options, l *Log, n *notary) (*keeper, error) {
	if o.Keep == 0 && o.MaxSize == 0 {
		return nil, nil
	}
	vkey, err := ReadKey(o.Dir) // which catchUp has compared with the key
	if err != nil {
		return nil, err
	}
	key, err := newVerifier(vkey)
	if err != nil {
		return nil, err
	}
	return &keeper{
		log: l, dir: o.Dir, step: o.step, logger: o.Logger, key: key,
		keep: o.Keep, max: o.MaxSize, segment: o.SegmentSize,
		claim: n.expired, ledger: newLedger(o.Dir, o.Keep, n.expired),
		wake: make(chan struct{}, 1), end: make(chan struct{}), done: make(chan struct{}),
		pause: make(chan bool),
	}, nil
}

// begun is called by the writer with each new segment.
func (k *keeper) begun(number uint64) {
	if k == nil {
		return
	}
	k.current.Store(number)
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// hold waits until the keeper records nothing more, or lets it go on.
func (k *keeper) hold(on bool) {
	if k == nil {
		return
	}
	select {
	case k.pause <- on:
	case <-k.done:
	}
}

// stop ends the keeper. All that it has recorded is signed by then.
func (k *keeper) stop() {
	if k != nil {
		close(k.end)
		<-k.done
	}
}

func (k *keeper) run() {
	defer close(k.done)
	held := false
	for {
		var again <-chan time.Time
		wake := k.wake
		if held {
			wake = nil
		} else {
			again = time.After(k.round())
		}
		select {
		case <-wake:
		case <-again:
		case held = <-k.pause:
		case <-k.end:
			if done, _ := k.conclude(); done {
				k.remove()
			}
			return
		}
	}
}

// round does what can be done now, and says when to look again.
func (k *keeper) round() time.Duration {
	if done, wait := k.conclude(); !done {
		return wait
	}
	if !k.remove() {
		return removeAgain
	}
	e, err := k.due(time.Now())
	if err != nil {
		k.complain("audit log: what is to be removed cannot be told", err)
		return removeAgain
	}
	if e == nil {
		k.told = ""
		if k.unsigned {
			return tickAfter
		}
		return lookEvery
	}
	receipt, err := k.log.recordExpiry(e)
	if err != nil {
		return removeAgain // of a log that cannot be written others tell
	}
	k.pending = &pendingExpiry{receipt: receipt}
	return flushAfter
}

// complain tells of a failure, once for each kind of it.
func (k *keeper) complain(what string, err error) {
	if msg := err.Error(); msg != k.told {
		k.told = msg
		k.logger.Error(what, "dir", k.dir, "error", err)
	}
}

// recordExpiry records an event of the log's own. The channel gets its seq.
func (l *Log) recordExpiry(e *Event) (<-chan uint64, error) {
	if err := l.Failed(); err != nil {
		return nil, err
	}
	receipt := make(chan uint64, 1)
	c := chunks.Get().(*chunk)
	c.add(e)
	c.sign, c.receipt = true, receipt
	return receipt, l.put(c)
}

// conclude writes the proof of what is recorded, or says when to try again.
func (k *keeper) conclude() (done bool, wait time.Duration) {
	p := k.pending
	if p == nil {
		return true, 0
	}
	wait = min(flushAfter<<min(p.tries, 10), tickAfter)
	p.tries++
	if p.seq == 0 {
		select {
		case p.seq = <-p.receipt:
		default:
			return false, wait
		}
	}
	proof, err := prove(k.dir, k.key, p.seq)
	if err != nil {
		return false, wait // no checkpoint yet
	}
	c, err := claimOf(proof, k.key)
	if err == nil {
		err = writeFile(k.step, filepath.Join(k.dir, expiredFile), proof.Text())
	}
	if err != nil {
		k.complain("audit log: a removal cannot be proved, and waits", err)
		return false, removeAgain
	}
	k.claim, k.pending = c, nil
	k.ledger.drop(c.until())
	k.logger.Info("audit log: removed", "dir", k.dir, "reason", c.Reason, "records", c.Count,
		"first_seq", c.FirstSeq, "last_seq", c.LastSeq, "bytes", c.Bytes)
	return true, 0
}

// remove removes the files of segments that are on record as removed.
func (k *keeper) remove() bool {
	err := k.removeSegments()
	if err != nil {
		k.complain("audit log: a segment cannot be removed, and will be tried again", err)
	}
	return err == nil
}

func (k *keeper) removeSegments() error {
	names, err := segments(k.dir)
	if err != nil {
		return err
	}
	removed := false
	for i, name := range names {
		if i+1 == len(names) || firstBlock(names[i+1]) > min(k.claim.until(), k.current.Load()) {
			break
		}
		for _, path := range []string{filepath.Join(k.dir, indexDir, indexName(name)), filepath.Join(k.dir, segmentDir, name)} {
			if err := k.step.before("unlink", path); err != nil {
				return err
			}
			if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
				return err
			}
		}
		removed = true
	}
	if removed {
		return syncDir(filepath.Join(k.dir, segmentDir))
	}
	return nil
}

// due returns the record of the next removal, or nil if nothing is to go.
func (k *keeper) due(now time.Time) (*Event, error) {
	_, head, err := readCheckpoint(k.dir, k.key)
	if err != nil {
		return nil, err
	}
	current := k.current.Load()
	k.unsigned = head.Size < current
	if err := k.ledger.read(head, current); err != nil {
		return nil, err
	}
	if kept := k.ledger.earliest(); !kept.IsZero() {
		if err := removeKeys(k.dir, kept); err != nil {
			return nil, err
		}
	}
	x := &Expired{By: ByKeep}
	n, why := 0, ""
	if k.keep > 0 {
		n = k.ledger.older(now, k.keep)
		why = fmt.Sprintf("older than %s", days(k.keep))
	}
	if n == 0 && k.max > 0 {
		x.By = ByMaxSize
		n = k.ledger.larger(k.max, k.segment)
		why = fmt.Sprintf("the log is larger than %d bytes", k.max)
	}
	if n == 0 {
		return nil, nil
	}
	k.ledger.sum(x, n)
	if x.Missing, err = k.missing(head, x.FirstBlock, x.LastBlock+1); err != nil {
		return nil, err
	}
	return &Event{Event: AuditExpire, Reason: why, Expired: x}, nil
}

// days is a duration in days, if it is some.
func days(d time.Duration) string {
	if d%(24*time.Hour) == 0 {
		return fmt.Sprintf("%dd", d/(24*time.Hour))
	}
	return d.String()
}

// missing counts the blocks that are not there as they were signed, as far as
// their headers tell.
func (k *keeper) missing(head Checkpoint, from, to uint64) (n uint64, err error) {
	id, err := readLogID(k.dir)
	if err != nil {
		return 0, err
	}
	var leaves []tlog.Hash
	err = signedEntries(k.dir, head, from, to, func(_ uint64, _ []byte, leaf tlog.Hash) { leaves = append(leaves, leaf) })
	if err != nil {
		return 0, err
	}
	names, err := segments(k.dir)
	if err != nil {
		return 0, err
	}
	present := make(map[uint64]bool)
	var hasher leafHasher
	for i, name := range names {
		if firstBlock(name) >= to || i+1 < len(names) && firstBlock(names[i+1]) <= from {
			continue
		}
		s, err := openSource(k.dir, name, id)
		if err != nil {
			return 0, err
		}
		for b, err := range s.blocks(0) {
			if err == nil && b.Number >= from && b.Number < to && hasher.hash(b.header.append(nil)[8:]) == leaves[b.Number-from] {
				present[b.Number] = true
			}
		}
		s.close()
	}
	return to - from - uint64(len(present)), nil
}

// removeKeys removes the payload keys of days that ended before a time: no
// record that is kept is of these days.
func removeKeys(dir string, before time.Time) error {
	entries, err := os.ReadDir(filepath.Join(dir, keysDir))
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		day, err := time.Parse(time.DateOnly, e.Name())
		if err != nil || !e.IsDir() || day.AddDate(0, 0, 1).After(before) {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, keysDir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}
