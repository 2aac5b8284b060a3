package mitm

import (
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"reflect"
	"strings"
	"sync"
	"testing"

	"framegate/audit"
	"framegate/examples/traffic"
	"framegate/frames"
)

// A stream is what one peer sends: frames, and the messages that they make.
type stream struct {
	frames   []string
	data     []string // of the whole data messages
	controls int
}

func (s *stream) bytes() string { return strings.Join(s.frames, "") }

// generate makes n messages of any kind, fragmented and interleaved with
// control frames in any way.
func generate(r *rand.Rand, dir frames.Direction, n int, hold int) *stream {
	s := &stream{}
	add := func(fin bool, op frames.Opcode, payload string) {
		h := frames.Header{Fin: fin, Opcode: op}
		if dir == frames.ToServer {
			h.Masked = true
			for i := range h.Mask {
				h.Mask[i] = byte(r.Uint32())
			}
		}
		s.frames = append(s.frames, string(frames.AppendFrame(nil, h, []byte(payload))))
	}
	sizes := []int{0, 1, 2, 125, 126, 127, 1000, 65535, 65536, 200000, hold}
	for i := range n {
		op, size := frames.Text, sizes[i%len(sizes)]
		if r.IntN(2) == 0 {
			op = frames.Binary
		}
		payload := payloadOf(r, op, size)
		s.data = append(s.data, payload)
		rest, next := payload, op
		for r.IntN(3) == 0 {
			cut := r.IntN(len(rest) + 1)
			add(false, next, rest[:cut])
			rest, next = rest[cut:], frames.Continuation
			for r.IntN(3) == 0 {
				add(true, []frames.Opcode{frames.Ping, frames.Pong}[r.IntN(2)], payloadOf(r, frames.Binary, r.IntN(126)))
				s.controls++
			}
		}
		add(true, next, rest)
	}
	return s
}

func payloadOf(r *rand.Rand, op frames.Opcode, size int) string {
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(r.Uint32())
		if op == frames.Text {
			b[i] = 'a' + b[i]%26
		}
	}
	if op == frames.Text && size > 3 {
		copy(b[size/2-1:], "ß") // two bytes, which a fragment may part
	}
	return string(b)
}

// split cuts a stream into what is and what is not control frames. Each of the
// two keeps its order in the relay, though not their mixture.
func split(frameBytes []string) (data, control string) {
	var d, c strings.Builder
	for _, f := range frameBytes {
		if frames.Opcode(f[0] & 0xf).IsControl() {
			c.WriteString(f)
		} else {
			d.WriteString(f)
		}
	}
	return d.String(), c.String()
}

func checkSame(t *testing.T, got, want []string) {
	t.Helper()
	gotData, gotControl := split(got)
	wantData, wantControl := split(want)
	if gotData != wantData || gotControl != wantControl {
		t.Errorf("%d frames arrived as %d others: data frames identical: %v, control frames identical: %v",
			len(want), len(got), gotData == wantData, gotControl == wantControl)
	}
}

// sendCut sends b in pieces of random length.
func sendCut(w io.Writer, r *rand.Rand, b string) error {
	for len(b) > 0 {
		n := min(1+r.IntN(1<<r.IntN(18)), len(b))
		if _, err := io.WriteString(w, b[:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

func readFrames(c io.Reader, n int) (list []string, err error) {
	for range n {
		_, _, raw, err := readFrame(c)
		if err != nil {
			return list, err
		}
		list = append(list, raw)
	}
	return list, nil
}

// Whatever valid frames are sent, in whatever pieces, both ways at once: they
// arrive byte for byte, but for control frames that overtake held fragments.
func TestRelayByteForByte(t *testing.T) {
	schemes(t, func(t *testing.T, scheme string) {
		const hold = 300_000
		s := openSocket(t, scheme, "", func(p *Proxy) { p.Settings().Hold = hold })
		var streams [2]*stream
		var moving sync.WaitGroup
		for dir := range frames.Direction(2) {
			seed := rand.Uint64()
			t.Logf("%v: seed %d", dir, seed)
			streams[dir] = generate(rand.New(rand.NewPCG(seed, 0)), dir, 44, hold)
			from, to := s.sides(dir)
			moving.Go(func() {
				if err := sendCut(from, rand.New(rand.NewPCG(seed, 1)), streams[dir].bytes()); err != nil {
					t.Errorf("%v: %v", dir, err)
				}
			})
			moving.Go(func() {
				got, err := readFrames(to, len(streams[dir].frames))
				if err != nil {
					t.Errorf("%v: %v", dir, err)
				}
				checkSame(t, got, streams[dir].frames)
			})
		}
		moving.Wait()
		e := s.finish()
		checkEnd(t, e, audit.StateInspected, tallyOf(streams[0].data...), tallyOf(streams[1].data...))
		if n, want := len(s.ledger.of(audit.WSControl)), streams[0].controls+streams[1].controls+2; n != want {
			t.Errorf("%d records of control frames, want %d", n, want)
		}
	})
}

// A message is the same wherever the bytes of it are parted on their way.
func TestRelayEveryCut(t *testing.T) {
	for _, secure := range []bool{false, true} {
		h := newHop(t, secure)
		ended := h.start()
		for dir, from := range []*peer{h.client, h.server} {
			to := []*peer{h.server, h.client}[dir]
			in := []string{
				from.part(frames.Text, "he"), from.frame(frames.Ping, "x"), from.frame(frames.Continuation, "llo"),
				from.frame(frames.Binary, strings.Repeat("b", 126)),
			}
			b := strings.Join(in, "")
			h.settled(from)
			for cut := 1; cut < len(b); cut++ {
				from.send(b[:cut])
				h.settled(from)
				from.send(b[cut:])
				to.expect(in[1] + in[0] + in[2] + in[3])
				h.settled(from)
			}
		}
		h.client.closeWrite()
		h.server.closeWrite()
		<-ended
	}
}

// The real traffic of the examples arrives byte for byte, and what is recorded
// of it is true.
func TestRelayRealTraffic(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	mask := func() (key [4]byte) {
		for i := range key {
			key[i] = byte(r.Uint32())
		}
		return key
	}
	for _, set := range traffic.Sets() {
		messages, err := traffic.Load(set)
		if err != nil {
			t.Fatal(err)
		}
		var sent [2][]byte
		var data [2][]string
		valid := true
		for _, m := range messages {
			keys := mask
			if m.Direction == frames.ToClient {
				keys = nil
			}
			sent[m.Direction] = m.Append(sent[m.Direction], keys)
			switch {
			case m.Opcode == frames.Close: // the test closes by itself
				valid = valid && len(m.Payload) <= 125
				sent[m.Direction] = sent[m.Direction][:len(sent[m.Direction])-len(m.Append(nil, keys))]
			case !m.Opcode.IsControl():
				data[m.Direction] = append(data[m.Direction], string(m.Payload))
			}
		}
		if !valid {
			continue // there is a test of violations
		}
		t.Run(set, func(t *testing.T) {
			t.Parallel()
			s := openSocket(t, "wss", "", func(p *Proxy) { p.Settings().Hold = 16 << 20 })
			var moving sync.WaitGroup
			for dir := range frames.Direction(2) {
				from, to := s.sides(dir)
				moving.Go(func() { from.Write(sent[dir]) })
				moving.Go(func() {
					got := make([]byte, len(sent[dir]))
					if _, err := io.ReadFull(to, got); err != nil || string(got) != string(sent[dir]) {
						t.Errorf("%v: not as it was sent (%v)", dir, err)
					}
				})
			}
			moving.Wait()
			checkEnd(t, s.finish(), audit.StateInspected, tallyOf(data[0]...), tallyOf(data[1]...))
			checkMessages(t, s.ledger.of(audit.WSMessage), data)
		})
	}
}

// checkMessages compares the records of data messages with what was sent.
func checkMessages(t *testing.T, events []audit.Event, data [2][]string) {
	t.Helper()
	var n [2]int
	for _, e := range events {
		dir := frames.ToServer
		if e.Msg.Dir == frames.ToClient.String() {
			dir = frames.ToClient
		}
		if n[dir] == len(data[dir]) {
			t.Fatalf("more than %d messages recorded %v", n[dir], dir)
		}
		m := data[dir][n[dir]]
		if e.Msg.Size != int64(len(m)) || e.Msg.SHA256 != sha256.Sum256([]byte(m)) || e.Msg.WireSize <= e.Msg.Size {
			t.Errorf("message %d %v is recorded as %+v", n[dir], dir, *e.Msg)
		}
		n[dir]++
	}
	if n != [2]int{len(data[0]), len(data[1])} {
		t.Errorf("%v messages recorded, want %d and %d", n, len(data[0]), len(data[1]))
	}
}

// A control frame does not wait for the end of the message around it.
func TestRelayPingInsideMessage(t *testing.T) {
	schemes(t, func(t *testing.T, scheme string) {
		s := openSocket(t, scheme, "")
		for dir := range frames.Direction(2) {
			from, to := s.sides(dir)
			from.send(from.part(frames.Text, "held") + from.frame(frames.Ping, "now"))
			to.expect(from.frame(frames.Ping, "now"))
			from.send(from.frame(frames.Pong, "and now"))
			to.expect(from.frame(frames.Pong, "and now"))
			from.send(from.frame(frames.Continuation, " until here"))
			to.expect(from.part(frames.Text, "held") + from.frame(frames.Continuation, " until here"))
		}
		s.finish()
		for _, e := range s.ledger.of(audit.WSMessage) {
			if e.Msg.Frames != 2 || e.Msg.Size != 15 || e.Msg.Opcode != "text" {
				t.Errorf("recorded as %+v", *e.Msg)
			}
		}
	})
}

// What is recorded of a message and of a control frame.
func TestRelayRecords(t *testing.T) {
	s := openSocket(t, "wss", "")
	big := strings.Repeat("ü", 100)
	sent := s.client.part(frames.Text, big) + s.client.part(frames.Continuation, "") + s.client.frame(frames.Continuation, "!")
	s.client.send(sent)
	s.server.expect(sent)
	s.server.send(s.server.frame(frames.Ping, "p"))
	s.client.expect(s.server.frame(frames.Ping, "p"))
	end := s.finish()

	version := s.Policy().Version()
	want := []audit.Event{
		{Event: audit.WSMessage, Action: "allow", Msg: &audit.Message{
			Dir: "to-server", Opcode: "text", Size: 201, WireSize: int64(len(sent)), Frames: 3, SHA256: sha256.Sum256([]byte(big + "!"))}},
		{Event: audit.WSControl, Action: "allow", Msg: &audit.Message{
			Dir: "to-client", Opcode: "ping", Size: 1, WireSize: 3, Frames: 1, SHA256: sha256.Sum256([]byte("p"))}},
		{Event: audit.WSControl, Action: "allow", Msg: &audit.Message{
			Dir: "to-server", Opcode: "close", Size: 2, WireSize: 8, Frames: 1, SHA256: sha256.Sum256([]byte{3, 232})}},
		{Event: audit.WSControl, Action: "allow", Msg: &audit.Message{
			Dir: "to-client", Opcode: "close", Size: 2, WireSize: 4, Frames: 1, SHA256: sha256.Sum256([]byte{3, 232})}},
	}
	got := append(s.ledger.of(audit.WSMessage), s.ledger.of(audit.WSControl)...)
	if len(got) != len(want) {
		t.Fatalf("records:\n%s", s.ledger)
	}
	for i, e := range got {
		if e.Event != want[i].Event || e.Action != want[i].Action || !reflect.DeepEqual(e.Msg, want[i].Msg) {
			t.Errorf("recorded %s %s %+v, want %s %+v", e.Event, e.Action, *e.Msg, want[i].Event, *want[i].Msg)
		}
		if e.Conn != end.Conn || e.Policy != version || e.Host != originName || e.Path != "/chat" || e.Client != end.Client || e.Server != end.Server || e.Time.IsZero() {
			t.Errorf("recorded as of %+v", e)
		}
	}
	open, closed := s.only(audit.WSOpen), s.only(audit.WSClose)
	if open.Path != "/chat" || open.Code != 101 || open.Host != originName || open.SNI != originName {
		t.Errorf("ws.open is %+v", open)
	}
	if closed.Code != 1000 || closed.Msg == nil || closed.Msg.Dir != "to-server" {
		t.Errorf("ws.close is %+v", closed)
	}
	checkEnd(t, end, audit.StateInspected, tallyOf(big+"!"), tallyOf())
}

// Below the level of frames and messages, nothing is recorded of them, and the
// totals are the same.
func TestRelayLevels(t *testing.T) {
	for level, want := range map[audit.Level][2]int{
		0: {1, 0}, audit.Frames: {1, 4}, audit.Messages: {1, 0}, audit.Violations: {0, 0}, audit.Connections: {0, 0},
	} {
		t.Run(fmt.Sprint(level), func(t *testing.T) {
			s := openSocket(t, "ws", "", func(p *Proxy) { p.Settings().Level = level })
			s.client.send(s.client.frame(frames.Text, "m") + s.client.frame(frames.Ping, "") + s.client.frame(frames.Pong, ""))
			s.server.expect(s.client.frame(frames.Text, "m") + s.client.frame(frames.Ping, "") + s.client.frame(frames.Pong, ""))
			checkEnd(t, s.finish(), audit.StateInspected, tallyOf("m"), tallyOf())
			if got := [2]int{len(s.ledger.of(audit.WSMessage)), len(s.ledger.of(audit.WSControl))}; got != want {
				t.Errorf("%d messages and %d control frames recorded, want %v", got[0], got[1], want)
			}
		})
	}
}
