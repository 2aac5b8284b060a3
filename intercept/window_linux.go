package intercept

import (
	"net"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// TCP_USER_TIMEOUT ends a peer that acknowledges but keeps its window shut, just as
// one that is gone (tcp_probe_timer in Linux's net/ipv4/tcp_timer.c). That is not
// for us to do: "As long as the receiving TCP peer continues to send acknowledgments
// in response to the probe segments, the sending TCP peer MUST allow the connection
// to stay open" (RFC 9293, Section 3.8.6.1). An application that pauses for an hour
// is not dead, and would have kept its connection without us. So the connections
// that stand still by their window alone are looked for, and have no user timeout
// while they do.
//
// A windows knows all connections, also for some time those that are closed. The
// zero windows is ready.
type windows struct {
	mu    sync.Mutex
	shut  map[syscall.RawConn]bool // whether its window is, and it has no user timeout
	timer *time.Timer              // of look, while there are any
}

var allWindows windows

// windowLooks is how many looks there are in a user timeout.
const windowLooks = 10

// add begins to look after a connection. Of the others it tries two, so that
// there are never many more than are open, however fast they come and go.
func (w *windows) add(rc syscall.RawConn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.shut == nil {
		w.shut = make(map[syscall.RawConn]bool)
	}
	tried := 0
	for old := range w.shut { // in any order
		if old.Control(func(uintptr) {}) != nil {
			delete(w.shut, old)
		}
		if tried++; tried == 2 {
			break
		}
	}
	w.shut[rc] = false
	if w.timer == nil {
		w.timer = time.AfterFunc(userTimeout/windowLooks, w.look)
	}
}

// look sets the user timeout of each connection as its window wants it.
func (w *windows) look() {
	type known struct {
		rc   syscall.RawConn
		shut bool
	}
	w.mu.Lock()
	list := make([]known, 0, len(w.shut))
	for rc, shut := range w.shut {
		list = append(list, known{rc, shut})
	}
	w.mu.Unlock()
	var changed []known
	var closed []syscall.RawConn
	for _, k := range list {
		now := k.shut
		if k.rc.Control(func(fd uintptr) { now = keepsShut(int(fd), k.shut) }) != nil {
			closed = append(closed, k.rc)
		} else if now != k.shut {
			changed = append(changed, known{k.rc, now})
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, k := range changed {
		if _, ok := w.shut[k.rc]; ok { // add has not found it closed meanwhile
			w.shut[k.rc] = k.shut
		}
	}
	for _, rc := range closed {
		delete(w.shut, rc)
	}
	if w.timer = nil; len(w.shut) > 0 {
		w.timer = time.AfterFunc(userTimeout/windowLooks, w.look)
	}
}

// keepsShut reports whether the peer of fd lives and keeps its window shut, and
// takes the user timeout away if so, or gives it back.
func keepsShut(fd int, before bool) (now bool) {
	// Bytes that were not acknowledged or not sent, tcp(7): nearly always none.
	if n, err := unix.IoctlGetInt(fd, unix.SIOCOUTQ); err == nil && n > 0 {
		// It is the window that keeps them if there is none, or none of them is on the
		// way. A live peer is heard of then every two minutes at least, since it is
		// probed (TCP_RTO_MAX). Before Linux 5.4 the window is not told and looks shut,
		// which has a dead peer found some seconds later.
		i, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		now = err == nil && (i.Snd_wnd == 0 || i.Unacked == 0) && time.Duration(i.Last_ack_recv)*time.Millisecond < userTimeout
	}
	if now == before {
		return now
	}
	timeout := userTimeout
	if now {
		timeout = 0
	}
	if setUserTimeout(fd, timeout) != nil {
		return before
	}
	return now
}

// A listener looks after the windows of what it accepts.
type listener struct{ *net.TCPListener }

func (l listener) Accept() (net.Conn, error) {
	c, err := l.AcceptTCP()
	if err != nil {
		return nil, err
	}
	if rc, err := c.SyscallConn(); err == nil {
		allWindows.add(rc)
	}
	return c, nil
}
