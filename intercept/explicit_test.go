package intercept

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"
)

// hosts is a Resolver with a table.
type hosts map[string][]netip.Addr

func (h hosts) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	if addrs, ok := h[host]; ok {
		return addrs, nil
	}
	return nil, &net.DNSError{Err: "no such host", Name: host, Server: "10.0.0.53:53", IsNotFound: true}
}

func addrs(s ...string) []netip.Addr {
	var a []netip.Addr
	for _, s := range s {
		a = append(a, netip.MustParseAddr(s))
	}
	return a
}

var testHosts = hosts{
	"chat.example":  addrs("2001:db8::7", "192.0.2.7", "::ffff:192.0.2.8"),
	"mixed.example": addrs("127.0.0.1", "192.0.2.7", "fe80::1"),
	"evil.example":  addrs("127.0.0.1", "::1"),
	"none.example":  {},
}

// startExplicit serves a proxy on loopback until stop.
func startExplicit(t *testing.T, e *Explicit) (addr string, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ln, err := Listen(ctx, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- e.Serve(ctx, ln) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	}
	t.Cleanup(stop)
	return ln.Addr().String(), stop
}

// send opens a connection, sends text at once and leaves it open.
func send(t *testing.T, addr, text string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	return c.(*net.TCPConn)
}

const established = "HTTP/1.1 200 Connection established\r\n\r\n"

// Whatever the client sends with its CONNECT, of whatever length, arrives, and
// once.
func TestConnectKeepsEarlyBytes(t *testing.T) {
	e := NewExplicit(ExplicitConfig{
		Resolver: testHosts,
		Connect: func(_ context.Context, c net.Conn, host string, dst []netip.AddrPort) {
			defer c.Close()
			fmt.Fprintln(c, host, dst)
			io.Copy(c, c) // to the end of the client's half
			fmt.Fprint(c, "end")
			c.(interface{ CloseWrite() error }).CloseWrite()
		},
	})
	addr, _ := startExplicit(t, e)
	for _, n := range []int{0, 1, 100, 4095, 4096, 4097, 5000, 100_000} {
		for _, late := range []string{"", "late"} {
			early := strings.Repeat("0123456789", n/10+1)[:n]
			c := send(t, addr, "CONNECT chat.example:443 HTTP/1.1\r\nHost: chat.example:443\r\n\r\n"+early)
			br := bufio.NewReader(c)
			head := make([]byte, len(established))
			if _, err := io.ReadFull(br, head); err != nil || string(head) != established {
				t.Fatalf("got %q, %v", head, err)
			}
			line, _ := br.ReadString('\n')
			if want := "chat.example [[2001:db8::7]:443 192.0.2.7:443 192.0.2.8:443]\n"; line != want {
				t.Fatalf("got %q, want %q", line, want)
			}
			io.WriteString(c, late)
			c.CloseWrite()
			rest, err := io.ReadAll(br)
			if want := early + late + "end"; err != nil || string(rest) != want {
				t.Errorf("%d bytes early: got %d bytes back, want %d (%v)", n, len(rest), len(want), err)
			}
		}
	}
}

func TestExplicitRefuses(t *testing.T) {
	log := captureLog(t)
	e := NewExplicit(ExplicitConfig{
		Resolver: testHosts,
		Connect: func(_ context.Context, c net.Conn, host string, dst []netip.AddrPort) {
			fmt.Fprint(c, dst)
			c.Close()
		},
	})
	addr, stop := startExplicit(t, e)
	type refused struct{ request, status, body string }
	cases := []refused{
		{"CONNECT chat.example:22", "403 Forbidden", "port 22 is not allowed"},
		{"CONNECT chat.example", "400 Bad Request", "CONNECT needs host:port"},
		{"CONNECT /path", "400 Bad Request", "CONNECT needs host:port"},
		{"CONNECT chat.example:443 HTTP/1.1\r\nContent-Length: 1", "400 Bad Request", "CONNECT with content"},
		{"CONNECT chat.example:443 HTTP/1.1\r\nTransfer-Encoding: chunked", "400 Bad Request", "CONNECT with content"},
		{"CONNECT chat.example:65979", "400 Bad Request", `bad port "65979"`},
		{"CONNECT a'b:443", "400 Bad Request", `bad host "a'b"`},
		{"CONNECT nowhere.example:443", "502 Bad Gateway", "cannot look up the host"},
		{"CONNECT none.example:443", "502 Bad Gateway", "cannot look up the host"},
		{"CONNECT evil.example:443", "403 Forbidden", "address ::1 is not allowed"},
		{"CONNECT 127.0.0.1:443", "403 Forbidden", "address 127.0.0.1 is not allowed"},
		{"CONNECT 127.255.0.1:443", "403 Forbidden", "address 127.255.0.1 is not allowed"},
		{"CONNECT [::1]:443", "403 Forbidden", "address ::1 is not allowed"},
		{"CONNECT [::ffff:127.0.0.1]:443", "403 Forbidden", "address 127.0.0.1 is not allowed"},
		{"CONNECT 0.0.0.0:443", "403 Forbidden", "address 0.0.0.0 is not allowed"},
		{"CONNECT [::]:443", "403 Forbidden", "address :: is not allowed"},
		{"CONNECT 169.254.169.254:80", "403 Forbidden", "address 169.254.169.254 is not allowed"},
		{"CONNECT [fe80::1]:443", "403 Forbidden", "address fe80::1 is not allowed"},
		{"CONNECT [2001:db8::1%25eth0]:443", "403 Forbidden", "address 2001:db8::1%eth0 is not allowed"},
		{"CONNECT 224.0.0.1:443", "403 Forbidden", "address 224.0.0.1 is not allowed"},
		{"CONNECT 255.255.255.255:443", "403 Forbidden", "address 255.255.255.255 is not allowed"},
		{"GET /", "400 Bad Request", "this is a proxy: expected CONNECT or an absolute http:// URL"},
		{"GET https://chat.example/", "400 Bad Request", "this is a proxy: expected CONNECT or an absolute http:// URL"},
		{"GET http://chat.example/", "501 Not Implemented", "this proxy serves CONNECT only"},
	}
	for _, own := range ownAddresses(t) {
		cases = append(cases, refused{"CONNECT " + net.JoinHostPort(own, "443"), "403 Forbidden", "address " + own + " is the gateway's own"})
	}
	for _, tc := range cases {
		if !strings.Contains(tc.request, " HTTP/1.1") {
			tc.request += " HTTP/1.1"
		}
		c := send(t, addr, tc.request+"\r\nHost: chat.example\r\n\r\n")
		b, err := io.ReadAll(c)
		if err != nil {
			t.Errorf("%s: %v", tc.request, err)
		}
		got := string(b)
		if !strings.HasPrefix(got, "HTTP/1.1 "+tc.status+"\r\n") || !strings.HasSuffix(got, "\r\n\r\n"+tc.body+"\n") || !strings.Contains(got, "\r\nConnection: close\r\n") {
			t.Errorf("%s: got\n%s\nwant %s %s", tc.request, got, tc.status, tc.body)
		}
	}
	// What may not be dialled is left out, in the order of the rest.
	c := send(t, addr, "CONNECT mixed.example:443 HTTP/1.1\r\nHost: mixed.example\r\n\r\n")
	if b, err := io.ReadAll(c); string(b) != established+"[192.0.2.7:443]" {
		t.Errorf("got %q, %v", b, err)
	}
	stop()
	if !strings.Contains(log.String(), "explicit proxy: request refused") || !strings.Contains(log.String(), "muted=") {
		t.Errorf("log: %s", log)
	}
}

// ownAddresses returns the addresses of this machine, loopback and the like
// aside.
func ownAddresses(t *testing.T) []string {
	t.Helper()
	ifaces, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	var own []string
	for _, a := range ifaces {
		ip, ok := netip.AddrFromSlice(a.(*net.IPNet).IP)
		if ok && ip.Unmap().IsGlobalUnicast() {
			own = append(own, ip.Unmap().String())
		}
	}
	return own
}

func TestExplicitPlain(t *testing.T) {
	log := captureLog(t)
	var got []netip.AddrPort
	e := NewExplicit(ExplicitConfig{
		Resolver: testHosts,
		Timeout:  time.Second,
		Ports:    func() []uint16 { return []uint16{80, 8080} },
		Plain: func(w http.ResponseWriter, r *http.Request, dst []netip.AddrPort) {
			got = dst
			switch r.URL.Path {
			case "/panic":
				panic("plain")
			case "/abort":
				panic(http.ErrAbortHandler)
			case "/unread":
				w.Header().Set("Connection", "close")
			}
			fmt.Fprint(w, r.Method, " ", r.URL)
		},
	})
	addr, stop := startExplicit(t, e)
	for _, tc := range []struct {
		url, status string
		dst         []netip.AddrPort
	}{
		{"http://192.0.2.1/a?b", "200 OK", []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:80")}},
		{"http://[2001:db8::1]:8080/", "200 OK", []netip.AddrPort{netip.MustParseAddrPort("[2001:db8::1]:8080")}},
		{"http://192.0.2.1:443/", "403 Forbidden", nil},
		{"http://127.0.0.1/", "403 Forbidden", nil},
		{"http://evil.example/", "403 Forbidden", nil},
	} {
		got = nil
		c := send(t, addr, "GET "+tc.url+" HTTP/1.1\r\nHost: ignored\r\n\r\n")
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		if resp.Status != tc.status || !reflect.DeepEqual(got, tc.dst) {
			t.Errorf("%s: %s for %v: %s", tc.url, resp.Status, got, body)
		}
		if tc.dst != nil && string(body) != "GET "+tc.url {
			t.Errorf("%s: %s", tc.url, body)
		}
		c.Close()
	}
	// Content that neither comes nor is wanted holds the answer up for the
	// timeout at most.
	c := send(t, addr, "POST http://192.0.2.1/unread HTTP/1.1\r\nHost: ignored\r\nContent-Length: 5\r\n\r\n")
	if b, err := io.ReadAll(c); !strings.HasSuffix(string(b), "POST http://192.0.2.1/unread") || err != nil {
		t.Errorf("unread content: got %q, %v", b, err)
	}
	for _, path := range []string{"panic", "abort"} {
		c := send(t, addr, "GET http://192.0.2.1/"+path+" HTTP/1.1\r\nHost: ignored\r\n\r\n")
		if b, err := io.ReadAll(c); len(b) > 0 {
			t.Errorf("%s: %q, %v", path, b, err)
		}
	}
	stop()
	if n := strings.Count(log.String(), "panic="); n != 1 {
		t.Errorf("%d panics logged, want that of /panic:\n%s", n, log)
	}
}

func TestExplicitWaitsForTunnels(t *testing.T) {
	log := captureLog(t)
	entered, drained := make(chan struct{}), false
	e := NewExplicit(ExplicitConfig{
		Resolver: testHosts,
		Connect: func(ctx context.Context, c net.Conn, host string, _ []netip.AddrPort) {
			if host == "192.0.2.9" {
				panic("tunnel")
			}
			defer c.Close()
			close(entered)
			<-ctx.Done()
			io.Copy(c, c)
			drained = true
		},
	})
	addr, stop := startExplicit(t, e)
	c := send(t, addr, "CONNECT 192.0.2.9:443 HTTP/1.1\r\nHost: x\r\n\r\n")
	if b, err := io.ReadAll(c); string(b) != established || err != nil {
		t.Errorf("a tunnel that panics: got %q, %v", b, err)
	}
	c = send(t, addr, "CONNECT 192.0.2.7:443 HTTP/1.1\r\nHost: x\r\n\r\n")
	<-entered
	stopped := make(chan struct{})
	go func() {
		stop()
		close(stopped)
	}()
	// The tunnel lives on and Serve waits for it.
	io.WriteString(c, "still here")
	c.CloseWrite()
	if b, err := io.ReadAll(c); string(b) != established+"still here" {
		t.Errorf("got %q, %v", b, err)
	}
	<-stopped
	if !drained {
		t.Error("Serve did not wait for the tunnel")
	}
	if !strings.Contains(log.String(), "panic=tunnel") {
		t.Errorf("log: %s", log)
	}
}

func TestExplicitBrokenListener(t *testing.T) {
	captureLog(t)
	ln := &scriptListener{script: []any{io.ErrUnexpectedEOF}, closed: make(chan struct{})}
	if err := NewExplicit(ExplicitConfig{}).Serve(t.Context(), ln); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v", err)
	}
	select {
	case <-ln.closed:
	default:
		t.Error("the listener is still open")
	}
}

func TestExplicitLimitsHead(t *testing.T) {
	e := NewExplicit(ExplicitConfig{Resolver: testHosts})
	addr, _ := startExplicit(t, e)
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	// The answer may come before all is sent, and with a reset.
	go io.Copy(c, io.MultiReader(strings.NewReader("CONNECT chat.example:443 HTTP/1.1\r\nHost: x\r\nA: "), bytes.NewReader(bytes.Repeat([]byte("a"), maxHead*2))))
	b := make([]byte, 100)
	n, _ := io.ReadAtLeast(c, b, 12)
	if got := string(b[:n]); !strings.HasPrefix(got, "HTTP/1.1 431") {
		t.Errorf("got %q", got)
	}
}
