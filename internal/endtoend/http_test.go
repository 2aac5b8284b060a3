package endtoend

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"framegate/audit"
	"framegate/internal/lab/origin"
)

// A browser is an HTTP client on the client's machine that trusts framegate,
// and knows the address of its last connection.
type browser struct {
	http.Client

	mu    sync.Mutex
	local net.Addr
	dials int
}

func newBrowser(t *testing.T, s *site, network string, proxy *url.URL) *browser {
	b := new(browser)
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			c, err := s.dialer()(ctx, network, address)
			if err == nil {
				b.mu.Lock()
				b.local = c.LocalAddr()
				b.dials++
				b.mu.Unlock()
			}
			return c, err
		},
		TLSClientConfig:    &tls.Config{RootCAs: s.roots},
		DisableCompression: true,
		MaxConnsPerHost:    1,
	}
	if proxy != nil {
		transport.Proxy = http.ProxyURL(proxy)
	}
	b.Transport = transport
	b.Timeout = patience
	t.Cleanup(transport.CloseIdleConnections)
	return b
}

// done closes the browser's connections and returns the records of the last.
func (b *browser) done(t *testing.T, g *gateway) ledger {
	t.Helper()
	b.CloseIdleConnections()
	return g.log.of(t, b.local)
}

// get makes a request and returns the answer with its body.
func (b *browser) get(t *testing.T, method, target string, body io.Reader) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(soon(t), method, target, body)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := b.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, target, err)
	}
	return answer, string(text)
}

// testHTTP: what is not a WebSocket goes through as if nobody were in between,
// one record each, several on one connection.
func testHTTP(t *testing.T, g *gateway) {
	for _, scheme := range []string{"https", "http"} {
		for _, network := range families {
			t.Run(scheme+" "+network, func(t *testing.T) {
				b := newBrowser(t, g.site, network, nil)
				useWeb(t, b, scheme+"://"+chatHost)
				if b.dials != 1 {
					t.Errorf("%d connections, expected one that is kept", b.dials)
				}
				l := b.done(t, g)
				checkRequests(t, l)
				l.ended(t, audit.StateInspected)
				open := l.one(t, audit.ConnOpen)
				if want := g.address(t, network, chatHost, map[string]uint16{"https": 443, "http": 80}[scheme]); open.Server != want.String() {
					t.Errorf("original destination %s, expected %s", open.Server, want)
				}
			})
		}
	}
}

// webRequests is what useWeb does.
var webRequests = []string{
	"GET /plain 200", "HEAD /plain 200", "GET /chunked 200", "POST /upload 200", "GET /events 200", "GET /big 200", "GET /nowhere 404",
}

func useWeb(t *testing.T, b *browser, site string) {
	t.Helper()
	answer, body := b.get(t, "GET", site+"/plain", nil)
	if body != origin.PlainText || answer.Header.Get("Etag") != `"lab-1"` || answer.Header.Get("Content-Type") != "text/plain" || answer.ContentLength != int64(len(body)) {
		t.Errorf("/plain: %v %q", answer, body)
	}
	if answer, body = b.get(t, "HEAD", site+"/plain", nil); body != "" || answer.ContentLength != int64(len(origin.PlainText)) || answer.Header.Get("Etag") != `"lab-1"` {
		t.Errorf("HEAD: %v %q", answer, body)
	}
	if answer, body = b.get(t, "GET", site+"/chunked", nil); body != "chunk 0\nchunk 1\nchunk 2\n" || answer.ContentLength != -1 || answer.Trailer.Get("X-Lab-Trailer") != "the end" {
		t.Errorf("/chunked: %v %q, trailers %v", answer, body, answer.Trailer)
	}
	sent := strings.Repeat("an upload of some length ", 40000)
	if _, body = b.get(t, "POST", site+"/upload", strings.NewReader(sent)); body != sent {
		t.Errorf("/upload: sent %d bytes, got %d back", len(sent), len(body))
	}
	if answer, body = b.get(t, "GET", site+"/events?n=2", nil); body != "id: 0\ndata: event 0\n\nid: 1\ndata: event 1\n\n" || answer.Header.Get("Content-Type") != "text/event-stream" {
		t.Errorf("/events: %v %q", answer, body)
	}
	const size = 20 << 20
	if _, body = b.get(t, "GET", fmt.Sprintf("%s/big?size=%d", site, size), nil); sha256.Sum256([]byte(body)) != bigSum(size) {
		t.Errorf("/big: %d bytes, not what was sent", len(body))
	}
	if answer, _ = b.get(t, "GET", site+"/nowhere", nil); answer.StatusCode != 404 {
		t.Errorf("/nowhere: %v", answer)
	}
}

func checkRequests(t *testing.T, l ledger) {
	t.Helper()
	var got []string
	for _, r := range l.all(audit.HTTPRequest) {
		got = append(got, fmt.Sprint(r.Method, " ", r.Path, " ", r.Code))
		if r.Reason != "" || r.Host != chatHost {
			t.Errorf("http.request: %s", r)
		}
	}
	if strings.Join(got, ", ") != strings.Join(webRequests, ", ") {
		t.Errorf("recorded %q, expected %q", got, webRequests)
	}
}

// bigSum is the digest of the origin's /big.
func bigSum(size int) [sha256.Size]byte {
	b := make([]byte, size)
	for i := range b {
		b[i] = byte('a' + i%(32<<10)%26)
	}
	return sha256.Sum256(b)
}
