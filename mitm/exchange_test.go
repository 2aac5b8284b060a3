package mitm

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"testing"
	"time"

	"framegate/audit"
)

func newReader(c io.Reader) *bufio.Reader { return bufio.NewReader(c) }

// answer reads one response with its body.
func answer(t *testing.T, r *bufio.Reader) (status int, body string) {
	t.Helper()
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.StatusCode, readAll(t, resp.Body)
}

// httpClient returns an ordinary client whose connections all go to g.
func (g *gateway) httpClient() *http.Client {
	tr := &http.Transport{
		DialContext: func(context.Context, string, string) (net.Conn, error) { return g.dial(), nil },
		DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			c := tls.Client(g.dial(), g.trust(originName))
			return c, c.HandshakeContext(ctx)
		},
		DisableCompression:    true,
		MaxConnsPerHost:       1,
		ExpectContinueTimeout: patience,
	}
	g.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// bothSchemes runs a test with an HTTP origin over TLS and without.
func bothSchemes(t *testing.T, h http.HandlerFunc, test func(t *testing.T, g *gateway, url string)) {
	for _, scheme := range []string{"http", "https"} {
		t.Run(scheme, func(t *testing.T) {
			var config *tls.Config
			if scheme == "https" {
				config = secure("valid")
			}
			test(t, newGateway(t, newHTTPOrigin(t, config, h).addr, ""), scheme+"://"+originName)
		})
	}
}

func TestOrdinaryRequests(t *testing.T) {
	big := strings.Repeat("0123456789abcdef", 1<<17)
	bothSchemes(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Length", fmt.Sprint(r.ContentLength))
		if r.Method == "HEAD" {
			w.Header().Set("Content-Length", "12345")
			return
		}
		if r.URL.Path == "/teapot" {
			w.WriteHeader(http.StatusTeapot)
		}
		http.NewResponseController(w).EnableFullDuplex()
		io.WriteString(w, r.Method+" ")
		io.Copy(w, r.Body)
	}, func(t *testing.T, g *gateway, url string) {
		client := g.httpClient()
		type want struct {
			method, path string
			body         io.Reader
			length       string
			status       int
			text         string
		}
		list := []want{
			{"GET", "/", nil, "0", 200, "GET "},
			{"HEAD", "/x", nil, "0", 200, ""},
			{"POST", "/a", strings.NewReader("hello"), "5", 200, "POST hello"},
			{"PUT", "/a", io.MultiReader(strings.NewReader("hel"), strings.NewReader("lo")), "-1", 200, "PUT hello"},
			{"DELETE", "/teapot", nil, "0", 418, "DELETE "},
			{"POST", "/big", strings.NewReader(big), fmt.Sprint(len(big)), 200, "POST " + big},
			{"PATCH", "/big", io.MultiReader(strings.NewReader(big)), "-1", 200, "PATCH " + big},
			{"OPTIONS", "/", nil, "0", 200, "OPTIONS "},
			{"get", "/", nil, "0", 200, "get "},
		}
		for _, tt := range list {
			r, err := http.NewRequest(tt.method, url+tt.path, tt.body)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			if got := readAll(t, resp.Body); got != tt.text || resp.StatusCode != tt.status || resp.Header.Get("X-Length") != tt.length {
				t.Errorf("%s: %d %.40q, length %s", tt.method, resp.StatusCode, got, resp.Header.Get("X-Length"))
			}
			if tt.method == "HEAD" && resp.ContentLength != 12345 {
				t.Errorf("HEAD: a length of %d", resp.ContentLength)
			}
			resp.Body.Close()
		}
		client.CloseIdleConnections()
		if e := g.ended(1); e.State != audit.StateInspected || e.Reason != "" || e.Host != originName {
			t.Errorf("%+v", e)
		}
		events := g.ledger.of(audit.HTTPRequest)
		if len(events) != len(list) || len(g.ledger.of(audit.ConnOpen)) != 1 {
			t.Fatalf("%s", g.ledger)
		}
		for i, e := range events {
			if e.Method != list[i].method || e.Path != list[i].path || e.Code != list[i].status || e.Action != "" || e.Reason != "" {
				t.Errorf("%+v, want %v", e, list[i])
			}
		}
	})
}

func TestContinue(t *testing.T) {
	bothSchemes(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/no" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		io.Copy(w, r.Body)
	}, func(t *testing.T, g *gateway, url string) {
		for _, tt := range []struct {
			path   string
			status int
			asked  bool
		}{{"/yes", 200, true}, {"/no", 401, false}} {
			asked := false
			trace := &httptrace.ClientTrace{Got100Continue: func() { asked = true }}
			r, _ := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), trace), "POST", url+tt.path, strings.NewReader("body"))
			r.Header.Set("Expect", "100-continue")
			resp, err := g.httpClient().Do(r)
			if err != nil {
				t.Fatal(err)
			}
			if body := readAll(t, resp.Body); resp.StatusCode != tt.status || asked != tt.asked || tt.asked && body != "body" {
				t.Errorf("%s: %d %q, 100: %v", tt.path, resp.StatusCode, body, asked)
			}
			resp.Body.Close()
		}
	})
}

func TestTrailers(t *testing.T) {
	bothSchemes(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Sum")
		io.Copy(w, r.Body)
		w.Header().Set("X-Sum", "of "+r.Trailer.Get("X-Sum"))
		w.Header().Set(http.TrailerPrefix+"X-Late", "unannounced")
	}, func(t *testing.T, g *gateway, url string) {
		r, _ := http.NewRequest("POST", url, io.MultiReader(strings.NewReader("body")))
		r.Trailer = http.Header{"X-Sum": {"42"}}
		resp, err := g.httpClient().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if body := readAll(t, resp.Body); body != "body" || resp.Trailer.Get("X-Sum") != "of 42" || resp.Trailer.Get("X-Late") != "unannounced" {
			t.Errorf("%q %v", body, resp.Trailer)
		}
	})
}

func TestEarlyHints(t *testing.T) {
	bothSchemes(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Del("Link")
		io.WriteString(w, "final")
	}, func(t *testing.T, g *gateway, url string) {
		var hint string
		trace := &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
			hint += fmt.Sprint(code, h.Get("Link"))
			return nil
		}}
		r, _ := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), trace), "GET", url, nil)
		resp, err := g.httpClient().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if body := readAll(t, resp.Body); body != "final" || hint != "103</style.css>; rel=preload" || resp.Header.Get("Link") != "" {
			t.Errorf("%q %q %v", body, hint, resp.Header)
		}
		if strings.HasPrefix(url, "https") {
			return
		}
		c := g.dial()
		send(t, c, "GET / HTTP/1.0\r\nHost: "+originName+"\r\n\r\n")
		if got := readAll(t, c); strings.Contains(got, "103") || !strings.HasSuffix(got, "final") {
			t.Errorf("a client of HTTP/1.0 gets %q", got)
		}
	})
}

// Each event, and the head before the first, arrives before the next is sent.
func TestServerSentEvents(t *testing.T) {
	next := make(chan struct{})
	bothSchemes(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		http.NewResponseController(w).Flush()
		for i := range 5 {
			<-next
			fmt.Fprintf(w, "data: %d\n\n", i)
			http.NewResponseController(w).Flush()
		}
	}, func(t *testing.T, g *gateway, url string) {
		resp, err := g.httpClient().Get(url)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		for i := range 5 {
			next <- struct{}{}
			expect(t, resp.Body, fmt.Sprintf("data: %d\n\n", i))
		}
		if rest := readAll(t, resp.Body); rest != "" {
			t.Errorf("%q", rest)
		}
	})
}

// An exchange may take longer than any phase, and the connection may rest
// longer between two.
func TestSlowExchange(t *testing.T) {
	t.Parallel()
	o := newHTTPOrigin(t, secure("valid"), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for range 3 {
			<-time.After(400 * time.Millisecond)
			io.WriteString(w, "part ")
			http.NewResponseController(w).Flush()
		}
	}))
	g := newGateway(t, o.addr, "", briefly)
	c := g.dialTLS(g.trust(originName))
	for range 2 {
		if status, body := get(t, c, originName); status != 200 || body != "part part part " {
			t.Errorf("%d %q", status, body)
		}
		<-time.After(1200 * time.Millisecond)
	}
}

func TestPipelining(t *testing.T) {
	bothSchemes(t, func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, r.URL.Path+" ")
		io.Copy(w, r.Body)
	}, func(t *testing.T, g *gateway, url string) {
		var c net.Conn = g.dial()
		if strings.HasPrefix(url, "https") {
			c = tls.Client(c, g.trust(originName))
		}
		const host = " HTTP/1.1\r\nHost: " + originName + "\r\n"
		send(t, c, "GET /1"+host+"\r\nPOST /2"+host+"Content-Length: 4\r\n\r\nbody"+
			"POST /3"+host+"Transfer-Encoding: chunked\r\n\r\n4\r\nmore\r\n0\r\n\r\nGET /4"+host+"Connection: close\r\n\r\nGET /5"+host+"\r\n")
		r := newReader(c)
		for _, want := range []string{"/1 ", "/2 body", "/3 more", "/4 "} {
			if status, body := answer(t, r); status != 200 || body != want {
				t.Errorf("%d %q, want %q", status, body, want)
			}
		}
		if _, err := r.ReadByte(); err != io.EOF {
			t.Errorf("%v behind the last answer", err)
		}
		c.Close()
		g.ended(1)
		if list := g.ledger.of(audit.HTTPRequest); len(list) != 4 {
			t.Errorf("%s", g.ledger)
		}
	})
}

// answering is an origin that answers each request, which it keeps, with the
// bytes of reply. It closes the connection where reply returns "".
func answering(t *testing.T, config *tls.Config, reply func(r *http.Request) string) *origin {
	t.Helper()
	return newOrigin(t, func(c *tap) {
		var conn net.Conn = c
		if config != nil {
			conn = tls.Server(c, config)
		}
		for r := newReader(conn); ; {
			request, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			io.Copy(io.Discard, request.Body)
			text := reply(request)
			if _, err := io.WriteString(conn, text); err != nil || text == "" {
				return
			}
		}
	})
}

// An upgrade may come behind ordinary requests, even before they are answered.
func TestLaterUpgrade(t *testing.T) {
	for _, pipelined := range []bool{false, true} {
		t.Run(fmt.Sprint(pipelined), func(t *testing.T) {
			release := make(chan struct{}, 1)
			o := answering(t, secure("valid"), func(r *http.Request) string {
				if r.Header.Get("Upgrade") != "" {
					return upgradeAnswer
				}
				<-release
				return "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nanswer"
			})
			g := newGateway(t, o.addr, "")
			c := g.dialTLS(g.trust(originName))
			r := newReader(c)
			request := "GET / HTTP/1.1\r\nHost: " + originName + "\r\n\r\n"
			if pipelined {
				send(t, c, request+upgradeRequest)
				release <- struct{}{}
			} else {
				release <- struct{}{}
				send(t, c, request)
			}
			if status, body := answer(t, r); status != 200 || body != "answer" {
				t.Errorf("%d %q", status, body)
			}
			if !pipelined {
				send(t, c, upgradeRequest)
			}
			expect(t, r, upgradeAnswer)
			c.Close()
			if e := g.ended(1); e.State != audit.StateInspected {
				t.Errorf("%+v", e)
			}
			if len(g.ledger.of(audit.WSOpen)) != 1 || len(g.ledger.of(audit.HTTPRequest)) != 1 {
				t.Errorf("%s", g.ledger)
			}
		})
	}
}

func TestTargets(t *testing.T) {
	o := answering(t, nil, func(r *http.Request) string {
		return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(r.RequestURI), r.RequestURI)
	})
	g := newGateway(t, o.addr, "")
	c := g.dial()
	for _, tt := range []struct{ sent, got string }{
		{"/", "/"},
		{"/?", "/?"},
		{"/a%2Fb//c", "/a%2Fb//c"},
		{"/a/../b/./c", "/a/../b/./c"},
		{"/%41?%42=%43&&x=a+b", "/%41?%42=%43&&x=a+b"},
		{"/|\"<>^`{}\\", "/|\"<>^`{}\\"},
		{"/\xff\xc3\xa9", "/\xff\xc3\xa9"},
		{"//other.test/x?y=//z", "//other.test/x?y=//z"},
		{"//a%2Fb?", "//a%2Fb?"},
		{"//", "//"},
		{"/x://y", "/x://y"},
		{"http://" + originName + "/abs?q", "/abs?q"},
		{"https://" + originName + "?q", "/?q"},
		{"http://" + originName, "/"},
	} {
		send(t, c, "GET "+tt.sent+" HTTP/1.1\r\nHost: "+originName+"\r\n\r\n")
		if status, body := answer(t, newReader(c)); status != 200 || body != tt.got {
			t.Errorf("%q: %d %q, want %q", tt.sent, status, body, tt.got)
		}
	}
	g.ledger.wait(t, audit.HTTPRequest, 14)
	c.Close()

	// net/http cannot parse these as a server, so they are looked for in the raw bytes.
	for _, tt := range []struct{ method, target string }{
		{"GET", "/%zz?%"}, {"OPTIONS", "*"}, {"GET", "*"},
	} {
		done := make(chan struct{})
		o := newOrigin(t, func(c *tap) {
			readRawHead(c)
			io.WriteString(c, "HTTP/1.1 204 No Content\r\n\r\n")
			<-done
		})
		g := newGateway(t, o.addr, "")
		c := g.dial()
		send(t, c, tt.method+" "+tt.target+" HTTP/1.1\r\nHost: "+originName+"\r\n\r\n")
		if status, _ := answer(t, newReader(c)); status != 204 {
			t.Errorf("%s: status %d", tt.target, status)
		}
		if got := o.received(); !strings.HasPrefix(got, tt.method+" "+tt.target+" HTTP/1.1\r\n") {
			t.Errorf("%q", got)
		}
		close(done)
		c.Close()
		if list := g.ledger.wait(t, audit.HTTPRequest, 1); list[0].Path != strings.TrimSuffix(tt.target, "?%") {
			t.Errorf("%+v", list)
		}
	}

	c = g.dial()
	send(t, c, "GET //%zz HTTP/1.1\r\nHost: "+originName+"\r\n\r\n")
	if status, _ := answer(t, newReader(c)); status != 400 {
		t.Errorf("status %d for what the engine cannot express", status)
	}
}
