package mitm

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"framegate/audit"
	"framegate/frames"
)

// halfOpenClient makes this test binary the client of TestAttackHalfOpen, so
// that only one end of each connection counts towards the limit of descriptors.
const halfOpenClient = "FRAMEGATE_TEST_HALF_OPEN"

func init() {
	if to := os.Getenv(halfOpenClient); to != "" {
		if err := openHalf(to); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
}

// openHalf opens as many connections as its arguments say, sends the beginning
// of something on each, and returns once all have been ended by the other side.
func openHalf(to string) error {
	count, err := strconv.Atoi(os.Args[1])
	if err != nil {
		return err
	}
	var hello []byte
	tls.Client(&helloOnly{hello: &hello}, &tls.Config{ServerName: originName}).Handshake()
	starts := [][]byte{hello[:1], hello[:len(hello)/2], hello[:len(hello)-1], []byte("G"), []byte("GET / HTTP/1.1\r\nHost: a\r\nX: "), []byte(upgradeRequest[:len(upgradeRequest)-2])}
	var ended sync.WaitGroup
	conns := make(chan net.Conn, count)
	for w := range 8 {
		ended.Go(func() {
			for i := w; i < count; i += 8 {
				c, err := net.Dial("tcp", to)
				if err == nil {
					_, err = c.Write(starts[i%len(starts)])
				}
				if err != nil {
					fmt.Fprintln(os.Stderr, err)
					os.Exit(1)
				}
				conns <- c
			}
		})
	}
	ended.Wait()
	close(conns)
	fmt.Println("open")
	for c := range conns {
		io.Copy(io.Discard, c) // an alert, or a reset
		c.Close()
	}
	return nil
}

// A tally counts connections that are opened and closed, and keeps no records.
type tally struct{ opened, closed, failed atomic.Int64 }

func (s *tally) Record(events ...audit.Event) error {
	for _, e := range events {
		switch e.Event {
		case audit.ConnOpen:
			s.opened.Add(1)
		case audit.ConnClose:
			s.closed.Add(1)
			if e.State == audit.StateFailed && e.Reason != "" {
				s.failed.Add(1)
			}
		}
	}
	return nil
}

func (s *tally) Close() error { return nil }

// Ten thousand connections that send the beginning of a ClientHello or of a
// head: bounded memory for each, no trouble for others, and all gone by their
// deadline.
func TestAttackHalfOpen(t *testing.T) {
	const most = 64 << 10 // bytes for each
	count := 10000
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		t.Fatal(err)
	}
	if room := int(min(files.Cur, 1<<20)) - 500; room < count {
		count = room
		t.Logf("only %d connections: the limit of descriptors is %d", count, files.Cur)
	}
	sink := new(tally)
	h := newHub(t, "wss", "")
	live := h.open()
	g := newHalfOpenGateway(t, h, sink)

	goroutines, sockets, before := runtime.NumGoroutine(), descriptors(), memory()
	cmd := exec.CommandContext(t.Context(), os.Args[0], strconv.Itoa(count))
	cmd.Env = append(os.Environ(), halfOpenClient+"="+g)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	said, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the clients: %q %v", said, err)
	}
	if !settles(func() bool { return sink.opened.Load() == int64(count) }) {
		t.Fatalf("%d of %d connections came", sink.opened.Load(), count)
	}
	waiting := sink.opened.Load() - sink.closed.Load()
	used := memory() - before
	t.Logf("%d half-open connections of %d take %d KiB, %d bytes each", waiting, count, used>>10, used/max(waiting, 1))
	if used > most*max(waiting, 100) {
		t.Errorf("%d bytes for each, want at most %d", used/waiting, most)
	}
	for range 100 {
		live.client.send(live.client.frame(frames.Text, "on"))
		live.server.expect(live.client.frame(frames.Text, "on"))
	}
	other := h.open()
	other.client.send(other.client.frame(frames.Text, "on"))
	other.server.expect(other.client.frame(frames.Text, "on"))

	if err := cmd.Wait(); err != nil { // which every connection has to end for
		t.Error(err)
	}
	if !settles(func() bool { return sink.closed.Load() == int64(count) }) || sink.failed.Load() != int64(count) {
		t.Errorf("%d of %d connections ended, %d of them failed", sink.closed.Load(), count, sink.failed.Load())
	}
	const more = 20 // of the second WebSocket
	if !settles(func() bool { return runtime.NumGoroutine() <= goroutines+more && descriptors() <= sockets+more }) {
		t.Errorf("%d goroutines and %d sockets, before %d and %d", runtime.NumGoroutine(), descriptors(), goroutines, sockets)
	}
	live.client.send(live.client.frame(frames.Text, "on"))
	live.server.expect(live.client.frame(frames.Text, "on"))
}

// newHalfOpenGateway gives h another listener, whose connections have short
// phases and are recorded by sink, and returns its address.
func newHalfOpenGateway(t *testing.T, h *hub, sink audit.Sink) string {
	t.Helper()
	p := &Proxy{Certs: h.certs, Policy: h.Policy, Audit: sink, Trust: h.Trust, Log: slog.New(slog.DiscardHandler), Settings: func() *Settings { return &Settings{HandshakeTimeout: 6 * time.Second} }}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { p.ServeConn(ctx, c, addrPort(ln.Addr())) })
		}
	})
	t.Cleanup(func() {
		ln.Close()
		cancel()
		serving.Wait()
	})
	return ln.Addr().String()
}
