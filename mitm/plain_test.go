package mitm

import (
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"framegate/audit"
)

// explicit serves g.ServePlain as an explicit proxy does, and returns its address.
func explicit(t *testing.T, g *gateway, dst ...netip.AddrPort) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { g.ServePlain(w, r, dst) })}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Serve(ln)
	}()
	t.Cleanup(func() {
		s.Close()
		<-done
	})
	return ln.Addr().String()
}

// through sends one request to an explicit proxy and returns the answer.
func through(t *testing.T, proxy, request string) (status int, body string) {
	t.Helper()
	c, err := net.Dial("tcp", proxy)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	send(t, c, request)
	return answer(t, newReader(c))
}

func TestServePlain(t *testing.T) {
	o := newHTTPOrigin(t, nil, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, name := range []string{"Proxy-Connection", "Proxy-Authorization", "User-Agent", "X-Hop", "Upgrade"} {
			if v, ok := r.Header[name]; ok {
				t.Errorf("the server got %s: %s", name, v)
			}
		}
		io.WriteString(w, r.Host+r.RequestURI+" ")
		io.Copy(w, r.Body)
	}))
	g := newGateway(t, o.addr, connectionRule("block", `host = ["blocked.test"]`))
	dead := unreachable(t)
	proxy := explicit(t, g, dead, o.addr)

	status, body := through(t, proxy, "POST http://plain.test:80/a%2Fb//c?d HTTP/1.1\r\nHost: ignored.test\r\n"+
		"Proxy-Connection: keep-alive\r\nProxy-Authorization: Basic x\r\nConnection: X-Hop\r\nX-Hop: 1\r\nContent-Length: 4\r\n\r\nbody")
	if status != 200 || body != "plain.test:80/a%2Fb//c?d body" {
		t.Errorf("%d %q", status, body)
	}
	e := g.ended(1)
	if e.State != audit.StateInspected || e.Host != "plain.test" || e.Server != o.addr || !e.Client.IsValid() {
		t.Errorf("%+v", e)
	}
	if list := g.ledger.of(audit.HTTPRequest); len(list) != 1 || list[0].Method != "POST" || list[0].Path != "/a%2Fb//c" || list[0].Code != 200 {
		t.Errorf("%+v", list)
	}
	if got, want := g.destinations(), []string{dead.String(), o.addr.String()}; len(got) != 2 || !slices.Contains(want, got[0]) || !slices.Contains(want, got[1]) {
		t.Errorf("dialled %v, want %v", got, want)
	}

	n := len(o.conns())
	if status, _ := through(t, proxy, "GET http://blocked.test/ HTTP/1.1\r\nHost: blocked.test\r\n\r\n"); status != 403 {
		t.Errorf("status %d for a host that is blocked", status)
	}
	if e := g.ended(2); e.State != audit.StateBlocked || !slices.Equal(e.Rules, []string{"test"}) {
		t.Errorf("%+v", e)
	}
	if status, _ := through(t, proxy, "GET http://plain.test/ HTTP/1.1\r\nHost: plain.test\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\n\r\n"); status != 400 {
		t.Errorf("status %d for an upgrade", status)
	}
	g.ended(3)
	if len(o.conns()) != n {
		t.Error("a refused request has reached the server")
	}

	status, _ = through(t, explicit(t, g, dead), "GET http://plain.test/ HTTP/1.1\r\nHost: plain.test\r\n\r\n")
	if status != 502 {
		t.Errorf("status %d for a server that cannot be reached", status)
	}
	g.ended(4)
	if list := g.ledger.of(audit.HTTPRequest); len(list) != 4 || list[3].Code != 502 || !strings.Contains(list[3].Reason, "refused") {
		t.Errorf("%s", g.ledger)
	}
}
