package endtoend

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"testing"

	"framegate/audit"
	"framegate/frames"
	"framegate/internal/lab/clients"
	"framegate/internal/lab/origin"
	"framegate/internal/lab/wire"
)

// testEvents: an event arrives while the server waits with the next.
func testEvents(t *testing.T, g *gateway) {
	for _, scheme := range []string{"https", "http"} {
		t.Run(scheme, func(t *testing.T) {
			next := make(chan struct{})
			g.origin.HandleHTTP("/gated/"+scheme, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "text/event-stream")
				for i := range 5 {
					fmt.Fprintf(w, "data: %d\n\n", i)
					http.NewResponseController(w).Flush()
					select {
					case <-next:
					case <-r.Context().Done():
						return
					}
				}
			}))
			b := newBrowser(t, g.site, "tcp6", nil)
			answer, err := b.Get(scheme + "://" + chatHost + "/gated/" + scheme)
			if err != nil {
				t.Fatal(err)
			}
			defer answer.Body.Close()
			for i := range 5 {
				event := make([]byte, len("data: 0\n\n"))
				if _, err := io.ReadFull(answer.Body, event); err != nil || string(event) != fmt.Sprintf("data: %d\n\n", i) {
					t.Fatalf("event %d: %q (%v)", i, event, err)
				}
				next <- struct{}{}
			}
			if rest, err := io.ReadAll(answer.Body); err != nil || len(rest) > 0 {
				t.Errorf("%q (%v)", rest, err)
			}
			b.done(t, g).ended(t, audit.StateInspected)
		})
	}
}

// testContinue: a client that waits for 100 Continue gets it.
func testContinue(t *testing.T, g *gateway) {
	b := newBrowser(t, g.site, "tcp4", nil)
	b.Transport.(*http.Transport).ExpectContinueTimeout = patience
	interim := 0
	ctx := httptrace.WithClientTrace(soon(t), &httptrace.ClientTrace{
		Got1xxResponse: func(code int, _ textproto.MIMEHeader) error { interim = code; return nil },
	})
	r, err := http.NewRequestWithContext(ctx, "POST", "https://"+chatHost+"/upload", strings.NewReader("after the 100"))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Expect", "100-continue")
	answer, err := b.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if body, err := io.ReadAll(answer.Body); err != nil || string(body) != "after the 100" || interim != 100 {
		t.Errorf("%q (%v), interim answer %d", body, err, interim)
	}
	if l := b.done(t, g); l.one(t, audit.HTTPRequest).Code != 200 {
		t.Errorf("log:\n%s", lines(l))
	}
}

// testUpgradeAfterRequests: the upgrade comes as a later request on a
// connection that is kept, directly behind the one before it.
func testUpgradeAfterRequests(t *testing.T, g *gateway) {
	for i, network := range families {
		t.Run(network, func(t *testing.T) {
			c := g.either(t, i == 0, network, chatHost)
			answers := bufio.NewReader(c)
			ask := func(text string) {
				t.Helper()
				io.WriteString(c, text)
				answer, err := http.ReadResponse(answers, nil)
				if err != nil {
					t.Fatal(err)
				}
				if body, err := io.ReadAll(answer.Body); err != nil || string(body) != origin.PlainText {
					t.Fatalf("%q (%v)", body, err)
				}
			}
			const plain = "GET /plain HTTP/1.1\r\nHost: " + chatHost + "\r\n\r\n"
			target := "/echo?kept=" + network
			head := clients.OddHead(chatHost, target)
			bye := masked(true, frames.Close, "\x03\xe8")
			rest := head + string(masked(true, frames.Text, "at once")) + string(bye)
			ask(plain)
			ask(plain)
			ask(plain + rest)
			if answer, err := http.ReadResponse(answers, nil); err != nil || answer.StatusCode != 101 {
				t.Fatalf("%v (%v)", answer, err)
			}
			if _, payload, err := wire.ReadFrame(answers); err != nil || string(payload) != "at once" {
				t.Errorf("%q (%v)", payload, err)
			}
			if h, payload, err := wire.ReadFrame(answers); err != nil || h.Opcode != frames.Close || string(payload) != "\x03\xe8" {
				t.Errorf("%v %q (%v)", h.Opcode, payload, err)
			}
			c.CloseWrite()
			io.Copy(io.Discard, answers)
			server := g.serverSide(t, target)
			finished(t, server)
			if received := string(server.Received()); !strings.HasSuffix(received, rest) {
				t.Errorf("sent %q, received %q", rest, received)
			}
			l := g.log.of(t, c.LocalAddr())
			if n := len(l.all(audit.HTTPRequest)); n != 3 {
				t.Errorf("%d requests recorded:\n%s", n, lines(l))
			}
			compareMessages(t, l.messages("to-server"), []said{{"text", "at once", 1}})
			l.ended(t, audit.StateInspected)
		})
	}
}
