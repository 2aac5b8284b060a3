package mitm

import (
	"bytes"
	"crypto/tls"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"framegate/frames"
	"framegate/policy"
)

// A tape is choices from bytes; at its end it has only zeros.
type tape []byte

// IntN implements choices.
func (t *tape) IntN(n int) (v int) {
	for size := n - 1; size > 0; size >>= 8 {
		if len(*t) > 0 {
			v, *t = v<<8|int((*t)[0]), (*t)[1:]
		}
	}
	return v % n
}

// A line is a relay that carries one stream after another.
type line struct {
	*hop
	variant *variant
	ended   chan struct{}
}

func newLine(t testing.TB, v *variant) *line {
	t.Helper()
	rules, err := policy.Parse("shadows.toml", []byte(shadows))
	if err != nil {
		t.Fatal(err)
	}
	judged := func(p *Proxy) { p.Policy = func() *policy.Policy { return rules } }
	l := &line{newHop(t, v.scheme == "wss", v.adjust, judged, quickly), v, make(chan struct{})}
	ws := &upgrade{}
	if v.deflate {
		ws.deflate = &frames.Deflate{{Takeover: v.takeover, Bits: 15}, {Takeover: v.takeover, Bits: 15}}
	}
	go func() {
		defer close(l.ended)
		l.relay(ws)()
		l.hop.end(nil)
	}()
	t.Cleanup(func() {
		l.client.reset()
		l.server.reset()
		<-l.ended
	})
	return l
}

// carry sends the stream of g piece by piece, each when the relay has read what
// was sent before, and returns what is wrong with what arrives up to the frame
// of end.
func (l *line) carry(g *generator, pieces [][]byte) error {
	from, to := l.client, l.server
	if g.dir == frames.ToClient {
		from, to = to, from
	}
	soon := time.Now().Add(8 * time.Second) // fuzzing takes an input for hung after 10
	from.tcp.SetDeadline(soon)
	to.tcp.SetDeadline(soon)
	want := l.variant.expected(g.stream)
	end := g.stream[len(g.stream)-1].wire
	got := make([]byte, 0, len(want)+1)
	received := make(chan error, 1)
	go func() { // not by length: what is lost is not waited for
		var n int
		var err error
		for err == nil && !bytes.HasSuffix(got, end) {
			got = slices.Grow(got, 1)
			n, err = to.Read(got[len(got):cap(got)])
			got = got[:len(got)+n]
		}
		received <- err
	}()
	var err error
	for _, p := range pieces {
		if _, err = from.Write(p); err == nil {
			err = l.wait(from, soon)
		}
		if err != nil {
			break
		}
	}
	err = errors.Join(err, <-received)
	if d := difference(got, want); d != "" {
		err = errors.Join(errors.New(d), err)
	}
	return err
}

var errNotRead = errors.New("the relay does not read what is sent")

// wait is settled for a relay that may end.
func (l *line) wait(p *peer, until time.Time) error {
	c, ok := p.Conn.(*counter)
	if !ok {
		c = p.Conn.(*tls.Conn).NetConn().(*counter)
	}
	late := time.After(time.Until(until))
	for {
		select {
		case n := <-l.taken[p.dir]:
			if n == c.sent {
				return nil
			}
		case <-l.ended:
			return errNotRead
		case <-late:
			return errNotRead
		}
	}
}

// A keeper is a test that leaves the cleaning up to close, because what it
// opens serves many inputs.
type keeper struct {
	testing.TB
	undo []func()
}

// Cleanup implements testing.TB.
func (k *keeper) Cleanup(f func()) { k.undo = append(k.undo, f) }

func (k *keeper) close() {
	for _, f := range slices.Backward(k.undo) {
		f()
	}
	k.undo = nil
}

// The input chooses first where the stream is cut, then a variant, a direction
// and all that a generator is led by. Lines stay open from input to input, and
// deflaters begin anew with each, so that what is sent depends on it alone.
func FuzzIdentity(f *testing.F) {
	for i := range 6 * len(variants) {
		b := make([]byte, 32<<(i%6))
		rand.NewChaCha8([32]byte{byte(i)}).Read(b)
		b[24] = byte(i)
		f.Add(b)
	}
	lines := make([]*line, len(variants))
	deflaters := make([]*deflater, len(variants))
	keepers := make([]keeper, len(variants))
	f.Cleanup(func() {
		for i := range keepers {
			keepers[i].close()
		}
	})
	f.Fuzz(func(t *testing.T, input []byte) {
		n := min(24, len(input))
		c, cuts := tape(input[n:]), tape(input[:n])
		i := c.IntN(len(variants))
		v, k := &variants[i], &keepers[i]
		if lines[i] == nil {
			k.TB = t
			lines[i] = newLine(k, v)
			deflaters[i] = newDeflater(t, v.takeover)
		}
		g := &generator{choices: &c, dir: frames.Direction(c.IntN(2))}
		if v.deflate {
			g.deflater = deflaters[i]
			g.deflater.t = t
			g.deflater.w.Reset(&g.deflater.out)
		}
		for len(c) > 0 && len(g.stream) < 32 {
			g.next()
		}
		g.end()
		if err := lines[i].carry(g, g.pieces(&cuts, 8)); err != nil {
			t.Errorf("%v, %v: %v", v, g.dir, err)
			k.close()
			lines[i] = nil
		}
	})
}
