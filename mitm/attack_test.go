package mitm

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
)

// An attack is what a client sends to make the gateway and the server see
// different requests. docs/ATTACKS.md says the same in words; names and sources
// are compared (TestAttacksNameTests).
type attack struct {
	name, source string
	sent         string
	status       []int    // of the answers that the client gets, one after the other
	seen         []string // the requests that the server gets, as described does
}

// described says what a server made of one request.
func described(method, target string, body []byte) string {
	return fmt.Sprintf("%s %s %q", method, target, body)
}

// countingOrigin answers each request that a strict parser finds with 200.
func countingOrigin(t testing.TB) *origin {
	t.Helper()
	return newOrigin(t, func(c *tap) {
		for r := newReader(c); ; {
			request, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			if _, err := io.Copy(io.Discard, request.Body); err != nil {
				return
			}
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	})
}

// A reading is one way to find the requests in what a server received. Those of
// which a part is missing do not count.
type reading func(received string) []string

// readings are those that published attacks play off against each other.
var readings = map[string]reading{
	"strict":                         strictRequests,
	"lax, Transfer-Encoding first":   func(s string) []string { return laxRequests(s, true, true) },
	"lax, Content-Length first":      func(s string) []string { return laxRequests(s, false, true) },
	"lax, knows no chunk extensions": func(s string) []string { return laxRequests(s, true, false) },
}

func strictRequests(received string) (list []string) {
	for r := bufio.NewReader(strings.NewReader(received)); ; {
		request, err := http.ReadRequest(r)
		if err != nil {
			return list
		}
		body, err := io.ReadAll(request.Body)
		if err != nil {
			return list
		}
		list = append(list, described(request.Method, request.RequestURI, body))
	}
}

// laxRequests reads as the servers do that were attacked: any line end, any
// white space, underscores for hyphens, fields by what they contain, numbers by
// what they begin with.
func laxRequests(received string, codingFirst, extensions bool) (list []string) {
	rest := []byte(received)
	line := func() (string, bool) {
		l, after, ok := bytes.Cut(rest, []byte("\n"))
		if rest = after; !ok {
			return "", false
		}
		return strings.TrimRight(string(l), "\r"), true
	}
	take := func(n int) ([]byte, bool) {
		if n > len(rest) {
			return nil, false
		}
		b := rest[:n]
		rest = rest[n:]
		return b, true
	}
	for {
		rest = bytes.TrimLeft(rest, "\r\n")
		first, ok := line()
		words := strings.Fields(first)
		if !ok || len(words) < 2 {
			return list
		}
		length, chunked := 0, false
		for {
			l, ok := line()
			if !ok {
				return list
			}
			if l == "" {
				break
			}
			name, value, _ := strings.Cut(l, ":")
			switch strings.ReplaceAll(strings.ToLower(strings.TrimSpace(name)), "_", "-") {
			case "content-length":
				length = laxNumber(value, 10)
			case "transfer-encoding":
				chunked = strings.Contains(strings.ToLower(value), "chunked")
			}
		}
		var body []byte
		if !chunked || length > 0 && !codingFirst {
			if body, ok = take(length); !ok {
				return list
			}
		}
		for chunked && (length == 0 || codingFirst) {
			l, ok := line()
			if !ok {
				return list
			}
			if !extensions && strings.Contains(l, ";") {
				return append(list, "a chunk extension")
			}
			n := laxNumber(l, 16)
			part, ok := take(n)
			if !ok {
				return list
			}
			body = append(body, part...)
			for n == 0 && l != "" { // the trailers
				if l, ok = line(); !ok {
					return list
				}
			}
			if n == 0 {
				break
			}
			if _, ok := line(); !ok {
				return list
			}
		}
		list = append(list, described(words[0], words[1], body))
	}
}

func laxNumber(s string, base int) int {
	s = strings.TrimLeft(s, " \t+")
	for n := len(s); n > 0; n-- {
		if v, err := strconv.ParseUint(s[:n], base, 31); err == nil {
			return int(v)
		}
	}
	return 0
}

// The lax reader is one that can be attacked.
func TestLaxRequests(t *testing.T) {
	const sent = "POST / HTTP/1.1\nHost: a\nContent_Length: 6x\nTransfer-Encoding : \x0bchunked\n\n0\n\nGET /smuggled HTTP/1.1\nHost: a\n\n"
	if got := laxRequests(sent, true, true); len(got) != 2 || got[1] != `GET /smuggled ""` {
		t.Errorf("%q", got)
	}
	if got := laxRequests(sent, false, true); len(got) != 2 || !strings.HasPrefix(got[0], `POST / "0\n\nGET`) {
		t.Errorf("%q", got)
	}
}

// attackAll carries out each attack, and the server is asked what it saw.
func attackAll(t *testing.T, attacks []attack) {
	for _, tt := range attacks {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			o := countingOrigin(t)
			g := newGateway(t, o.addr, "")
			c := g.dial()
			send(t, c, tt.sent)
			r := newReader(c)
			for i, want := range tt.status {
				if got, body := answer(t, r); got != want || got >= 400 && !strings.HasPrefix(body, "framegate: ") {
					t.Errorf("answer %d is %d %q, want %d", i, got, body, want)
				}
			}
			refused := tt.status[len(tt.status)-1] >= 400
			if refused {
				if rest := readAll(t, r); rest != "" {
					t.Errorf("behind the answers: %q", rest)
				}
			}
			c.Close()
			e := g.ended(1)
			received := o.received()
			for name, read := range readings {
				if got := read(received); fmt.Sprint(got) != fmt.Sprint(tt.seen) {
					t.Errorf("%s: the server sees %q, want %q; it got %q", name, got, tt.seen, received)
				}
			}
			checkRecorded(t, g, e, tt.status)
		})
	}
}
