package audit

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/klauspost/compress/zstd"
)

// Open opens the log in o.Dir, or makes it, repairs what a crash has left, and
// takes the directory until Close.
func Open(o Options) (*Log, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	l := &Log{
		queue: make(chan *chunk, queueLength), orders: make(chan order),
		ending: make(chan struct{}), done: make(chan struct{}),
	}
	l.room.init()
	w, err := newWriter(l, o, 0)
	if err != nil {
		return nil, err
	}
	w.begin()
	go l.consume(w)
	return l, nil
}

// complete checks the options, and puts what a zero means in its place.
func (o *Options) complete() error {
	if o.Level > Frames {
		return fmt.Errorf("unknown audit level %v", o.Level)
	}
	if o.OnFailure != "" && o.OnFailure != "block" && o.OnFailure != "gap" {
		return fmt.Errorf("unknown audit on_failure %q: expected block or gap", o.OnFailure)
	}
	if o.SegmentSize < 0 {
		return fmt.Errorf("negative segment size %d", o.SegmentSize)
	}
	if o.SegmentSize == 0 {
		o.SegmentSize = 64 << 20
	}
	if o.Keep < 0 || o.MaxSize < 0 {
		return fmt.Errorf("negative keep %v or max_size %d", o.Keep, o.MaxSize)
	}
	if o.MaxSize > 0 {
		o.SegmentSize = max(1, min(o.SegmentSize, o.MaxSize/8))
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.openSegment == nil {
		o.openSegment = openSegment
	}
	return nil
}

// newWriter takes the directory and finds where its log goes on. Another process
// that has it is waited for so long. Nothing of l changes before begin.
func newWriter(l *Log, o Options, wait time.Duration) (w *writer, err error) {
	if err := os.MkdirAll(filepath.Join(o.Dir, segmentDir), 0o700); err != nil {
		return nil, err
	}
	lock, err := waitForLock(o.Dir, wait)
	if err != nil {
		return nil, err
	}
	w = &writer{log: l, opt: o, lock: lock, cause: errTooLong}
	if err := w.load(); err != nil {
		w.seg.close()
		lock.Close()
		return nil, err
	}
	return w, nil
}

// load does the rest of newWriter under the lock, which the writer owns.
func (w *writer) load() (err error) {
	o := &w.opt
	if w.id, err = ensureLogID(o.Dir); err != nil {
		return err
	}
	n, err := loadNotary(o, w.id)
	if err != nil {
		return err
	}
	w.notary = n
	at, err := resume(o.Dir, w.id, n.tree.size, n.expired)
	if err != nil {
		return err
	}
	at.unsigned = n.signer != nil && !n.signed && at.number > 0
	if err := n.catchUp(at.number); err != nil {
		return err
	}
	w.number, w.seq = at.number, at.seq
	if at.size > 0 {
		f, err := o.openSegment(filepath.Join(o.Dir, segmentDir, at.name))
		if err != nil {
			return err
		}
		w.seg = segment{f: f, size: at.size, began: at.began}
	}
	// One encoder, one block at a time, no window beyond a block.
	w.enc, err = zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest),
		zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(maxRaw))
	if err != nil {
		return err
	}
	w.mark = filepath.Join(o.Dir, openFile)
	_, err = os.Stat(w.mark)
	unclosed := err == nil
	if err := writeFile(o.step, w.mark, thisProcess().line()); err != nil {
		return err
	}
	if w.keeper, err = newKeeper(o, w.log, n); err != nil {
		return err
	}
	if w.keeper != nil {
		w.keeper.current.Store(firstBlock(at.name))
	}
	if e := at.gap(unclosed); e != nil {
		w.repaired = e
	}
	return nil
}

// begin makes w the writer of its log.
func (w *writer) begin() {
	l := w.log
	l.heed(&w.opt)
	origin := w.id.origin()
	l.origin.Store(&origin)
	l.progress.begin(w.opt.Dir, w.notary.progress)
	w.notary.progress = &l.progress
	if e := w.repaired; e != nil {
		w.opt.Logger.Warn("audit log repaired", "dir", w.opt.Dir, "reason", e.Reason)
		l.progress.gaps.Add(1)
		w.emit(e)
	}
	l.failure.Store(nil)
	l.writer.Store(w)
	w.flush, w.tick = time.NewTimer(flushAfter), time.NewTimer(tickAfter)
	w.ticking = true
	w.notary.tellFirst(filepath.Join(w.opt.Dir, checkpointFile))
	w.notary.start()
	if w.keeper != nil {
		go w.keeper.run()
	}
	w.attend()
}

// heed has Record and PayloadKey do what o says.
func (l *Log) heed(o *Options) {
	l.demand.Store(&demand{o.Level, o.OnFailure != "gap"})
	var keys *keyStore
	if o.Recipients != nil {
		keys = &keyStore{o.Dir, o.Recipients.list, o.step, o.Logger}
	}
	l.keys.Store(keys)
}

// ensureLogID reads the id of the log, or makes one where there is no log yet.
func ensureLogID(dir string) (id logID, err error) {
	path := filepath.Join(dir, logIDFile)
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return readLogID(dir)
	}
	names, err := segments(dir)
	if err != nil {
		return id, err
	}
	if len(names) > 0 {
		return id, fmt.Errorf("%s has segments but no file %s", dir, logIDFile)
	}
	rand.Read(id[:])
	return id, writeFile(nil, path, []byte(hex.EncodeToString(id[:])+"\n"))
}
