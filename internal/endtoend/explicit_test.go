package endtoend

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os/exec"
	"strings"
	"testing"

	"framegate/audit"
	"framegate/internal/lab"
	"framegate/internal/lab/clients"
	"framegate/internal/lab/origin"
)

// proxyAddress is the gateway's explicit proxy as the client sees it.
func (s *site) proxyAddress(network string) string {
	return netip.AddrPortFrom(s.Addr(lab.Gateway, network == "tcp6"), 8080).String()
}

// testExplicit: a client that is configured to use the proxy gets what a
// redirected one gets, by CONNECT and by an absolute URL.
func testExplicit(t *testing.T, g *gateway) {
	for _, network := range families {
		proxy := &url.URL{Scheme: "http", Host: g.proxyAddress(network)}
		t.Run("https "+network, func(t *testing.T) {
			b := newBrowser(t, g.site, network, proxy)
			useWeb(t, b, "https://"+chatHost)
			l := b.done(t, g)
			checkRequests(t, l)
			l.ended(t, audit.StateInspected)
			checkDestination(t, g, l, 443)
		})
		t.Run("http "+network, func(t *testing.T) {
			b := newBrowser(t, g.site, network, proxy)
			if answer, body := b.get(t, "GET", "http://"+chatHost+"/plain?by=proxy", nil); body != origin.PlainText || answer.Header.Get("Etag") != `"lab-1"` {
				t.Errorf("%v %q", answer, body)
			}
			l := b.done(t, g)
			if r := l.one(t, audit.HTTPRequest); r.Code != 200 || r.Path != "/plain" || r.Host != chatHost {
				t.Errorf("http.request: %s", r)
			}
			l.ended(t, audit.StateInspected)
			checkDestination(t, g, l, 80)
		})
		for _, secure := range []bool{true, false} {
			scheme, port := "ws", "80"
			options := clients.RawOptions{Network: network, Address: g.proxyAddress(network)}
			if secure {
				scheme, port, options.TLS = "wss", "443", clients.Trust(g.roots, chatHost)
			}
			t.Run(scheme+" "+network, func(t *testing.T) {
				options.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
					tcp, err := g.dialer()(ctx, network, address)
					return &tunnelConn{TCPConn: tcp.(*net.TCPConn), head: "CONNECT " + chatHost + ":" + port + " HTTP/1.1\r\nHost: " + chatHost + "\r\n\r\n"}, err
				}
				c, err := clients.DialRaw(soon(t), options)
				if err != nil {
					t.Fatal(err)
				}
				defer c.Cut()
				checkDestination(t, g, talk(t, g, c, chatHost, "/echo?explicit="+scheme+network), map[string]uint16{"ws": 80, "wss": 443}[scheme])
			})
		}
	}
}

// checkDestination checks that a connection by the proxy went to the host.
func checkDestination(t *testing.T, g *gateway, l ledger, port uint16) {
	t.Helper()
	got := l[len(l)-1].Server
	for _, a := range g.Lookup(chatHost) {
		if got == netip.AddrPortFrom(a, port).String() {
			return
		}
	}
	t.Errorf("destination %s, expected %s", got, chatHost)
}

// A tunnelConn sends the head of a CONNECT and what follows it in one write,
// and takes the answer off what it reads.
type tunnelConn struct {
	*net.TCPConn
	head string        // not sent yet
	r    *bufio.Reader // nil until the answer was read
}

func (c *tunnelConn) Write(b []byte) (int, error) {
	head := c.head
	c.head = ""
	n, err := c.TCPConn.Write(append([]byte(head), b...))
	return max(0, n-len(head)), err
}

func (c *tunnelConn) Read(b []byte) (int, error) {
	if c.r == nil {
		c.r = bufio.NewReader(c.TCPConn)
		answer, err := http.ReadResponse(c.r, &http.Request{Method: http.MethodConnect})
		if err != nil {
			return 0, err
		}
		if answer.StatusCode != http.StatusOK {
			return 0, &url.Error{Op: "CONNECT", URL: chatHost, Err: io.ErrClosedPipe}
		}
	}
	return c.r.Read(b)
}

// testExplicitCurl: so does somebody else's client, where it is installed.
func testExplicitCurl(t *testing.T, g *gateway) {
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Log("no curl here; net/http stands for it in the other tests")
		return
	}
	for _, network := range families {
		for _, scheme := range []string{"http", "https"} {
			out, err := g.Command(soon(t), lab.Client, curl, "--silent", "--show-error", "--cacert", g.path("root.pem"), "--noproxy", "",
				"--proxy", "http://"+g.proxyAddress(network), scheme+"://"+chatHost+"/plain").CombinedOutput()
			if err != nil || string(out) != origin.PlainText {
				t.Errorf("%s by %s: %q (%v)", scheme, network, out, err)
			}
		}
	}
}

// testExplicitLimits: the proxy is no way to other ports, to the gateway itself
// or to what only the gateway can reach.
func testExplicitLimits(t *testing.T, g *gateway) {
	own4, own6 := g.Addr(lab.Gateway, false).String(), g.Addr(lab.Gateway, true).String()
	for _, tt := range []struct {
		request, reason string
		status          int
	}{
		{"CONNECT " + chatHost + ":22", "port 22 is not allowed", 403},
		{"CONNECT " + chatHost + ":8443", "port 8443 is not allowed", 403},
		{"CONNECT " + chatHost, "CONNECT needs host:port", 400},
		{"CONNECT 127.0.0.1:443", "address 127.0.0.1 is not allowed", 403},
		{"CONNECT [::1]:443", "address ::1 is not allowed", 403},
		{"CONNECT [::ffff:127.0.0.1]:443", "address 127.0.0.1 is not allowed", 403},
		{"CONNECT localhost:443", "is not allowed", 403},
		{"CONNECT 169.254.169.254:80", "address 169.254.169.254 is not allowed", 403},
		{"CONNECT 0.0.0.0:80", "address 0.0.0.0 is not allowed", 403},
		{"CONNECT " + own4 + ":443", "is the gateway's own", 403},
		{"CONNECT [" + own6 + "]:443", "is the gateway's own", 403},
		{"CONNECT nowhere.demo.test:443", "cannot look up the host", 502},
		{"GET http://127.0.0.1/", "address 127.0.0.1 is not allowed", 403},
		{"GET http://" + own4 + "/", "is the gateway's own", 403},
		{"GET http://" + chatHost + ":9470/", "port 9470 is not allowed", 403},
		{"GET https://" + chatHost + "/", "expected CONNECT or an absolute http:// URL", 400},
		{"GET /plain", "this is a proxy", 400},
		{"GET http://" + blockedHost + "/plain", "blocked by policy", 403},
	} {
		t.Run(tt.request, func(t *testing.T) {
			ctx := soon(t)
			c, err := g.dialer()(ctx, "tcp4", g.proxyAddress("tcp4"))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			deadline, _ := ctx.Deadline()
			c.SetDeadline(deadline)
			io.WriteString(c, tt.request+" HTTP/1.1\r\nHost: "+chatHost+"\r\nConnection: close\r\n\r\n")
			answer, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer answer.Body.Close()
			if body, err := io.ReadAll(answer.Body); answer.StatusCode != tt.status || !strings.Contains(string(body), tt.reason) {
				t.Errorf("%s: %q (%v)", answer.Status, body, err)
			}
		})
	}
}
