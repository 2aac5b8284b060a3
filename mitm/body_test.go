package mitm

import (
	"bufio"
	"bytes"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"

	"framegate/audit"
)

// passing returns how much of p is the body, given in pieces of up to size bytes.
func passing(b body, p []byte, size int) (n int, done bool, err error) {
	r := rand.New(rand.NewPCG(uint64(size), 1))
	for n < len(p) && !b.done() {
		piece := p[n:min(len(p), n+1+r.IntN(size))]
		k, err := b.consume(piece)
		if n += k; err != nil {
			return n, false, err
		}
		if k < len(piece) && !b.done() {
			panic("not all was consumed")
		}
	}
	return n, b.done(), nil
}

func TestBody(t *testing.T) {
	for _, tt := range []struct {
		name, in string
		body     body
		n        int // -1: an error
		done     bool
	}{
		{"none", "abc", body{}, 0, true},
		{"length", "abcd", body{kind: bodyLength, left: 3}, 3, true},
		{"length short", "ab", body{kind: bodyLength, left: 3}, 2, false},
		{"to the end", "abc", body{kind: bodyUntilEOF}, 3, false},
		{"chunks", "3\r\nabc\r\n0\r\n\r\nGET", body{kind: bodyChunked}, 13, true},
		{"no chunk", "0\r\n\r\nx", body{kind: bodyChunked}, 5, true},
		{"hexadecimal", "00A;x=\"y\" \r\n0123456789\r\n000\r\n\r\nx", body{kind: bodyChunked}, 31, true},
		{"space before an extension", "00A ;x=\"y\"\r\n0123456789\r\n000\r\n\r\nx", body{kind: bodyChunked}, -1, false}, // net/http takes it for none
		{"trailers", "0\r\nX: y\r\nZ:\r\n\r\nx", body{kind: bodyChunked}, 15, true},
		{"unfinished", "3\r\nabc\r\n", body{kind: bodyChunked}, 8, false},
		{"no size", "\r\n", body{kind: bodyChunked}, -1, false},
		{"negative", "-1\r\n", body{kind: bodyChunked}, -1, false},
		{"plus", "+1\r\na\r\n", body{kind: bodyChunked}, -1, false},
		{"0x", "0x1\r\na\r\n", body{kind: bodyChunked}, -1, false},
		{"leading space", " 1\r\na\r\n", body{kind: bodyChunked}, -1, false},
		{"overflow", "10000000000000001\r\na\r\n", body{kind: bodyChunked}, -1, false},
		{"16 digits", "ffffffffffffffff\r\n", body{kind: bodyChunked}, -1, false},
		{"bare LF", "1\na\r\n", body{kind: bodyChunked}, -1, false},
		{"bare CR", "1\r\ra\r\n", body{kind: bodyChunked}, -1, false},
		{"bare LF behind data", "1\r\na\n0\r\n\r\n", body{kind: bodyChunked}, -1, false},
		{"too much data", "1\r\nabc\r\n", body{kind: bodyChunked}, -1, false},
		{"bare LF in an extension", "1;\nx\r\n", body{kind: bodyChunked}, -1, false},
		{"bare LF in the trailers", "0\r\nX: y\n\r\n", body{kind: bodyChunked}, -1, false},
		{"NUL in the trailers", "0\r\nX: \x00\r\n\r\n", body{kind: bodyChunked}, -1, false},
		{"long extension", "1;" + strings.Repeat("x", maxChunkLine) + "\r\na\r\n", body{kind: bodyChunked}, -1, false},
		{"long trailers", "0\r\n" + strings.Repeat("X: y\r\n", maxHead/6+1) + "\r\n", body{kind: bodyChunked}, -1, false},
	} {
		for _, size := range []int{1, 2, 5, 1 << 20} {
			n, done, err := passing(tt.body, []byte(tt.in), size)
			if tt.n < 0 {
				if err == nil {
					t.Errorf("%s: no error", tt.name)
				}
				continue
			}
			if err != nil || n != tt.n || done != tt.done {
				t.Errorf("%s: %d %v %v, want %d %v", tt.name, n, done, err, tt.n, tt.done)
			}
		}
	}
}

func FuzzBody(f *testing.F) {
	f.Add([]byte("3\r\nabc\r\n0\r\n\r\nGET / HTTP/1.1\r\n"), int64(-1), uint8(1))
	f.Add([]byte("0A;x=y\r\n0123456789\r\n0\r\nX: y\r\n\r\nbehind"), int64(-1), uint8(3))
	f.Add([]byte("1\r\na\n0\r\n\r\n"), int64(-1), uint8(2))
	f.Add([]byte("ffffffffffffffff\r\n"), int64(-1), uint8(9))
	f.Add([]byte("hello and more"), int64(5), uint8(4))
	for _, a := range smugglings {
		if data, ok := strings.CutPrefix(a.sent, chunked); ok && len(data) < 1000 {
			f.Add([]byte(data), int64(-1), uint8(7))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte, length int64, size uint8) {
		b := body{kind: bodyLength, left: length}
		if length < 0 {
			b = body{kind: bodyChunked}
		}
		n, done, err := passing(b, data, 1<<30)
		n2, done2, err2 := passing(b, data, 1+int(size))
		if done != done2 || (err == nil) != (err2 == nil) || err == nil && n != n2 {
			t.Fatalf("whole: %d %v %v, in pieces: %d %v %v", n, done, err, n2, done2, err2)
		}
		if length >= 0 {
			if want := min(length, int64(len(data))); int64(n) != want {
				t.Fatalf("%d, want %d", n, want)
			}
			return
		}
		// What net/http finds behind the body is what we find.
		const head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
		in := bufio.NewReader(io.MultiReader(strings.NewReader(head), bytes.NewReader(data)))
		r, rerr := http.ReadRequest(in)
		if rerr != nil {
			t.Fatal(rerr)
		}
		if _, rerr = io.Copy(io.Discard, r.Body); rerr != nil {
			// Never more lenient, but for the sum of all framing, which only net/http limits.
			if done && len(data) < 16<<10 {
				t.Fatalf("%q is taken, and net/http says: %v", data, rerr)
			}
			return
		}
		rest, _ := io.ReadAll(in)
		if done && !bytes.Equal(rest, data[n:]) {
			t.Fatalf("behind the body is %q, to net/http %q", data[n:], rest)
		}
		if err == nil && !done {
			t.Fatal("net/http has found the end of the body")
		}
	})
}

// The fault of a body shows when its head has left already: the server never
// gets a whole request, and the client is told.
func TestBadBody(t *testing.T) {
	for _, tt := range []struct{ name, body string }{
		{"size", "zz\r\n"},
		{"bare LF", "1\na\n0\n\n"},
		{"overflow", "fffffffffffffffff\r\n"},
		{"too much data", "1\r\nabc\r\n0\r\n\r\n"},
		{"later", "4\r\nabcd\r\n3\r\nabcd\r\n0\r\n\r\n"},
		{"trailer", "0\r\nX: y\nGET /hidden HTTP/1.1\r\n\r\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			done := make(chan error, 1)
			o := newOrigin(t, func(c *tap) {
				r, err := http.ReadRequest(bufio.NewReader(c))
				if err == nil {
					_, err = io.Copy(io.Discard, r.Body)
				}
				done <- err
			})
			g := newGateway(t, o.addr, "")
			c := g.dial()
			r := newReader(c)
			send(t, c, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"+tt.body)
			if status, body := answer(t, r); status != 400 || !strings.HasPrefix(body, "framegate: ") {
				t.Errorf("%d %q", status, body)
			}
			if rest := readAll(t, r); rest != "" {
				t.Errorf("behind the answer: %q", rest)
			}
			c.Close()
			if err := <-done; err == nil {
				t.Errorf("the server has got a whole request: %q", o.received())
			}
			if e := g.ended(1); e.State != audit.StateFailed || e.Reason == "" {
				t.Errorf("%+v", e)
			}
			if list := g.ledger.of(audit.HTTPRequest); len(list) != 1 || list[0].Code != 400 || list[0].Reason == "" {
				t.Errorf("%s", g.ledger)
			}
		})
	}
}
