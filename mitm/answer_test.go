package mitm

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"framegate/audit"
	"framegate/mitm/chain"
)

// lines returns the fields of a head, sorted.
func lines(head string) []string {
	list := strings.Split(strings.TrimSuffix(head, "\r\n\r\n"), "\r\n")
	slices.Sort(list[1:])
	return list
}

func TestHeaders(t *testing.T) {
	const request = "GET / HTTP/1.1\r\nHost: Origin.TEST:80\r\nCookie: a=b\r\nCookie: c=d\r\nX-Odd:  two  words \r\nAccept: */*\r\n" +
		"Connection: X-Hop, keep-alive\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nTe: trailers\r\nUpgrade: h2c\r\nHttp2-Settings: AAA\r\n\r\n"
	const reply = "HTTP/1.1 200 Fine\r\nContent-Length: 2\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nX-Empty: \r\n" +
		"Connection: X-Hop2, Upgrade\r\nX-Hop2: 1\r\nUpgrade: h2c\r\nKeep-Alive: timeout=5\r\n\r\nok"
	o := answering(t, nil, func(*http.Request) string { return reply })
	g := newGateway(t, o.addr, "")
	c := g.dial()
	send(t, c, request)
	head, err := readRawHead(c)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, c, "ok")
	want := []string{"HTTP/1.1 200 OK", "Content-Length: 2", "Set-Cookie: a", "Set-Cookie: b", "X-Empty: "}
	if got := lines(head); !slices.Equal(got, want) {
		t.Errorf("the client got %q, want %q", got, want)
	}
	want = []string{"GET / HTTP/1.1", "Accept: */*", "Cookie: a=b", "Cookie: c=d", "Host: Origin.TEST:80", "X-Odd: two  words"}
	if got := lines(o.received()); !slices.Equal(got, want) {
		t.Errorf("the server got %q, want %q", got, want)
	}
}

// A client of HTTP/1.0 that names no host gets the one that its address stands for.
func TestHTTP10(t *testing.T) {
	o := answering(t, nil, func(r *http.Request) string {
		return "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
	})
	g := newGateway(t, o.addr, "")
	c := g.dial()
	send(t, c, "GET / HTTP/1.0\r\n\r\n")
	if got := readAll(t, c); !strings.HasSuffix(got, "\r\n\r\nhello") || strings.Contains(got, "chunked") {
		t.Errorf("%q", got)
	}
	if got := lines(o.received()); !slices.Equal(got, []string{"GET / HTTP/1.1", "Connection: close", "Host: " + o.addr.String()}) {
		t.Errorf("the server got %q", got)
	}
}

func TestBadAnswers(t *testing.T) {
	for _, tt := range []struct{ name, reply string }{
		{"101", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"},
		{"099", "HTTP/1.1 099 Odd\r\nContent-Length: 0\r\n\r\n"},
		{"none", ""},
		{"no HTTP", "SSH-2.0-x\r\n"},
		{"CL twice", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"},
		{"too long", "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", maxHead) + "\r\n\r\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := answering(t, nil, func(*http.Request) string { return tt.reply })
			g := newGateway(t, o.addr, "")
			c := g.dial()
			if status, _ := get(t, c, originName); status != 502 {
				t.Errorf("status %d", status)
			}
			c.Close()
			if e := g.ended(1); e.State != audit.StateInspected {
				t.Errorf("%+v", e)
			}
			if list := g.ledger.of(audit.HTTPRequest); len(list) != 1 || list[0].Code != 502 || list[0].Reason == "" || list[0].Action != "" {
				t.Errorf("%s", g.ledger)
			}
		})
	}
}

func TestUnreachableServer(t *testing.T) {
	g := newGateway(t, unreachable(t), "")
	c := g.dial()
	if status, _ := get(t, c, originName); status != 502 {
		t.Errorf("status %d", status)
	}
	if list := g.ledger.wait(t, audit.HTTPRequest, 1); !strings.Contains(list[0].Reason, "refused") {
		t.Errorf("%+v", list)
	}
}

// A part of an answer never looks like the whole.
func TestAnswerBreaksOff(t *testing.T) {
	for _, scheme := range []string{"http", "https"} {
		for name, reply := range map[string]string{
			"length":  "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\npart",
			"chunked": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n",
			"framing": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\nzz\r\n",
		} {
			for _, version := range []string{"1.0", "1.1"} {
				t.Run(scheme+" "+name+" "+version, func(t *testing.T) {
					var config *tls.Config
					if scheme == "https" {
						config = secure("valid")
					}
					o := newOrigin(t, func(c *tap) {
						var conn net.Conn = c
						if config != nil {
							conn = tls.Server(c, config)
						}
						if _, err := http.ReadRequest(newReader(conn)); err == nil {
							io.WriteString(conn, reply)
						}
					})
					g := newGateway(t, o.addr, "")
					var c net.Conn = g.dial()
					if config != nil {
						c = tls.Client(c, g.trust(originName))
					}
					send(t, c, "GET / HTTP/"+version+"\r\nHost: "+originName+"\r\n\r\n")
					resp, err := http.ReadResponse(newReader(c), nil)
					if err == nil {
						_, err = io.ReadAll(resp.Body)
					}
					if err == nil {
						t.Error("the client sees a whole answer")
					}
					g.ended(1)
					if list := g.ledger.of(audit.HTTPRequest); len(list) != 1 || list[0].Code != 200 || list[0].Reason == "" || list[0].Action != "" {
						t.Errorf("%s", g.ledger)
					}
				})
			}
		}
	}
}

func TestClientGoesAway(t *testing.T) {
	started, gone := make(chan struct{}), make(chan struct{})
	bothSchemes(t, func(w http.ResponseWriter, r *http.Request) {
		started <- struct{}{}
		<-r.Context().Done()
		gone <- struct{}{}
		panic(http.ErrAbortHandler) // an answer might still overtake the end
	}, func(t *testing.T, g *gateway, url string) {
		var c net.Conn = g.dial()
		if strings.HasPrefix(url, "https") {
			c = tls.Client(c, g.trust(originName))
		}
		send(t, c, "GET / HTTP/1.1\r\nHost: "+originName+"\r\n\r\n")
		<-started
		c.Close()
		<-gone
		g.ended(1)
		if list := g.ledger.of(audit.HTTPRequest); len(list) != 1 || list[0].Reason != "the client went away" {
			t.Errorf("%s", g.ledger)
		}
	})
}

// A body that ends too early never becomes a whole request.
func TestClientGoesAwayInBody(t *testing.T) {
	got := make(chan error, 1)
	o := newHTTPOrigin(t, nil, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, err := io.Copy(io.Discard, r.Body)
		got <- err
	}))
	for i, head := range []string{"Content-Length: 10\r\n\r\nabc", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"} {
		g := newGateway(t, o.addr, "")
		c := g.dial()
		send(t, c, "POST / HTTP/1.1\r\nHost: a\r\n"+head)
		c.Close()
		if err := <-got; err == nil {
			t.Errorf("%d: the server has got a whole request", i)
		}
		g.ended(1)
	}
}

// A server may answer before it has got, or wants, all of the request.
func TestEarlyAnswer(t *testing.T) {
	o := newOrigin(t, func(c *tap) {
		readRawHead(c)
		io.WriteString(c, "HTTP/1.1 413 Too Much\r\nContent-Length: 3\r\nConnection: close\r\n\r\nno!")
		io.Copy(io.Discard, c)
	})
	g := newGateway(t, o.addr, "")
	c := g.dial()
	send(t, c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nsome")
	if status, body := answer(t, newReader(c)); status != 413 || body != "no!" {
		t.Errorf("%d %q", status, body)
	}
	c.Close()
	g.ended(1)
	if list := g.ledger.of(audit.HTTPRequest); len(list) != 1 || list[0].Code != 413 {
		t.Errorf("%s", g.ledger)
	}
}

// The policy is asked for each request, since a connection may be used for
// several names, and the policy may have changed.
func TestBlockedLater(t *testing.T) {
	var served atomic.Int32
	o := newHTTPOrigin(t, secure("valid"), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { served.Add(1) }))
	block := connectionRule("block", `host = ["www.`+originName+`"]`)

	g := newGateway(t, o.addr, block)
	c := g.dialTLS(g.trust(originName))
	if status, _ := get(t, c, originName); status != 200 {
		t.Errorf("status %d", status)
	}
	if status, body := get(t, c, "WWW."+originName+".:443"); status != 403 || !strings.HasPrefix(body, "framegate: ") {
		t.Errorf("status %d %q", status, body)
	}
	readAll(t, c)
	if e := g.ended(1); e.State != audit.StateBlocked || !slices.Equal(e.Rules, []string{"test"}) || e.Host != "www."+originName {
		t.Errorf("%+v", e)
	}
	if list := g.ledger.of(audit.HTTPRequest); len(list) != 2 || list[1].Code != 403 || list[1].Action != "block" {
		t.Errorf("%s", g.ledger)
	}

	g = newGateway(t, o.addr, "")
	c = g.dialTLS(g.trust("www." + originName))
	if status, _ := get(t, c, "www."+originName); status != 200 {
		t.Errorf("status %d", status)
	}
	g.reload(block)
	if status, _ := get(t, c, "www."+originName); status != 403 {
		t.Errorf("status %d after the reload", status)
	}
	if n := served.Load(); n != 2 {
		t.Errorf("the server has got %d requests, want 2", n)
	}
}

// From its first byte on, each head has the time of any phase, also where that
// byte came early.
func TestSlowLaterHead(t *testing.T) {
	t.Parallel()
	for _, pipelined := range []bool{false, true} {
		o := newHTTPOrigin(t, nil, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		g := newGateway(t, o.addr, "", briefly)
		c := g.dial()
		request, more := "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET / HTTP/1.1\r\nHo"
		if pipelined {
			request, more = request+more, ""
		}
		r := newReader(c)
		send(t, c, request)
		if status, _ := answer(t, r); status != 200 {
			t.Errorf("status %d", status)
		}
		send(t, c, more)
		if _, err := r.ReadByte(); err == nil || isTimeout(err) {
			t.Errorf("client: %v", err)
		}
		if e := g.ended(1); e.State != audit.StateFailed || e.Reason != "timeout" {
			t.Errorf("%+v", e)
		}
	}
}

// A server that closes after each answer is dialled and verified again.
func TestRedial(t *testing.T) {
	var bad atomic.Bool
	good, expired := originPKI().cert("valid"), originPKI().cert("expired")
	config := &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		if bad.Load() {
			return &expired, nil
		}
		return &good, nil
	}, SessionTicketsDisabled: true}
	o := newHTTPOrigin(t, config, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close")
	}))
	g := newGateway(t, o.addr, "")
	c := g.dialTLS(g.trust(originName))
	for range 3 {
		if status, _ := get(t, c, originName); status != 200 {
			t.Errorf("status %d", status)
		}
	}
	bad.Store(true)
	if status, _ := get(t, c, originName); status != 502 {
		t.Errorf("status %d with an expired certificate", status)
	}
	c.Close()
	g.ended(1)
	if n := len(o.conns()); n != 4 {
		t.Errorf("%d connections to the server, want 4", n)
	}
	if got := g.destinations(); !slices.Equal(got, []string{o.addr.String()}) {
		t.Errorf("dialled %v", got)
	}
	if list := g.ledger.of(audit.TLSFail); len(list) != 1 || !strings.HasPrefix(list[0].Reason, string(chain.Expired)+": ") {
		t.Errorf("%s", g.ledger)
	}
}

func TestGatewayStops(t *testing.T) {
	started := make(chan struct{})
	bothSchemes(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/long" {
			http.NewResponseController(w).Flush()
			close(started)
			<-r.Context().Done()
			started = make(chan struct{})
		}
	}, func(t *testing.T, g *gateway, url string) {
		resting := g.dial()
		if strings.HasPrefix(url, "http:") {
			if status, _ := get(t, resting, originName); status != 200 {
				t.Errorf("status %d", status)
			}
		}
		client := g.httpClient()
		resp, err := client.Get(url + "/long")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		g.stop()
		if _, err := io.ReadAll(resp.Body); err == nil {
			t.Error("the client sees a whole answer")
		}
		io.Copy(io.Discard, resting)
		g.ended(2)
	})
}

// What only net/http's server finds fault with is recorded all the same.
func TestEngineRefuses(t *testing.T) {
	g := newGateway(t, unreachable(t), "")
	c := g.dial()
	send(t, c, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: Content-Length\r\n\r\n0\r\n\r\n")
	if status, _ := answer(t, newReader(c)); status != 400 {
		t.Errorf("status %d", status)
	}
	c.Close()
	g.ended(1)
	if list := g.ledger.of(audit.HTTPRequest); len(list) != 1 || list[0].Code != 400 || list[0].Action != "block" || len(g.destinations()) > 0 {
		t.Errorf("%s", g.ledger)
	}
}

// An exchange that cannot be recorded does not end as if nothing had happened.
func TestUnrecordedExchange(t *testing.T) {
	full := errors.New("no space")
	var g *gateway
	o := newHTTPOrigin(t, nil, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g.ledger.fail.Store(&full)
		io.WriteString(w, "secret")
	}))
	g = newGateway(t, o.addr, "")
	c := g.dial()
	send(t, c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	if got, err := io.ReadAll(c); err == nil || strings.Contains(string(got), "secret") {
		t.Errorf("%q %v", got, err)
	}
}
