package mitm

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"framegate/frames"
	"framegate/policy"
)

// examplePolicy is the one that the budgets are about.
func examplePolicy(b *testing.B) func() *policy.Policy {
	b.Helper()
	text, err := os.ReadFile("../examples/policies/default.toml")
	if err != nil {
		b.Fatal(err)
	}
	p, err := policy.Parse("default.toml", text)
	if err != nil {
		b.Fatal(err)
	}
	return func() *policy.Policy { return p }
}

// One direction of a relay at full speed, with the example policy and records
// that go nowhere. The time is that of all three: client, gateway and server.
func BenchmarkRelayHop(b *testing.B) {
	for _, scheme := range []string{"ws", "wss"} {
		for _, size := range []int{64, 1 << 10, 16 << 10} {
			b.Run(fmt.Sprintf("%s/%dB", scheme, size), func(b *testing.B) { relayHop(b, scheme, size, chunk, nil) })
		}
	}
}

// What counting adds to a batch of one message.
func BenchmarkCountBatch(b *testing.B) {
	s := NewStats()
	d := &direction{relay: &relay{flow: &flow{proxy: &Proxy{Stats: s}, shard: s.open()}}}
	p := d.newPass(time.Now())
	defer p.free()
	b.ReportAllocs()
	for b.Loop() {
		p.carried.add(policy.Allow, 64)
		p.measure(0, false)
		d.relay.shard.add(d.dir, &p.carried)
		p.carried = carried{}
	}
}

// The relay with and without counts, in writes of one message, which make the
// smallest batches, and of many.
func BenchmarkRelayCounted(b *testing.B) {
	for _, per := range []int{1, chunk} {
		for _, stats := range []*Stats{nil, NewStats()} {
			b.Run(fmt.Sprintf("batch=%d/counted=%t", per, stats != nil), func(b *testing.B) { relayHop(b, "wss", 64, per, stats) })
		}
	}
}

// relayHop relays messages, in writes of up to most bytes.
func relayHop(b *testing.B, scheme string, size, most int, stats *Stats) {
	h := newHop(b, scheme == "wss", func(p *Proxy) { p.Policy, p.Stats = examplePolicy(b), stats })
	ended := h.start()
	m := `{"type":"ticker","sequence":37475248783,"product_id":"ETH-USD","price":"1285.22","time":"2022-10-19T23:28:22.061769Z"}` + "\n"
	frame := h.client.frame(frames.Text, strings.Repeat(m, size/len(m)+1)[:size])
	per := max(1, most/len(frame))
	batch := []byte(strings.Repeat(frame, per))
	buf := make([]byte, chunk)
	b.SetBytes(int64(size))
	b.ReportAllocs()
	b.ResetTimer()
	go func() {
		for left := b.N; left > 0; left -= per {
			h.client.Write(batch[:min(left, per)*len(frame)])
		}
	}()
	for left := b.N * len(frame); left > 0; {
		n, err := h.server.Read(buf)
		if err != nil {
			b.Fatal(err)
		}
		left -= n
	}
	b.StopTimer()
	h.client.reset()
	h.server.reset()
	<-ended
}

// What an idle WebSocket over TLS costs: that of the gateway is the difference
// between clients and servers with it and the same ones without. The ratio is to a
// relay that ends TLS on both sides and does nothing else.
func BenchmarkIdle(b *testing.B) {
	const connections = 1000
	for b.Loop() {
		memory := func() float64 {
			runtime.GC()
			runtime.GC() // what is in pools lives for two
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			return float64(m.HeapAlloc+m.StackInuse) / connections / 1024
		}
		keep := make([]any, 0, 3*connections)
		done := make(chan struct{})
		start := memory()
		for range connections {
			keep = append(keep, openDirect(b, nil, done))
		}
		direct := memory() - start
		start = memory()
		for range connections {
			keep = append(keep, openDirect(b, bareRelay, done))
		}
		bare := memory() - start - direct

		h := newHub(b, "wss", "", func(p *Proxy) { p.Audit = discardSink{} })
		h.policy.Store(examplePolicy(b)())
		start = memory()
		for range connections {
			s := h.open()
			s.client.send(s.client.frame(frames.Text, strings.Repeat("x", 1000)))
			s.server.read()
			s.server.send(s.server.frame(frames.Text, strings.Repeat("x", 1000)))
			s.client.read()
			keep = append(keep, s)
		}
		gateway := memory() - start - direct
		b.ReportMetric(gateway, "KiB/conn")
		b.ReportMetric(bare, "bare-KiB/conn")
		b.ReportMetric(gateway/bare, "ratio")
		runtime.KeepAlive(keep)
		h.stop()
		close(done)
	}
}

// bareRelay ends TLS on both sides and copies. It waits with one byte, and on
// goroutines that have seen no handshake.
func bareRelay(b *testing.B, down net.Conn, dst string) {
	client, server := serverSecrets()
	near := tls.Server(down, server)
	up, err := net.Dial("tcp", dst)
	if err != nil {
		b.Error(err)
		return
	}
	far := tls.Client(up, client)
	if err := errors.Join(near.Handshake(), far.Handshake()); err != nil {
		b.Error(err)
		return
	}
	b.Cleanup(func() { down.Close(); up.Close() })
	for _, way := range [][2]*tls.Conn{{near, far}, {far, near}} {
		go func() {
			var first [1]byte
			for {
				n, err := way[0].Read(first[:])
				if err != nil {
					return
				}
				rest := takeBuffer(chunk)[:chunk]
				rest[0] = first[0]
				if n == 1 { // crypto/tls has the rest of the record
					n, err = way[0].Read(rest[1:])
				}
				if err != nil {
					return
				}
				way[1].Write(rest[:1+n])
				giveBuffer(rest)
			}
		}()
	}
}

// openDirect connects a client and a server without a gateway, by relay if that is
// not nil. As that of a hub, the server stays on its goroutine until done.
func openDirect(b *testing.B, relay func(b *testing.B, down net.Conn, dst string), done <-chan struct{}) *tls.Conn {
	b.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer ln.Close()
	dst := ln.Addr().String()
	if relay != nil {
		middle, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		defer middle.Close()
		dst = middle.Addr().String()
		go func() {
			if down, err := middle.Accept(); err == nil {
				relay(b, down, ln.Addr().String())
			}
		}()
	}
	near, err := net.Dial("tcp", dst)
	if err != nil {
		b.Fatal(err)
	}
	far, err := ln.Accept()
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { near.Close(); far.Close() })
	client, server := serverSecrets()
	message := strings.Repeat("x", 1000)
	go func() {
		c := tls.Server(far, server)
		io.ReadFull(c, make([]byte, len(message)))
		io.WriteString(c, message)
		<-done
		c.Close()
	}()
	c := tls.Client(near, client)
	io.WriteString(c, message)
	if _, err := io.ReadFull(c, make([]byte, len(message))); err != nil {
		b.Fatal(err)
	}
	return c
}
