package intercept

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// captureLog makes the default logger write to what it returns.
func captureLog(t *testing.T) *logBuffer {
	b := &logBuffer{}
	was := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(b, nil)))
	t.Cleanup(func() { slog.SetDefault(was) })
	return b
}

type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// scriptListener hands out what its script says, then blocks until closed.
type scriptListener struct {
	script []any // net.Conn or error
	times  []time.Time
	closed chan struct{}
	once   sync.Once
}

func (l *scriptListener) Accept() (net.Conn, error) {
	l.times = append(l.times, time.Now())
	if len(l.script) == 0 {
		<-l.closed
		return nil, net.ErrClosed
	}
	next := l.script[0]
	l.script = l.script[1:]
	if err, ok := next.(error); ok {
		return nil, err
	}
	return next.(net.Conn), nil
}

func (l *scriptListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *scriptListener) Addr() net.Addr { return &net.TCPAddr{Port: 8443} }

func acceptError(errno syscall.Errno) error {
	return &net.OpError{Op: "accept", Net: "tcp", Err: os.NewSyscallError("accept4", errno)}
}

func fixedDst(net.Conn) (netip.AddrPort, error) {
	return netip.MustParseAddrPort("192.0.2.1:443"), nil
}

func TestServeBacksOff(t *testing.T) {
	log := captureLog(t)
	synctest.Test(t, func(t *testing.T) {
		var script []any
		for range 10 {
			script = append(script, acceptError(syscall.EMFILE))
		}
		client, server := net.Pipe()
		script = append(script, server, acceptError(syscall.ECONNABORTED))
		ln := &scriptListener{script: script, closed: make(chan struct{})}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() {
			done <- Serve(ctx, ln, fixedDst, func(_ context.Context, c net.Conn, _ netip.AddrPort) { c.Close() })
		}()
		if _, err := client.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("the connection after the failures: %v", err)
		}
		synctest.Wait()
		time.Sleep(time.Minute)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		var pauses []time.Duration
		for i := range ln.times[1:] {
			pauses = append(pauses, ln.times[i+1].Sub(ln.times[i])/time.Millisecond)
		}
		if want := []time.Duration{5, 10, 20, 40, 80, 160, 320, 640, 1000, 1000, 0, 5}; !reflect.DeepEqual(pauses, want) {
			t.Errorf("pauses of %d ms, want %d", pauses, want)
		}
	})
	if !strings.Contains(log.String(), "accept failed, trying again") || !strings.Contains(log.String(), "too many open files") {
		t.Errorf("log: %s", log)
	}
}

func TestServeStopsDuringPause(t *testing.T) {
	captureLog(t)
	synctest.Test(t, func(t *testing.T) {
		ln := &scriptListener{script: []any{acceptError(syscall.ENFILE)}, closed: make(chan struct{})}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if err := Serve(ctx, ln, fixedDst, nil); err != nil {
			t.Error(err)
		}
	})
}

func TestServeFailsOnBrokenListener(t *testing.T) {
	log := captureLog(t)
	for _, broken := range []error{net.ErrClosed, acceptError(syscall.EBADF), acceptError(syscall.EINVAL), io.EOF} {
		client, server := net.Pipe()
		release := make(chan struct{})
		ln := &scriptListener{script: []any{server, broken}, closed: make(chan struct{})}
		done := make(chan error, 1)
		go func() {
			done <- Serve(t.Context(), ln, fixedDst, func(ctx context.Context, c net.Conn, _ netip.AddrPort) {
				<-release
				if ctx.Err() != nil {
					t.Error("the failure of the listener has ended a connection")
				}
				c.Close()
			})
		}()
		<-ln.closed // said at once, while the handler still runs
		select {
		case err := <-done:
			t.Fatalf("Serve left a handler behind: %v", err)
		default:
		}
		close(release)
		if err := <-done; !errors.Is(err, broken) {
			t.Errorf("got %v, want %v", err, broken)
		}
		client.Close()
	}
	if n := strings.Count(log.String(), "listener failed"); n != 4 {
		t.Errorf("log: %s", log)
	}
}

func TestServeWaitsForHandlers(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	ln, err := Listen(ctx, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	want := netip.MustParseAddrPort("192.0.2.1:443")
	entered, drained := make(chan struct{}), false
	done := make(chan error)
	go func() {
		done <- Serve(ctx, ln, fixedDst, func(ctx context.Context, c net.Conn, dst netip.AddrPort) {
			defer c.Close()
			if dst != want {
				t.Errorf("destination %v", dst)
			}
			close(entered)
			<-ctx.Done()
			io.Copy(c, c) // until the client ends it
			drained = true
		})
	}()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	<-entered
	cancel()
	for { // no more are accepted
		late, err := net.Dial("tcp", ln.Addr().String())
		if errors.Is(err, syscall.ECONNREFUSED) {
			break
		}
		if err == nil {
			late.Close()
		}
	}
	io.WriteString(c, "still here")
	c.(*net.TCPConn).CloseWrite()
	if b, err := io.ReadAll(c); string(b) != "still here" {
		t.Errorf("got %q, %v", b, err)
	}
	if err := <-done; err != nil || !drained {
		t.Errorf("Serve returned %v, handler at its end: %v", err, drained)
	}
}

func TestServeRefuses(t *testing.T) {
	log := captureLog(t)
	ctx, cancel := context.WithCancel(t.Context())
	ln, err := Listen(ctx, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() {
		done <- Serve(ctx, ln, OriginalDst, func(context.Context, net.Conn, netip.AddrPort) {
			t.Error("a connection made straight to the port has reached the handler")
		})
	}()
	const scans = throttleLines + 15
	for range scans {
		c, err := net.Dial("tcp", ln.Addr().String())
		if err == nil { // else the reset was faster
			_, err = c.Read(make([]byte, 1))
			c.Close()
		}
		if !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("got %v, want a reset", err)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	// Each is logged or counted.
	logged := strings.Count(log.String(), "connection refused")
	muted := 0
	for _, part := range strings.Split(log.String(), "muted=")[1:] {
		n, _ := strconv.Atoi(strings.Fields(part)[0])
		muted += n
	}
	if logged < throttleLines || muted == 0 || logged+muted != scans {
		t.Errorf("%d lines and %d counted, of %d:\n%s", logged, muted, scans, log)
	}
	if !strings.Contains(log.String(), ErrNotRedirected.Error()) || !strings.Contains(log.String(), "client=127.0.0.1:") {
		t.Errorf("log: %s", log)
	}
}

func TestServeContainsPanic(t *testing.T) {
	log := captureLog(t)
	ctx, cancel := context.WithCancel(t.Context())
	ln, err := Listen(ctx, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() {
		done <- Serve(ctx, ln, fixedDst, func(context.Context, net.Conn, netip.AddrPort) { panic("evil\nline=1") })
	}()
	for range 2 {
		c, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("got %v, want the end", err)
		}
		c.Close()
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if n := strings.Count(log.String(), `panic="evil\nline=1"`); n != 2 || !strings.Contains(log.String(), "TestServeContainsPanic") {
		t.Errorf("log: %s", log)
	}
}

func TestThrottle(t *testing.T) {
	log := captureLog(t)
	synctest.Test(t, func(t *testing.T) {
		var th throttle
		for range throttleLines + 3 {
			th.warn("a")
		}
		time.Sleep(throttlePeriod)
		th.warn("b")
		th.warn("c")
		th.flush()
		for range throttleLines {
			th.warn("d")
		}
		th.flush()
		th.flush()
	})
	for part, want := range map[string]int{"msg=a": 10, "msg=b muted=3\n": 1, "msg=c\n": 1, "msg=d": 8, `msg="more log lines were left out" muted=2`: 1} {
		if got := strings.Count(log.String(), part); got != want {
			t.Errorf("%d times %q, want %d:\n%s", got, part, want, log)
		}
	}
}
