package capture

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// A Ring keeps what connections carry as pcapng files in a directory, the
// newest of it: when there is too much, the oldest file goes.
//
// Whoever hands it bytes never waits. What does not find room in its queue, or
// on the disk, is dropped, counted and told: as a hole in the TCP stream, in
// the statistics of the file, in a comment, and in the log of the program.
type Ring struct {
	log   *slog.Logger
	files ringFiles

	mu      sync.Mutex
	wake    *sync.Cond
	queue   []ringItem
	waiting int64 // bytes in the queue
	closed  bool
	done    chan struct{}

	received, missed atomic.Uint64 // chunks, and those that are in no file; since the file began
	lost             atomic.Int64  // bytes, not yet told of
	toldAt           time.Time     // of the goroutine that writes
}

// RingOptions say where and how much.
type RingOptions struct {
	// Dir is made if it is not there, with mode 0700.
	Dir string
	// MaxSize is how many bytes all files have together. It must be at least
	// MinRing.
	MaxSize int64
	// Application is the name of the program, for the head of each file.
	Application string
	// Log is told what an operator should see. If nil, slog.Default.
	Log *slog.Logger
}

// MinRing is the least that a Ring may be bounded to.
const MinRing = 16 << 20

// maxQueue is how many bytes wait to be written, and queueCost what each chunk
// takes besides. A disk that stalls for a second is not noticed at 30 MB/s.
const (
	maxQueue  = 32 << 20
	queueCost = 128
)

// tellEvery is how often a loss that goes on is told.
const tellEvery = 10 * time.Second

// A RingStream is one connection in a Ring.
type RingStream struct {
	ring           *Ring
	id             string
	client, server netip.AddrPort
	first          [2][]byte // the heads, for files that it goes on in

	gap [2]int64 // bytes dropped since the last that went into the queue; each of its direction

	// Of the goroutine that writes.
	conn   *PacketConn
	file   *ringFile // that conn is in; nil: none
	hole   [2]int64  // bytes missing before what comes next
	misses int64     // in all
}

// A ringItem is one step of a connection.
type ringItem struct {
	stream   *RingStream
	kind     ringKind
	toServer bool
	aligned  bool
	at       time.Time
	data     []byte
	gap      int64
}

type ringKind byte

const (
	ringOpen ringKind = iota
	ringData
	ringClose
)

// OpenRing begins with a file of its own. Files that an earlier Ring has left
// count, and go first.
func OpenRing(o RingOptions) (*Ring, error) {
	if o.MaxSize < MinRing {
		return nil, fmt.Errorf("at most %d bytes of packets: expected %d or more", o.MaxSize, MinRing)
	}
	r := &Ring{
		log: cmp.Or(o.Log, slog.Default()), done: make(chan struct{}),
		files: ringFiles{dir: o.Dir, most: o.MaxSize, application: o.Application},
	}
	r.wake = sync.NewCond(&r.mu)
	if err := r.files.open(); err != nil {
		return nil, err
	}
	go r.run()
	return r, nil
}

// Open begins a connection with the first bytes of both sides. It returns nil
// if there is no room for it.
func (r *Ring) Open(id string, client, server netip.AddrPort, request, response []byte) *RingStream {
	s := &RingStream{ring: r, id: id, client: client, server: server}
	s.first = [2][]byte{append([]byte(nil), request...), append([]byte(nil), response...)}
	if !r.put(ringItem{stream: s, kind: ringOpen, at: time.Now(), data: s.first[0]}) {
		return nil
	}
	return s
}

// In reports whether s is in r.
func (s *RingStream) In(r *Ring) bool { return s.ring == r }

// Adopt returns a stream by which the connection of s, which is in another Ring,
// goes on in this one.
func (r *Ring) Adopt(s *RingStream) *RingStream {
	return &RingStream{ring: r, id: s.id, client: s.client, server: s.server, first: s.first}
}

// Bytes takes the next bytes of a direction, which may be used again when it is
// back. aligned says that a reader who has not seen what came before can begin
// with them. It may be called for either direction at the same time.
func (s *RingStream) Bytes(toServer bool, at time.Time, b []byte, aligned bool) {
	gap := &s.gap[side(toServer)]
	if *gap > 0 && !aligned {
		*gap += int64(len(b)) // the rest of what has a hole is of no use
		s.ring.miss(len(b))
		return
	}
	i := ringItem{stream: s, kind: ringData, toServer: toServer, aligned: aligned, at: at, data: append([]byte(nil), b...), gap: *gap}
	if !s.ring.put(i) {
		*gap += int64(len(b))
		return
	}
	*gap = 0
}

// Close ends the connection.
func (s *RingStream) Close() {
	s.ring.put(ringItem{stream: s, kind: ringClose, at: time.Now(), gap: s.gap[0] + s.gap[1]})
}

// put says false if there is no room. There always is for the end of a
// connection.
func (r *Ring) put(i ringItem) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	size := int64(len(i.data)) + queueCost
	if r.closed || i.kind != ringClose && r.waiting+size > maxQueue {
		r.miss(len(i.data))
		return false
	}
	r.queue = append(r.queue, i)
	r.waiting += size
	r.wake.Signal()
	return true
}

// miss counts a chunk that did not get into the queue.
func (r *Ring) miss(n int) {
	r.received.Add(1)
	r.missed.Add(1)
	r.lost.Add(int64(n))
}

// Close writes what waits, ends the file, and takes nothing from then on.
func (r *Ring) Close() error {
	r.mu.Lock()
	r.closed = true
	r.wake.Signal()
	r.mu.Unlock()
	<-r.done
	return r.files.close(r.counts())
}

// counts are those of a file that ends.
func (r *Ring) counts() (received, missed uint64) { return r.received.Swap(0), r.missed.Swap(0) }

// run writes until Close.
func (r *Ring) run() {
	defer close(r.done)
	var batch []ringItem
	for {
		r.mu.Lock()
		for len(r.queue) == 0 && !r.closed {
			r.wake.Wait()
		}
		closed := r.closed && len(r.queue) == 0
		batch, r.queue = r.queue, batch[:0]
		r.mu.Unlock()
		if closed {
			r.tell(true)
			return
		}
		for i := range batch {
			r.do(&batch[i])
			r.mu.Lock()
			r.waiting -= int64(len(batch[i].data)) + queueCost
			r.mu.Unlock()
			batch[i] = ringItem{}
		}
		if err := r.files.flush(); err != nil {
			r.failed(err)
		}
		r.tell(false)
	}
}

// tell logs what was dropped, now and then.
func (r *Ring) tell(now bool) {
	if r.lost.Load() == 0 || !now && time.Since(r.toldAt) < tellEvery {
		return
	}
	r.toldAt = time.Now()
	r.log.Warn("packets: bytes were dropped; the connections that they were of are not affected", "bytes", r.lost.Swap(0), "dir", r.files.dir)
}

// failed tells once that nothing can be written, until something can.
func (r *Ring) failed(err error) {
	if r.files.fail() {
		r.log.Error("packets: cannot write, and drop them until it can be done; connections are not affected", "dir", r.files.dir, "err", err)
	}
}

// do takes one step of a connection.
func (r *Ring) do(i *ringItem) {
	s := i.stream
	if i.kind == ringData {
		s.hole[side(i.toServer)] += i.gap
		s.misses += i.gap
		r.received.Add(1)
	}
	err := r.write(i)
	if err != nil && i.kind == ringData {
		r.missed.Add(1)
		r.lost.Add(int64(len(i.data)))
		s.hole[side(i.toServer)] += int64(len(i.data))
		s.misses += int64(len(i.data))
	}
	if err != nil && !errors.Is(err, errNotNow) {
		r.failed(err)
	}
}

// errNotNow says that a step cannot be written, which has been told.
var errNotNow = errors.New("not now")

func (r *Ring) write(i *ringItem) error {
	s := i.stream
	if i.kind == ringClose {
		if s.file == nil || !s.file.open {
			return nil
		}
		return s.conn.Close(i.at, s.comment(s.misses+i.gap))
	}
	d := side(i.toServer)
	lost := s.hole[d]
	if err := r.enter(i); err != nil || i.kind == ringOpen {
		return err
	}
	if int64(len(i.data)) > r.files.each()/2 {
		return errNotNow
	}
	s.conn.Skip(i.toServer, s.hole[d])
	s.hole[d] = 0
	return s.conn.Send(i.toServer, i.at, i.data, s.comment(lost))
}

// enter sees to it that the connection is in a file that is open: the newest if
// the step is one to begin with.
func (r *Ring) enter(i *ringItem) error {
	s := i.stream
	current, fresh, err := r.files.current(r.counts)
	if err != nil {
		return err
	}
	if fresh {
		r.log.Info("packets: writing", "file", current.path)
	}
	begins := i.kind == ringOpen || i.aligned
	switch {
	case s.file == current:
		return nil
	case s.file != nil && s.file.open && !begins && s.file.size() < 2*r.files.each():
		return nil // the rest of what is in there
	case !begins:
		return errNotNow
	case s.conn == nil:
		if s.conn, err = current.packets.Connect(s.id, s.client, s.server, i.at, s.comment(0)); err == nil {
			err = errors.Join(s.conn.Send(true, i.at, s.first[0], s.comment(0)), s.conn.Send(false, i.at, s.first[1], s.comment(0)))
		}
	default:
		s.conn, err = current.packets.Continue(s.conn, s.first, i.at, s.comment(0)+" continued")
		s.hole = [2]int64{} // they are in no file
	}
	s.file = current
	return err
}

// comment is what each packet bears.
func (s *RingStream) comment(lost int64) string {
	c := "framegate conn=" + s.id
	if lost > 0 {
		c += fmt.Sprintf(" lost=%d", lost)
	}
	return c
}
