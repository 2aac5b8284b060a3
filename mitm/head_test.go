package mitm

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/textproto"
	"strings"
	"testing"

	"framegate/audit"
)

// Requests that a gateway and a server may read in two ways, or that are none.
var badRequests = []struct {
	name, request string
	status        int
}{
	{"CL and TE", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
	{"CL twice", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcd", 400},
	{"CL twice, equal", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\ncontent-length: 4\r\n\r\nabcd", 400},
	{"CL list", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4, 4\r\n\r\nabcd", 400},
	{"CL negative", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400},
	{"CL plus", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +4\r\n\r\nabcd", 400},
	{"CL hex", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x4\r\n\r\nabcd", 400},
	{"CL empty", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n", 400},
	{"CL huge", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9223372036854775808\r\n\r\n", 400},
	{"CL wraps", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551620\r\n\r\nabcd", 400},
	{"TE gzip", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400},
	{"TE identity", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n", 400},
	{"TE twice", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
	{"TE hidden by VT", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", 400},
	{"TE in 1.0", "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
	{"folded", "GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n", 400},
	{"folded first", "GET / HTTP/1.1\r\n Host: a\r\nHost: a\r\n\r\n", 400},
	{"bare LF", "GET / HTTP/1.1\nHost: a\n\n", 400},
	{"bare LF in a line", "GET / HTTP/1.1\r\nHost: a\r\nX: y\nZ: z\r\n\r\n", 400},
	{"bare CR", "GET / HTTP/1.1\r\nHost: a\r\nX: y\rZ: z\r\n\r\n", 400},
	{"CR before CRLF", "GET / HTTP/1.1\r\nHost: a\r\r\n\r\n", 400},
	{"NUL", "GET / HTTP/1.1\r\nHost: a\r\nX: y\x00\r\n\r\n", 400},
	{"space before colon", "GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400},
	{"no colon", "GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n", 400},
	{"empty name", "GET / HTTP/1.1\r\nHost: a\r\n: x\r\n\r\n", 400},
	{"two Hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400},
	{"no Host", "GET / HTTP/1.1\r\n\r\n", 400},
	{"Host with a user", "GET / HTTP/1.1\r\nHost: b@a\r\n\r\n", 400},
	{"Host with a path", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400},
	{"Host with a space", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400},
	{"CONNECT", "CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", 400},
	{"HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400},
	{"HTTP/1.2", "GET / HTTP/1.2\r\nHost: a\r\n\r\n", 400},
	{"HTTP/0.9", "GET /\r\n\r\n", 400},
	{"another Host", "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", 400},
	{"user in the target", "GET http://b@a/ HTTP/1.0\r\n\r\n", 400},
	{"no host in the target", "GET http:///x HTTP/1.0\r\n\r\n", 400},
	{"fragment", "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", 400},
	{"fragment behind the host", "GET http://a#b/ HTTP/1.0\r\n\r\n", 400},
	{"relative", "OPTIONS a HTTP/1.1\r\nHost: a\r\n\r\n", 400},
	{"two spaces", "GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
	{"tab", "GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", 400},
	{"space in the target", "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", 400},
	{"empty line first", "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
	{"expectation", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nExpect: the-unexpected\r\n\r\n", 400},
	{"long", "GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("x", maxHead) + "\r\n\r\n", 431},
	{"long and no end", "GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("x", maxHead+5000), 431},
	{"long line", "GET" + strings.Repeat(" ", maxHead+5000) + "/ HTTP/1.1\r\nHost: a\r\n\r\n", 431},
}

func TestBadRequests(t *testing.T) {
	o := newOrigin(t, func(c *tap) { io.Copy(io.Discard, c) })
	for _, tt := range badRequests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g := newGateway(t, o.addr, "")
			c := g.dial()
			send(t, c, tt.request)
			resp, err := http.ReadResponse(newReader(c), nil)
			if err != nil {
				t.Fatal(err)
			}
			if body := readAll(t, resp.Body); resp.StatusCode != tt.status || !resp.Close || !strings.HasPrefix(body, "framegate: ") {
				t.Errorf("%d %q", resp.StatusCode, body)
			}
			if rest := readAll(t, c); rest != "" {
				t.Errorf("behind the answer: %q", rest)
			}
			c.Close()
			if e := g.ended(1); e.State != audit.StateFailed || e.Reason == "" {
				t.Errorf("%+v", e)
			}
			list := g.ledger.of(audit.HTTPRequest)
			if len(list) != 1 || list[0].Code != tt.status || list[0].Action != "block" || list[0].Reason == "" {
				t.Errorf("%s", g.ledger)
			}
			if len(g.destinations()) > 0 {
				t.Errorf("dialled %v", g.destinations())
			}
		})
	}
}

// The same over TLS, as a second request, where the first one is answered.
func TestBadLaterRequest(t *testing.T) {
	t.Parallel()
	o := newHTTPOrigin(t, secure("valid"), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, r.URL.Path)
	}))
	for _, tt := range badRequests {
		if tt.name == "long line" {
			continue // its first line is no less wrong here, but for another reason
		}
		t.Run(tt.name, func(t *testing.T) {
			g := newGateway(t, o.addr, "")
			c := g.dialTLS(g.trust(originName))
			r := newReader(c)
			send(t, c, "GET /first HTTP/1.1\r\nHost: "+originName+"\r\n\r\n"+tt.request)
			if status, body := answer(t, r); status != 200 || body != "/first" {
				t.Errorf("%d %q", status, body)
			}
			if status, _ := answer(t, r); status != tt.status {
				t.Errorf("status %d, want %d", status, tt.status)
			}
			if rest := readAll(t, r); rest != "" {
				t.Errorf("behind the answer: %q", rest)
			}
			c.Close()
			if e := g.ended(1); e.State != audit.StateFailed {
				t.Errorf("%+v", e)
			}
			if list := g.ledger.of(audit.HTTPRequest); len(list) != 2 || list[0].Code != 200 || list[0].Action != "" || list[1].Code != tt.status {
				t.Errorf("%s", g.ledger)
			}
		})
	}
}

// Where the client is still sending when it is refused, it gets the answer
// nevertheless.
func TestRefusalIsRead(t *testing.T) {
	o := newOrigin(t, greeter)
	g := newGateway(t, o.addr, "")
	c := g.dial()
	send(t, c, "POST / HTTP/1.1\r\nHost: a\r\nHost: b\r\nContent-Length: 10000000\r\n\r\n")
	send(t, c, strings.Repeat("x", 1<<20))
	if got := readAll(t, c); !strings.HasPrefix(got, "HTTP/1.1 400 ") {
		t.Errorf("%q", got)
	}
}

func TestRequestHead(t *testing.T) {
	const raw = "GET http://A.example:80?q=%zz HTTP/1.1\r\nhost:\ta.example:80 \r\nX:\r\ncOnnection: a, Keep-Alive ,,\r\nConnection: B\r\n\r\n"
	h, n, err := parseRequest([]byte(raw + "rest"))
	if err != nil || n != len(raw) || string(h.raw) != raw {
		t.Fatalf("%d %v", n, err)
	}
	if h.host() != "A.example:80" || h.origin() != "/?q=%zz" || h.path() != "/" || h.minor != 1 {
		t.Errorf("%q %q %q", h.host(), h.origin(), h.path())
	}
	if got := strings.Join(h.tokens("Connection"), "|"); got != "a|keep-alive|b" {
		t.Error(got)
	}
	if v, n := h.get("x"); v != "" || n != 1 {
		t.Errorf("%q %d", v, n)
	}
	for i := range len(raw) {
		if _, n, err := parseRequest([]byte(raw[:i])); n != 0 || err != nil {
			t.Fatalf("of %d bytes: %d %v", i, n, err)
		}
	}
}

// neverMoreLenient takes a head that parses here, and not with net/http, and
// fails unless it is the target that is at fault.
func neverMoreLenient(t *testing.T, h *requestHead, b []byte, fault error) {
	t.Helper()
	plain := bytes.Replace(b, []byte(" "+h.target+" "), []byte(" / "), 1)
	if _, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(plain))); err != nil {
		t.Fatalf("%q is taken, and net/http says: %v", h.raw, fault)
	}
}

func FuzzRequestHead(f *testing.F) {
	for _, tt := range badRequests {
		if len(tt.request) < 1000 {
			f.Add([]byte(tt.request))
		}
	}
	for _, tt := range smugglings {
		if len(tt.sent) < 1000 {
			f.Add([]byte(tt.sent))
		}
	}
	for _, tt := range tunnellings {
		f.Add([]byte(tt.request))
	}
	f.Add([]byte("GET /a%2Fb//c?d=e HTTP/1.1\r\nHost: a:1\r\nX:  y \t\r\nx: z\r\n\r\nbehind"))
	f.Add([]byte("GET http://[::1]:80/ HTTP/1.0\r\nContent-Length: 007\r\n\r\n"))
	f.Add([]byte("POST * HTTP/1.1\r\nHost:\r\nTransfer-Encoding: CHUNKED\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, n, err := parseRequest(b)
		if n < 0 || n > len(b) || n > maxHead || (n > 0) != (h != nil) || err != nil && n > 0 {
			t.Fatalf("%d %v %v", n, h, err)
		}
		if h == nil {
			return
		}
		if !bytes.Equal(h.raw, b[:n]) || !bytes.HasSuffix(h.raw, []byte("\r\n\r\n")) {
			t.Fatalf("raw is %q", h.raw)
		}
		r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(b)))
		if err != nil {
			// Never more lenient, but for the path, which servers parse as they
			// like, and for what is announced as a trailer, which the engine checks.
			if _, announced := h.get("Trailer"); announced == 0 {
				neverMoreLenient(t, h, b, err)
			}
			return
		}
		if r.Method != h.method || r.RequestURI != h.target || r.ProtoMinor != h.minor {
			t.Fatalf("%s %s 1.%d, want %s %s 1.%d", h.method, h.target, h.minor, r.Method, r.RequestURI, r.ProtoMinor)
		}
		if r.Host != h.host() && !strings.Contains(h.host(), "%") {
			t.Fatalf("Host %q, want %q", h.host(), r.Host)
		}
		switch want := r.ContentLength; h.body.kind {
		case bodyChunked:
			if want != -1 {
				t.Fatalf("chunked, want a length of %d", want)
			}
		default:
			if want != h.body.left {
				t.Fatalf("length %d, want %d", h.body.left, want)
			}
		}
		fields := http.Header{}
		for _, f := range h.fields {
			fields.Add(f.name, f.value)
		}
		for _, name := range []string{"Host", "Transfer-Encoding", "Content-Length", "Trailer"} {
			fields.Del(name)
		}
		for name, values := range fields {
			if strings.Join(r.Header[textproto.CanonicalMIMEHeaderKey(name)], "\x00") != strings.Join(values, "\x00") {
				t.Fatalf("%s: %q, want %q", name, values, r.Header[name])
			}
		}
	})
}

func TestResponseHead(t *testing.T) {
	none, chunks, untilEOF := body{}, body{kind: bodyChunked}, body{kind: bodyUntilEOF}
	length := func(n int64) body { return body{kind: bodyLength, left: n} }
	for _, tt := range []struct {
		head   string
		status int // 0: refused as a head
		body   body
		bad    bool // the length is ambiguous
	}{
		{"HTTP/1.1 101 Switching Protocols\r\nContent-Length: 5", 101, none, false},
		{"HTTP/1.1 204", 204, none, false},
		{"HTTP/1.1 304 Not Modified\r\nContent-Length: 5", 304, none, false},
		{"HTTP/1.1 200 ", 200, untilEOF, false},
		{"HTTP/1.0 200 OK\r\nContent-Length: 5", 200, length(5), false},
		{"HTTP/1.1 404 \xff\r\nTransfer-Encoding: Chunked", 404, chunks, false},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5", 200, none, true},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip", 200, none, true},
		{"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked", 200, none, true},
		{"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5", 200, none, true},
		{"HTTP/1.1 200 OK\r\nContent-Length: -5", 200, none, true},
		{"HTTP/2 200 OK", 0, none, false},
		{"HTTP/1.1 2000 OK", 0, none, false},
		{"HTTP/1.1 099 OK", 0, none, false},
		{"HTTP/1.1 +20 OK", 0, none, false},
		{"HTTP/1.1  200 OK", 0, none, false},
		{"HTTP/1.1 200 OK\r\nX : y", 0, none, false},
		{"HTTP/1.1 200 OK\r\nX: y\r\n z", 0, none, false},
		{"HTTP/1.1 200 OK\nX: y", 0, none, false},
	} {
		raw := tt.head + "\r\n\r\n"
		h, n, err := parseResponse([]byte(raw + "behind"))
		if tt.status == 0 {
			if err == nil {
				t.Errorf("%q is taken", tt.head)
			}
			continue
		}
		if err != nil || n != len(raw) || string(h.raw) != raw || h.status != tt.status {
			t.Errorf("%q: %d %v %+v", tt.head, n, err, h)
			continue
		}
		b, err := h.responseBody()
		if tt.bad != (err != nil) || !tt.bad && (b.kind != tt.body.kind || b.left != tt.body.left) {
			t.Errorf("%q: %+v %v", tt.head, b, err)
		}
	}
}

func TestReadHead(t *testing.T) {
	const raw = "GET / HTTP/1.1\r\nHost: a\r\nX: \r\n\r\n"
	for size := 1; size <= len(raw)+3; size++ {
		client, _, gw := pipe(t)
		l := &leg{wire: gw[0]}
		go func() {
			for b := []byte(raw + "rest"); len(b) > 0; {
				n := min(size, len(b))
				client.Write(b[:n])
				b = b[n:]
			}
			client.tcp.CloseWrite()
		}()
		h, err := readHead(l, parseRequest)
		if err != nil || string(h.raw) != raw {
			t.Fatalf("in pieces of %d: %v", size, err)
		}
		if got := readAll(t, l); got != "rest" {
			t.Fatalf("behind the head: %q", got)
		}
		client.Close()
	}
}

func TestReadHeadCutOff(t *testing.T) {
	client, _, gw := pipe(t)
	send(t, client, "GET / HT")
	client.tcp.CloseWrite()
	if _, err := readHead(&leg{wire: gw[0]}, parseRequest); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%v", err)
	}
}
