package endtoend

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"

	"framegate/audit"
	"framegate/internal/lab/clients"
)

// TestPinned: an application with trust of its own, on a device that has the
// root, is left alone after a while, if the configuration says so.
func TestPinned(t *testing.T) {
	s := newSite(t, settings{})
	config, err := os.ReadFile(s.path("framegate.toml"))
	if err != nil {
		t.Fatal(err)
	}
	s.write(t, "framegate.toml", strings.Replace(string(config), "[tls]\n", "[tls]\npinned = \"bypass\"\n", 1))
	g := s.start(t)

	device := tls.Client(s.tcp(t, "tcp4", chatHost), clients.Trust(g.roots, "v4."+chatHost))
	if status := get(t, device, "v4."+chatHost); status != http.StatusOK {
		t.Errorf("status %d", status)
	}
	device.Close()

	for i := range 4 {
		c := s.tcp(t, "tcp4", chatHost)
		err := tls.Client(c, clients.Trust(s.pki.Roots(), chatHost)).Handshake()
		c.Close()
		if l := g.log.of(t, c.LocalAddr()); i == 3 {
			if l.ended(t, audit.StateBypassed, "client-pinned"); err != nil {
				t.Errorf("client: %v", err)
			}
		} else if end := l.ended(t, audit.StateFailed); err == nil || !strings.HasPrefix(end.Reason, "client-pinned: ") {
			t.Errorf("client: %v, %s", err, end)
		}
	}
}

// testFronting: a request for another host than its connection is for, by TLS
// and behind a CONNECT without.
func testFronting(t *testing.T, g *gateway) {
	for name, c := range map[string]net.Conn{
		"tls":     tls.Client(g.tcp(t, "tcp4", chatHost), clients.Trust(g.roots, chatHost)),
		"connect": dialTunnel(t, g, chatHost+":80"),
	} {
		if status := get(t, c, "v4."+chatHost); status != http.StatusMisdirectedRequest {
			t.Errorf("%s: status %d", name, status)
		}
		l := g.log.of(t, c.LocalAddr())
		if r := l.one(t, audit.HTTPRequest); r.Code != 421 || r.Action != "block" || !strings.HasPrefix(r.Reason, "fronting: ") || r.Host != "v4."+chatHost {
			t.Errorf("%s: %s", name, r)
		}
		c.Close()
		l.ended(t, audit.StateBlocked)
	}
}

// dialTunnel connects the client to target by the explicit proxy.
func dialTunnel(t *testing.T, g *gateway, target string) net.Conn {
	t.Helper()
	ctx := soon(t)
	c, err := g.dialer()(ctx, "tcp4", g.proxyAddress("tcp4"))
	if err != nil {
		t.Fatal(err)
	}
	deadline, _ := ctx.Deadline()
	c.SetDeadline(deadline)
	t.Cleanup(func() { c.Close() })
	return &tunnelConn{TCPConn: c.(*net.TCPConn), head: "CONNECT " + target + " HTTP/1.1\r\nHost: " + target + "\r\n\r\n"}
}

// get makes a request for a host on c and returns the status of the answer.
func get(t *testing.T, c net.Conn, host string) int {
	t.Helper()
	io.WriteString(c, "GET /plain HTTP/1.1\r\nHost: "+host+"\r\nConnection: close\r\n\r\n")
	answer, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	return answer.StatusCode
}
