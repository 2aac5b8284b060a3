package intercept

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// relayRole is a gateway in mode tproxy that joins each client to the server
// that it wanted. What keeps it from that, it tells the client.
func relayRole(arg []byte) error {
	var addr string
	if err := json.Unmarshal(arg, &addr); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	ln, err := lc.Listen(ctx, "tcp", addr)
	if err == nil {
		ln, err = Inherit(ln) // as of systemd, without Transparent=yes
	}
	if err != nil {
		return err
	}
	if err := Transparent(ln); err != nil {
		return err
	}
	fmt.Println("ready")
	go untilEOF(cancel)
	dialer := Dialer(mark)
	return Serve(ctx, ln, LocalDst(ln.Addr()), KeepSource(func(ctx context.Context, c net.Conn, dst netip.AddrPort) {
		defer c.Close()
		dialing, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		up, err := dialer.DialContext(dialing, "tcp", dst.String())
		if err != nil {
			fmt.Fprintln(c, "relay:", err)
			return
		}
		defer up.Close()
		defer context.AfterFunc(ctx, func() { c.Close(); up.Close() })()
		go func() {
			io.Copy(up, c)
			up.(*net.TCPConn).CloseWrite()
		}()
		io.Copy(c, up)
	}))
}

// quit is a line at which the witness hangs up.
const quit = "quit\n"

// witnessRole is a server that says where it was reached, and from where, and
// then is an echo of lines.
func witnessRole([]byte) error {
	ctx := context.Background()
	for _, addr := range []string{":443", ":8080"} {
		ln, err := Listen(ctx, addr)
		if err != nil {
			return err
		}
		local := func(c net.Conn) (netip.AddrPort, error) { return netip.ParseAddrPort(c.LocalAddr().String()) }
		go Serve(ctx, ln, local, func(_ context.Context, c net.Conn, dst netip.AddrPort) {
			defer c.Close()
			fmt.Fprintln(c, dst, c.RemoteAddr())
			r := bufio.NewReader(c)
			for {
				line, err := r.ReadString('\n')
				if err != nil || line == quit {
					return
				}
				io.WriteString(c, line)
			}
		})
	}
	fmt.Println("ready")
	untilEOF(func() {}) // not until its connections end: some have lost their client
	return nil
}

// A talkArg says what clients of the witness do.
type talkArg struct {
	Addr string
	// Conns are open at once; 0 is one.
	Conns int
	// Clash opens one connection more, from the port that the gateway uses for
	// the first.
	Clash bool
	// Again opens as many connections one after the other, all from one port.
	Again int
	// Abort ends each of those with a RST.
	Abort bool
}

// A talked is what came of it.
type talked struct {
	Clients []string // local addresses
	Seen    []string // what the witness said
	Resent  uint32   // segments sent again until the witness had spoken
}

func talkRole(arg []byte) error {
	var a talkArg
	if err := json.Unmarshal(arg, &a); err != nil {
		return err
	}
	var all talked
	var open []*talker
	dial := func(port uint16) (*talker, error) {
		t, err := dialTalker(a.Addr, port)
		if err == nil {
			open = append(open, t)
			all.Clients = append(all.Clients, t.LocalAddr().String())
			all.Seen = append(all.Seen, t.seen)
			all.Resent += t.resent
		}
		return t, err
	}
	finish := func() error {
		for _, t := range open {
			if err := t.say(200_000); err != nil {
				return err
			}
		}
		for _, t := range open {
			if err := t.end(a.Abort); err != nil {
				return err
			}
		}
		open = nil
		return nil
	}
	port := uint16(0)
	for range max(a.Again, 1) {
		for range max(a.Conns, 1) {
			t, err := dial(port)
			if err != nil {
				return err
			}
			if a.Again > 0 {
				port = netip.MustParseAddrPort(t.LocalAddr().String()).Port()
			}
		}
		if a.Clash {
			// One kernel numbers the bytes of both alike, two would not: only
			// after many is the first out of the window of the second.
			for range 32 {
				if err := open[0].say(1 << 20); err != nil {
					return err
				}
			}
			_, from, _ := strings.Cut(open[0].seen, " ")
			used, err := netip.ParseAddrPort(from)
			if err != nil {
				return err
			}
			if _, err := dial(used.Port()); err != nil {
				return fmt.Errorf("from the gateway's port: %w", err)
			}
		}
		if err := finish(); err != nil {
			return err
		}
	}
	return json.NewEncoder(os.Stdout).Encode(all)
}

// A talker is a connection to the witness.
type talker struct {
	*net.TCPConn
	r      *bufio.Reader
	seen   string
	resent uint32
}

func dialTalker(addr string, port uint16) (*talker, error) {
	d := net.Dialer{Timeout: 10 * time.Second, LocalAddr: &net.TCPAddr{Port: int(port)}, Control: func(_, _ string, rc syscall.RawConn) error {
		return control(rc, func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) })
	}}
	c, err := d.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	c.SetDeadline(time.Now().Add(20 * time.Second))
	t := &talker{TCPConn: c.(*net.TCPConn), r: bufio.NewReader(c)}
	if t.seen, err = t.r.ReadString('\n'); err != nil {
		return nil, err
	}
	t.seen = strings.TrimSpace(t.seen)
	rc, err := t.SyscallConn()
	if err != nil {
		return nil, err
	}
	return t, control(rc, func(fd int) error {
		info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		if err == nil {
			t.resent = info.Total_retrans
		}
		return err
	})
}

// holdRole is a client of the witness that says nothing until its input ends.
func holdRole(arg []byte) error {
	var addr string
	if err := json.Unmarshal(arg, &addr); err != nil {
		return err
	}
	t, err := dialTalker(addr, 0)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	untilEOF(func() {})
	err = t.say(10)
	fmt.Fprintln(os.Stderr, "said:", err)
	if err == nil {
		err = t.end(false)
	}
	return err
}

// say has lines echoed, one of them of size bytes.
func (t *talker) say(size int) error {
	for _, line := range []string{"hello\n", strings.Repeat("x", size) + "\n", "bye\n"} {
		go io.WriteString(t, line)
		got, err := t.r.ReadString('\n')
		if err != nil {
			return err
		}
		if got != line {
			return fmt.Errorf("an echo of %d bytes, want %d", len(got), len(line))
		}
	}
	return nil
}

// end closes the connection, after the gateway unless it aborts.
func (t *talker) end(abort bool) error {
	if abort {
		t.SetLinger(0)
		return t.Close()
	}
	if _, err := io.WriteString(t, quit); err != nil {
		return err
	}
	io.Copy(io.Discard, t.r)
	return t.Close()
}
