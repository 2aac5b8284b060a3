package mitm

import (
	"crypto/sha256"
	"errors"
	"sync/atomic"
	"time"

	"framegate/audit"
	"framegate/frames"
	"framegate/policy"
)

// A direction carries the messages that go one way. It belongs to the
// goroutine of run, but for what is atomic.
type direction struct {
	relay    *relay
	dir      frames.Direction
	src, dst *leg
	reader   *frames.Reader
	policy   *policy.Policy
	scope    *policy.Scope // of policy

	first [1]byte // what is waited with while no buffer is held
	in    []byte  // received, not yet judged: a part of a frame
	late  error   // came with the last bytes, counts when they are done

	stream *streamed // a message over Hold, of which a part has come
	since  time.Time // when the part came that is held of a message; zero: none is, or nobody counts
	pass   *pass     // of the batch

	claim     *claim // for what is held of a message; nil: that is little
	claimed   int64  // messages, before the one that it is for
	cancelled bool   // a message was not inflated, since nothing leaves any more
	evicted   bool   // a claim was kept for too long while others waited

	fragments bool // some are held

	takeover bool // compressed messages build on those before them
	behind   bool // the receiver lacks one that later ones build on

	closed atomic.Bool // a Close frame has passed; nothing may follow
	hasty  atomic.Bool // the other direction has ended

	messages, bytes int64
	rolling         [sha256.Size]byte
}

func newDirection(r *relay, dir frames.Direction, src, dst *leg) *direction {
	d := &direction{
		relay: r, dir: dir, src: src, dst: dst,
		reader: frames.NewReader(dir, r.settings.hold()),
	}
	if c := r.ws.deflate; c != nil {
		d.reader.UseDeflate(c[dir])
		d.takeover = c[dir].Takeover
		d.reader.LimitInflation(d.mayInflate)
	}
	if s := r.settings; s.Stream {
		d.reader.Stream(s.maxMessage(), s.MaxRatio, d.look)
	}
	return d
}

// run carries messages until the direction ends, and says so.
func (d *direction) run() {
	err := d.carry()
	d.repay()
	d.abandon()
	if d.evicted {
		d.recordEviction()
	}
	d.relay.finished(d, err)
}

func (d *direction) carry() error {
	defer func() { giveBuffer(d.in) }()
	for {
		if err := d.fill(); err != nil {
			return err
		}
		if !d.relay.closing.Load() && !d.closed.Load() {
			now := time.Now()
			n, err := d.batch(d.in, now)
			if d.relay.ws.tap != nil {
				d.tap(now, n)
			}
			d.consume(n)
			if err != nil && !d.relay.closing.Load() {
				return err
			}
		}
		switch {
		case d.relay.closing.Load():
			if d.discard() {
				return nil
			}
		case d.closed.Load():
			d.reader.Refuse()
			d.consume(len(d.in)) // Section 1.4: "discarding any further data received"
		}
	}
}

// fill waits for bytes and takes all that have been received. While nothing
// was received it holds no buffer, and with a part of a frame a small one.
func (d *direction) fill() error {
	if err := d.late; err != nil {
		return err
	}
	if d.lacks() && !d.claimFor(d.reader.Most()) {
		return nil
	}
	room := chunk
	if len(d.in) == 0 {
		n, err := d.read(d.first[:])
		if n == 0 {
			return err
		}
		d.in = append(takeBuffer(chunk), d.first[0])
		d.late = err
	} else {
		// A frame that says it is long gets room as its bytes arrive, and nothing
		// behind it is read, since that would be held without a claim.
		d.in = moveBuffer(d.in, min(d.reader.Need(), 2*len(d.in)))
		room = min(cap(d.in), max(d.reader.Need(), chunk))
		n, err := d.read(d.in[len(d.in):room])
		d.in = d.in[:len(d.in)+n]
		if err != nil && n == 0 {
			return err
		}
		d.late = err
		if cap(d.in) < chunk {
			d.in = moveBuffer(d.in, chunk)
			room = chunk
		}
	}
	if d.late == nil && len(d.in) < room {
		n, err := d.src.drain(d.in[len(d.in):room])
		d.in = d.in[:len(d.in)+n]
		d.late = err
	}
	if d.hasty.Load() && !d.closed.Load() {
		d.limitSilence()
	}
	if d.relay.settings.IdleTimeout > 0 {
		d.relay.last.Store(time.Now().UnixNano())
	}
	return nil
}

// consume forgets the first n bytes that were received, and with the last of
// them all buffers.
func (d *direction) consume(n int) {
	d.reader.Release()
	rest := d.in[n:]
	if len(rest) == 0 {
		giveBuffer(d.in)
		d.in = nil
	} else {
		copy(d.in, rest)
		d.in = d.in[:len(rest)]
	}
	d.settle()
}

// hasten gives a direction a limit of silence, because the other one has ended.
func (d *direction) hasten() {
	d.hasty.Store(true)
	d.limitSilence()
}

// limitSilence bounds how long the next bytes may be in coming, unless there
// is the limit of shut, which no byte extends.
func (d *direction) limitSilence() {
	if !d.relay.closing.Load() {
		d.src.wire.SetReadDeadline(time.Now().Add(d.relay.proxy.halfWait))
	}
}

// batch judges all messages that are whole in b, records them and forwards
// those which may pass, and returns how many bytes of b it is done with.
func (d *direction) batch(b []byte, now time.Time) (n int, err error) {
	d.reload()
	p := d.newPass(now)
	defer p.free()
	before := d.messages
	start := 0 // b[start:n] may pass, for all that is known, and has not left yet
	// send makes it leave, unless the verdict on the parts in it is against that.
	send := func() (end *ending) {
		if end = p.check(); end == nil {
			p.forward(b[start:n])
		}
		start = n
		return end
	}
	var end *ending
	for end == nil && n < len(b) && p.err == nil && !d.closed.Load() && !d.relay.closing.Load() {
		if d.behind { // look may forward
			if end = send(); end != nil {
				break
			}
		}
		m, k, err := d.reader.Next(b[n:])
		if err != nil {
			if end = send(); end != nil || d.cancelled {
				break
			}
			return n + k, p.violation(err)
		}
		if k == 0 {
			break
		}
		switch {
		case m.Opcode == frames.Continuation: // held; it leaves with the whole message
			end = send()
			n += k
			start = n
			d.fragments = true
			continue
		case m.Part != frames.Whole:
			d.fragments = false
			if p.part(&m) { // the first: what is before it has its verdict
				p.forward(b[start:n])
				start = n
			}
			if n += k; len(m.Wire) > k || m.Part == frames.LastPart {
				end = p.release(&m, b[start:n])
				start = n
			}
			if d.stream != nil && d.stream.rebuilt {
				start = n
			}
			continue
		}
		switch closing := p.judge(&m); {
		case closing != nil:
			if end = send(); end == nil {
				end = closing
			}
		case p.verdict.Action == policy.Drop:
			end = send()
			start = n + k
			d.lose(&m)
		case p.verdict.Action == policy.Redact:
			end = send()
			p.forward(d.frame(m.Opcode, p.verdict.Redact(m.Data)))
			start = n + k
			d.lose(&m)
		case m.Compressed && d.behind:
			end = send()
			p.forward(d.frame(m.Opcode, m.Data))
			start = n + k
		case m.Frames > 1:
			end = send()
			p.forward(m.Wire)
			start = n + k
		}
		n += k
		d.fragments = d.fragments && m.Opcode.IsControl()
		if m.Opcode == frames.Close && end == nil {
			d.seenClose(m.Data)
		}
	}
	if end == nil {
		end = send()
	}
	p.measure(before, n < len(b))
	if d.claim != nil && cap(d.in) <= chunk { // what is left to be sent is little, and a copy
		d.reader.Release()
		d.settle()
	}
	err = p.flush()
	if end != nil {
		d.relay.offend(d.dir, *end, end.reason)
	}
	return n, err
}

// reload puts the policy in force, unless a part of a message was judged by another.
func (d *direction) reload() {
	if p := d.relay.proxy.Policy(); p != d.policy && d.stream == nil {
		d.policy, d.scope = p, p.Scope(d.relay.ws.Upgrade)
	}
}

// newPass begins the work on a batch.
func (d *direction) newPass(now time.Time) *pass {
	p := passes.Get().(*pass)
	p.direction, p.now, p.settings = d, now, d.relay.proxy.settings()
	d.pass = p
	return p
}

// seenClose ends the direction: its peer has sent Close. The other peer is to
// answer, and then both are to end their connections.
func (d *direction) seenClose(payload []byte) {
	code, reason, _ := frames.ParseClose(payload)
	d.relay.endedBy(ending{dir: d.dir.String(), code: code, reason: reason})
	d.closed.Store(true)
	other := d.relay.directions[1-d.dir]
	other.hasten()
	if other.closed.Load() {
		d.hasten()
	}
}

// discard looks for the peer's answer to our Close and throws all else away.
func (d *direction) discard() (answered bool) {
	if d.closed.Load() {
		return true
	}
	d.reader.Refuse()
	n := 0
	for n < len(d.in) {
		m, k, err := d.reader.Next(d.in[n:])
		var e *frames.ProtocolError
		if errors.As(err, &e) && e.Code == frames.MessageTooBig { // the Reader is in step
			n += k
			continue
		}
		if err != nil {
			// Where its frames end is not known any more, so the peer is told
			// that nothing else will come, and read until it has ended, too.
			d.relay.endWrites(d.src)
			n = len(d.in)
			break
		}
		if m.Opcode == frames.Close {
			return true
		}
		if n += k; k == 0 {
			break
		}
	}
	d.consume(n)
	return false
}

// total returns what the direction has carried.
func (d *direction) total() audit.Tally {
	return audit.Tally{Messages: d.messages, Bytes: d.bytes, SHA256: d.rolling}
}

// roll adds the digest of one message to the rolling digest of the direction:
// SHA-256 over the previous value, at first zero, and the message's SHA-256.
func (d *direction) roll(sum *[sha256.Size]byte) {
	var b [2 * sha256.Size]byte
	copy(b[:], d.rolling[:])
	copy(b[sha256.Size:], sum[:])
	d.rolling = sha256.Sum256(b[:])
}
