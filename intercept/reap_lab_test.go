package intercept

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"framegate/audit"
	testnet "framegate/internal/lab"
	"framegate/mitm"
	trust "framegate/mitm/chain"
	"framegate/policy"
)

// reapRole is a gateway for WebSockets without TLS that gives up dead peers after
// seconds, in the ratios of the real one, and prints how connections end.
func reapRole([]byte) error {
	keepAlive.Idle, keepAlive.Interval, keepAlive.Count = time.Second, time.Second, 1
	userTimeout = 2 * time.Second
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ln, err := Listen(ctx, ":8443")
	if err != nil {
		return err
	}
	rules, err := policy.Parse("reap.toml", nil)
	if err != nil {
		return err
	}
	settings := &mitm.Settings{Level: audit.Connections, Dialer: Dialer(0x4647)}
	proxy := &mitm.Proxy{
		Policy: func() *policy.Policy { return rules }, Trust: func() *trust.Trust { return new(trust.Trust) },
		Settings: func() *mitm.Settings { return settings }, Audit: printer{}, Log: slog.New(slog.DiscardHandler),
	}
	fmt.Println("ready")
	go untilEOF(cancel)
	return Serve(ctx, ln, OriginalDst, proxy.ServeConn)
}

// A reaped is what is printed of a record.
type reaped struct{ Event, Client, Reason string }

// printer is an audit log on standard output.
type printer struct{}

func (printer) Record(events ...audit.Event) error {
	for _, e := range events {
		b, err := json.Marshal(reaped{e.Event, e.Client.String(), e.Reason})
		if err != nil {
			return err
		}
		fmt.Println(string(b))
	}
	return nil
}

func (printer) Close() error { return nil }

// A tie is an open WebSocket between a client and a server of the lab.
type tie struct{ client, server *net.TCPConn }

// ask is an upgrade, answer the only answer to it; message is one that either
// side may send, as far as this test goes: masked, with a key of zeros, or not.
const (
	ask = "GET /%s HTTP/1.1\r\nHost: chat.demo.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
	answer = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
	toServer = "\x81\x82\x00\x00\x00\x00hi"
	toClient = "\x81\x02hi"
)

func (p *tie) say(t *testing.T, from, to net.Conn, m string) {
	t.Helper()
	b := make([]byte, len(m))
	to.SetReadDeadline(time.Now().Add(reapPatience))
	if _, err := io.WriteString(from, m); err != nil {
		t.Error(err)
	} else if _, err := io.ReadFull(to, b); err != nil || string(b) != m {
		t.Errorf("%q (%v), expected %q", b, err, m)
	}
}

// reapPatience is after how long something is taken not to come at all.
const reapPatience = 30 * time.Second

// TestReap: a peer whose packets are lost is given up, whether it was silent, had
// something to acknowledge or had shut its window before. The other side sees a
// reset, and there is a record. Connections whose peers live stay, idle as they
// are, and so does one whose peer takes nothing for longer than all timeouts.
func TestReap(t *testing.T) {
	n, err := testnet.Up(t.Context(), testnet.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Down(); err != nil {
			t.Error(err)
		}
	})
	records := startReaper(t, n)
	open := listenTies(t, n)

	ends := []struct {
		name string
		dead testnet.Place             // whose packets are lost; testnet.Gateway: nobody's
		act  func(p *tie) error        // after which that peer has something to do, or not
		live func(p *tie) *net.TCPConn // who has to be told, if act was not
	}{
		{"a silent client", testnet.Client, silence, (*tie).ofServer},
		{"a client that does not acknowledge", testnet.Client, (*tie).fromServer, (*tie).ofServer},
		{"a silent server", testnet.Server, silence, (*tie).ofClient},
		{"a server that does not acknowledge", testnet.Server, (*tie).fromClient, (*tie).ofClient},
		{"a client that had shut its window", testnet.Gateway, func(p *tie) error {
			if _, err := p.flood(); !errors.Is(err, os.ErrDeadlineExceeded) {
				return err
			}
			p.lose(t, n, testnet.Client)
			return nil
		}, (*tie).ofServer},
	}
	live := []*tie{open(t, "tcp4", "live4"), open(t, "tcp6", "live6")}
	paused := []*tie{open(t, "tcp4", "paused4"), open(t, "tcp6", "paused6")}
	ties := make([]*tie, len(ends))
	for i, e := range ends {
		ties[i] = open(t, []string{"tcp4", "tcp6"}[i%2], fmt.Sprint("end", i))
		ties[i].lose(t, n, e.dead)
	}
	begun := time.Now()
	var all sync.WaitGroup
	for i, e := range ends {
		all.Go(func() {
			p := ties[i]
			err := e.act(p)
			if err == nil {
				told := e.live(p)
				told.SetReadDeadline(time.Now().Add(reapPatience))
				_, err = io.Copy(io.Discard, told)
			}
			if !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("%s: the other side sees %v, expected a reset", e.name, err)
			}
			t.Logf("%s: given up after %v", e.name, time.Since(begun).Round(100*time.Millisecond))
			closed := records.wait(t, audit.WSClose, p.client.LocalAddr())
			if closed == nil || !strings.Contains(closed.Reason, "connection timed out") {
				t.Errorf("%s: ws.close is %v", e.name, closed)
			}
			if records.wait(t, audit.ConnClose, p.client.LocalAddr()) == nil {
				t.Errorf("%s: no conn.close", e.name)
			}
		})
	}
	for _, p := range paused {
		all.Go(func() { p.pause(t) })
	}
	all.Wait()
	for _, p := range append(live, paused...) {
		p.say(t, p.client, p.server, toServer)
		p.say(t, p.server, p.client, toClient)
		if e := records.of(audit.ConnClose, p.client.LocalAddr()); e != nil {
			t.Errorf("a live connection was closed: %v", e)
		}
	}
}

func silence(*tie) error { return nil }

func (p *tie) fromClient() error {
	_, err := io.WriteString(p.client, toServer)
	return err
}

func (p *tie) fromServer() error {
	_, err := io.WriteString(p.server, toClient)
	return err
}

func (p *tie) ofClient() *net.TCPConn { return p.client }
func (p *tie) ofServer() *net.TCPConn { return p.server }

// flooding is a message of a server, and floodTime longer than a gateway of
// reapRole waits for anybody who is dead.
var flooding = append([]byte("\x82\x7e\xff\xff"), make([]byte, 0xffff)...)

const floodTime = 3500 * time.Millisecond

// flood sends to a client, which does not read, more than all sockets hold, and
// returns how much of it they did, and how that ended.
func (p *tie) flood() (sent int, err error) {
	p.server.SetWriteDeadline(time.Now().Add(floodTime))
	for {
		n, err := p.server.Write(flooding)
		if sent += n; err != nil {
			return sent, err
		}
	}
}

// pause has a client take nothing for the time of a flood, and then all of it.
func (p *tie) pause(t *testing.T) {
	sent, err := p.flood()
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a client that pauses: %v", err)
		return
	}
	p.server.SetWriteDeadline(time.Now().Add(reapPatience))
	p.client.SetReadDeadline(time.Now().Add(reapPatience))
	rest := flooding[sent%len(flooding):]
	go p.server.Write(rest)
	if n, err := io.CopyN(io.Discard, p.client, int64(sent+len(rest))); err != nil {
		t.Errorf("after a pause %d bytes of %d came: %v", n, sent+len(rest), err)
	}
}

// lose drops all packets of a tie in the namespace of one of its peers.
func (p *tie) lose(t *testing.T, n *testnet.Net, place testnet.Place) {
	t.Helper()
	c := p.client
	switch place {
	case testnet.Gateway:
		return
	case testnet.Server:
		c = p.server
	}
	own, other := c.LocalAddr().(*net.TCPAddr), c.RemoteAddr().(*net.TCPAddr)
	command := "iptables"
	if own.IP.To4() == nil {
		command = "ip6tables"
	}
	for _, rule := range [][]any{
		{"-A", "OUTPUT", "-p", "tcp", "--sport", own.Port, "--dport", other.Port, "-j", "DROP"},
		{"-A", "INPUT", "-p", "tcp", "--sport", other.Port, "--dport", own.Port, "-j", "DROP"},
	} {
		args := []string{"-w"}
		for _, a := range rule {
			args = append(args, fmt.Sprint(a))
		}
		if out, err := n.Command(t.Context(), place, command, args...).CombinedOutput(); err != nil {
			t.Fatalf("%s %v: %v\n%s", command, args, err, out)
		}
	}
}

// listenTies starts the server, and returns what opens a WebSocket.
func listenTies(t *testing.T, n *testnet.Net) func(t *testing.T, network, path string) *tie {
	t.Helper()
	ln, err := n.Listen(t.Context(), testnet.Server, "tcp", ":80")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return func(t *testing.T, network, path string) *tie {
		t.Helper()
		c, err := n.Dial(t.Context(), testnet.Client, network, "chat.demo.test:80")
		if err != nil {
			t.Fatal(err)
		}
		p := &tie{client: c.(*net.TCPConn)}
		t.Cleanup(func() { p.client.Close() })
		// What the client's system would keep back for it is to be small.
		p.client.SetReadBuffer(16 << 10)
		fmt.Fprintf(p.client, ask, path)
		s, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		p.server = s.(*net.TCPConn)
		t.Cleanup(func() { p.server.Close() })
		// They leave it to the gateway to find out.
		p.client.SetKeepAlive(false)
		p.server.SetKeepAlive(false)
		if _, err := http.ReadRequest(bufio.NewReader(p.server)); err != nil {
			t.Fatal(err)
		}
		p.say(t, p.server, p.client, answer)
		p.say(t, p.client, p.server, toServer)
		return p
	}
}

// A registry has the records of the gateway.
type registry struct {
	mu      sync.Mutex
	list    []reaped
	changed chan struct{}
}

// startReaper runs reapRole in the gateway, with the rules that lead to it.
func startReaper(t *testing.T, n *testnet.Net) *registry {
	t.Helper()
	role := func(name string, arg any) (env []string) {
		b, err := json.Marshal(arg)
		if err != nil {
			t.Fatal(err)
		}
		return append(os.Environ(), envRole+"="+name, envArg+"="+string(b))
	}
	up := n.Command(t.Context(), testnet.Gateway, os.Args[0])
	up.Env = role("redirect", redirectArg{"up", Rules{ListenPort: 8443, Interfaces: []string{testnet.ClientLink}, Mark: 0x4647}})
	if out, err := up.CombinedOutput(); err != nil || !strings.HasPrefix(string(out), "ok") {
		t.Fatalf("redirect up: %v\n%s", err, out)
	}
	cmd := n.Command(context.Background(), testnet.Gateway, os.Args[0])
	cmd.Env = role("reap", nil)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdin, _ := cmd.StdinPipe()
	stdout, _ := cmd.StdoutPipe()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stdout)
	if !lines.Scan() || lines.Text() != "ready" {
		t.Fatalf("not ready: %q %s", lines.Text(), stderr.String())
	}
	r := &registry{changed: make(chan struct{})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for lines.Scan() {
			var e reaped
			if json.Unmarshal(lines.Bytes(), &e) == nil {
				r.add(e)
			}
		}
	}()
	t.Cleanup(func() {
		stdin.Close()
		<-done
		cmd.Wait()
	})
	return r
}

func (r *registry) add(e reaped) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append(r.list, e)
	close(r.changed)
	r.changed = make(chan struct{})
}

// of returns the record of an event of the connection of a client, or nil.
func (r *registry) of(event string, client net.Addr) *reaped {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.list {
		if e.Event == event && e.Client == client.String() {
			return &e
		}
	}
	return nil
}

// wait waits for that record.
func (r *registry) wait(t *testing.T, event string, client net.Addr) *reaped {
	t.Helper()
	late := time.After(reapPatience)
	for {
		r.mu.Lock()
		changed := r.changed
		r.mu.Unlock()
		if e := r.of(event, client); e != nil {
			return e
		}
		select {
		case <-changed:
		case <-late:
			return nil
		}
	}
}
