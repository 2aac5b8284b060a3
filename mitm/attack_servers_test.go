package mitm

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	"framegate/audit"
)

// A realServer is an HTTP server as others use it, which says what requests it
// made out.
type realServer struct {
	addr netip.AddrPort
	said chan string // one request each, as described does
}

// goServer runs net/http.
func goServer(t *testing.T) *realServer {
	said := make(chan string, 1000)
	o := newHTTPOrigin(t, nil, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if body, err := io.ReadAll(r.Body); err == nil {
			said <- described(r.Method, r.RequestURI, body)
			io.WriteString(w, "ok")
		}
	}))
	return &realServer{o.addr, said}
}

// runServer runs a server of its own process.
func runServer(t *testing.T, name string, args ...string) *realServer {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	lines.Scan()
	port, err := strconv.ParseUint(lines.Text(), 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	s := &realServer{netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(port)), make(chan string, 1000)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for lines.Scan() {
			var request struct {
				method, target string
				body           []byte
			}
			if err := json.Unmarshal(lines.Bytes(), &[]any{&request.method, &request.target, &request.body}); err != nil {
				t.Errorf("%s: %q: %v", name, lines.Text(), err)
			}
			s.said <- described(request.method, request.target, request.body)
		}
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-done
		cmd.Wait()
	})
	return s
}

// saw returns what the server has made out since it was asked last. The question
// is a request, too, which comes straight from the test.
func (s *realServer) saw(t *testing.T) (list []string) {
	t.Helper()
	resp, err := http.Get("http://" + s.addr.String() + "/asked")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	for one := range s.said {
		if one == `GET /asked ""` {
			break
		}
		list = append(list, one)
	}
	return list
}

// Whatever passes is the same requests with the same bodies to servers that
// share no line of code, and each of them has a record; the rest was refused
// and is recorded as such.
func TestAttackServers(t *testing.T) {
	defer http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	for name, start := range map[string]func() *realServer{
		"net/http":    func() *realServer { return goServer(t) },
		"Node":        func() *realServer { return runServer(t, "node", "testdata/origins/node.js") },
		"http.server": func() *realServer { return runServer(t, "python3", "testdata/origins/python.py") },
	} {
		s := start()
		g := newGateway(t, s.addr, "")
		n, requests := 0, 0
		for _, tt := range append(slices.Clone(smugglings), oddities()...) {
			if tt.name == manyFields {
				continue // these servers take fewer, and hang up
			}
			c := g.dial()
			send(t, c, tt.sent)
			var got []int
			for r := newReader(c); len(got) < len(tt.status); {
				resp, err := http.ReadResponse(r, nil)
				if err != nil {
					t.Errorf("%s, %s: after the answers %v: %v", name, tt.name, got, err)
					break
				}
				io.Copy(io.Discard, resp.Body)
				got = append(got, resp.StatusCode)
			}
			c.Close()
			n++
			g.ended(n)
			list := g.ledger.of(audit.HTTPRequest)[requests:]
			requests += len(list)
			forwarded := 0
			for _, e := range list {
				if e.Action == "" && e.Code == 200 {
					forwarded++
				}
			}
			if !slices.Equal(got, tt.status) {
				t.Errorf("%s, %s: answered %v, want %v", name, tt.name, got, tt.status)
			}
			if saw := s.saw(t); fmt.Sprint(saw) != fmt.Sprint(tt.seen) || len(saw) != forwarded {
				t.Errorf("%s, %s: it saw %q, want %q; %d are recorded as passed", name, tt.name, saw, tt.seen, forwarded)
			}
		}
	}
}

// oddities is every way to write a chunked body and its length that somebody
// might take for another, made of a few parts.
func oddities() (list []attack) {
	for _, eol := range []string{"\r\n", "\n", "\r\r\n", " \r\n", "\x0b\r\n"} {
		for _, ext := range []string{"", ";a", ";a=\"\r\n\"", " ;a", "\t", ";a\rb"} {
			for _, size := range []string{"4", "04", "+4", "0x4", "4_0", "４"} {
				a := attack{name: fmt.Sprintf("%q%q%q", size, ext, eol), sent: chunked + size + ext + eol + "body\r\n0\r\n\r\n" + probe, status: []int{400}}
				// What one meaning is left for.
				plain := (size == "4" || size == "04") && (ext == "" || ext == ";a" || ext == "\t")
				if plain && (eol == "\r\n" || eol == " \r\n") || plain && strings.HasPrefix(ext, ";") && eol == "\x0b\r\n" {
					a.status, a.seen = []int{200, 200}, []string{`POST / "body"`, `GET /probe ""`}
				}
				list = append(list, a)
			}
		}
	}
	return list
}
