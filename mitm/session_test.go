package mitm

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"framegate/audit"
	"framegate/mitm/chain"
)

// A resumer calls one server again and again and sees what is resumed.
type resumer struct {
	*gateway
	t        *testing.T
	trust    atomic.Pointer[chain.Trust]
	client   *tls.Config
	upstream atomic.Bool // the last session with the server was resumed
	calls    int
}

func newResumer(t *testing.T, version uint16, server *tls.Config, trust *chain.Trust) *resumer {
	r := &resumer{t: t}
	r.trust.Store(trust)
	server.MaxVersion = version
	o := newHTTPOrigin(t, server, http.HandlerFunc(func(_ http.ResponseWriter, q *http.Request) { r.upstream.Store(q.TLS.DidResume) }))
	r.gateway = newGateway(t, o.addr, "", func(p *Proxy) { p.Trust = r.trust.Load })
	r.client = r.gateway.trust(originName)
	r.client.MaxVersion = version
	r.client.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	return r
}

// call makes a connection and a request, and fails the test unless both legs
// are resumed, or neither.
func (r *resumer) call(want bool) {
	r.t.Helper()
	c := r.dialTLS(r.client)
	if status, _ := get(r.t, c, originName); status != 200 {
		r.t.Errorf("status %d", status)
	}
	if client, server := c.ConnectionState().DidResume, r.upstream.Load(); client != want || server != want {
		r.t.Errorf("resumed: with the client %v, with the server %v, want %v", client, server, want)
	}
	c.Close()
	r.calls++
	r.ended(r.calls)
}

// Nothing is resumed on either leg that was opened under another policy, other
// roots, lists or authority: all of which change the version of the trust.
func TestResumptionEnds(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			roots := originPKI().roots
			r := newResumer(t, version, secure("valid"), &chain.Trust{Roots: roots, Version: "1"})
			r.call(false)
			r.call(true)
			r.trust.Store(&chain.Trust{Roots: roots, Version: "2"})
			r.call(false)
			r.call(true)
			r.reload("[policy]\nname = \"another\"")
			r.call(false)
			r.call(true)
		})
	}
}

// A server that is not trusted any more is refused, though there is a session
// with it.
func TestResumptionVerifies(t *testing.T) {
	p := newBadPKI(t)
	cert := p.issue(x509.Certificate{DNSNames: []string{originName}}, &p.root)
	r := newResumer(t, tls.VersionTLS13, &tls.Config{Certificates: []tls.Certificate{cert}}, &chain.Trust{Roots: p.roots, Version: "1"})
	r.call(false)
	r.call(true)
	r.trust.Store(&chain.Trust{Roots: p.roots, Version: "2", CRLs: []*chain.CRL{p.list(p.root, time.Now().Add(time.Hour), cert)}})
	err := tls.Client(r.dial(), r.client).Handshake()
	if want := tls.AlertError(chain.Revoked.Alert()); err == nil || !strings.Contains(err.Error(), want.Error()) {
		t.Errorf("client: %v, want alert %v", err, want)
	}
	if e := r.ended(r.calls + 1); e.State != audit.StateFailed || !strings.HasPrefix(e.Reason, string(chain.Revoked)+": ") {
		t.Errorf("%+v", e)
	}
}

// A session rests on what ends first; past that there is nothing to resume.
func TestSessionEnds(t *testing.T) {
	p := newBadPKI(t)
	cert := p.issue(x509.Certificate{DNSNames: []string{originName}}, &p.root)
	// By the staple, the session may be used for less than no time.
	cert.OCSPStaple = p.staple(&cert, p.root, ocsp.Response{Status: ocsp.Good, NextUpdate: time.Now().Add(time.Second).Truncate(time.Second)})
	verified, err := (&chain.Trust{Roots: p.roots}).Verify([]*x509.Certificate{cert.Leaf}, originName, cert.OCSPStaple, time.Now().Add(-2*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	if want := cert.Leaf.NotAfter; !verified.Until.Before(want) {
		t.Errorf("verified until %v, want the end of the staple before %v", verified.Until, want)
	}
	state := sessionWith(t, cert)
	cache := &serverSessions{tls.NewLRUClientSessionCache(2), "key", &chain.Verified{Chain: verified.Chain, Until: time.Now().Add(-time.Second)}}
	cache.Put("", state)
	if _, ok := cache.Get(""); ok {
		t.Error("a session that has ended is resumed")
	}
	cache.verified.Until = time.Now().Add(time.Hour)
	cache.Put("", state)
	if _, ok := cache.Get(""); !ok {
		t.Error("a session is not resumed")
	}
	another := &serverSessions{cache.cache, "another key", cache.verified}
	if _, ok := another.Get(""); ok {
		t.Error("the session of another server is resumed")
	}
	cache.Put("", nil)
	if _, ok := cache.Get(""); ok {
		t.Error("a session that was taken back is resumed")
	}
}

// What a server fills up its session with is not kept.
func TestSessionSize(t *testing.T) {
	p := newBadPKI(t)
	for names, want := range map[int]bool{100: true, 1000: false} {
		cert := x509.Certificate{DNSNames: []string{originName}}
		for i := range names {
			cert.DNSNames = append(cert.DNSNames, fmt.Sprintf("%d.%s", i, originName))
		}
		issued := p.issue(cert, &p.root)
		verified := &chain.Verified{Chain: []*x509.Certificate{issued.Leaf}, Until: time.Now().Add(time.Hour)}
		cache := &serverSessions{tls.NewLRUClientSessionCache(1), "key", verified}
		cache.Put("", sessionWith(t, issued))
		if _, ok := cache.Get(""); ok != want {
			t.Errorf("%d names: kept is %v, want %v", names, ok, want)
		}
	}
}

// sessionWith opens a session with a server that has this certificate.
func sessionWith(t *testing.T, cert tls.Certificate) *tls.ClientSessionState {
	t.Helper()
	o := newHTTPOrigin(t, &tls.Config{Certificates: []tls.Certificate{cert}, MaxVersion: tls.VersionTLS12}, http.NotFoundHandler())
	cache := tls.NewLRUClientSessionCache(1)
	c, err := tls.Dial("tcp", o.addr.String(), &tls.Config{InsecureSkipVerify: true, ServerName: originName, ClientSessionCache: cache, MaxVersion: tls.VersionTLS12})
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	state, ok := cache.Get(originName)
	if !ok {
		t.Fatal("no session")
	}
	return state
}

// The server is offered what the client offered, as far as it is safe.
func TestOffer(t *testing.T) {
	const weak = tls.TLS_RSA_WITH_AES_128_CBC_SHA
	strong, other := tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256
	for _, tt := range []struct {
		name     string
		versions []uint16
		suites   []uint16
		groups   []tls.CurveID
		protos   []string
		want     offer
		err      error
	}{
		{"both versions", []uint16{0x0304, 0x0303, 0x0302, 0x0301}, []uint16{0x1301, other, strong, weak}, []tls.CurveID{tls.X25519, 0x0100}, nil,
			offer{0x0303, 0x0304, []uint16{strong, other}, []tls.CurveID{tls.X25519}}, nil},
		{"1.3 only", []uint16{0x0304}, []uint16{0x1301}, []tls.CurveID{tls.X25519MLKEM768, tls.CurveP256}, []string{"h2", "http/1.1"},
			offer{0x0304, 0x0304, nil, []tls.CurveID{tls.X25519MLKEM768, tls.CurveP256}}, nil},
		{"1.2 only", []uint16{0x0303}, []uint16{strong}, nil, nil, offer{0x0303, 0x0303, []uint16{strong}, nil}, nil},
		{"weak suites of 1.2", []uint16{0x0304, 0x0303}, []uint16{0x1301, weak}, nil, nil, offer{0x0304, 0x0304, nil, nil}, nil},
		{"GREASE", []uint16{0x7a7a, 0x0303}, []uint16{0x7a7a, strong}, []tls.CurveID{0x7a7a, tls.CurveP384}, nil, offer{0x0303, 0x0303, []uint16{strong}, []tls.CurveID{tls.CurveP384}}, nil},
		{"too old", []uint16{0x0302, 0x0301}, []uint16{strong}, nil, nil, offer{}, errNoVersion},
		{"weak only", []uint16{0x0303}, []uint16{weak}, nil, nil, offer{}, errNoSuite},
		{"unknown groups", []uint16{0x0304}, []uint16{0x1301}, []tls.CurveID{0x0100}, nil, offer{}, errNoGroup},
		{"no http/1.1", []uint16{0x0304}, []uint16{0x1301}, nil, []string{"h2"}, offer{}, errNoProtocol},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := offerOf(&tls.ClientHelloInfo{SupportedVersions: tt.versions, CipherSuites: tt.suites, SupportedCurves: tt.groups, SupportedProtos: tt.protos})
			if !errors.Is(err, tt.err) {
				t.Fatalf("%v, want %v", err, tt.err)
			}
			if err != nil {
				return
			}
			slices.Sort(got.suites)
			slices.Sort(tt.want.suites)
			if got.min != tt.want.min || got.max != tt.want.max || !slices.Equal(got.suites, tt.want.suites) || !slices.Equal(got.groups, tt.want.groups) {
				t.Errorf("%+v\nwant %+v", got, tt.want)
			}
		})
	}
}

// What a server sees of us is what the client would have shown it.
func TestOfferOnTheWire(t *testing.T) {
	for _, tt := range []struct {
		name   string
		adjust func(*tls.Config)
	}{
		{"all", func(*tls.Config) {}},
		{"post-quantum", func(c *tls.Config) {
			c.MinVersion, c.CurvePreferences = tls.VersionTLS13, []tls.CurveID{tls.X25519MLKEM768}
		}},
		{"1.2, one suite, one curve", func(c *tls.Config) {
			c.MaxVersion = tls.VersionTLS12
			c.CipherSuites = []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384}
			c.CurvePreferences = []tls.CurveID{tls.CurveP384}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			seen := make(chan *tls.ClientHelloInfo, 1)
			server := secure("valid")
			server.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) { seen <- h; return nil, nil }
			o := newHTTPOrigin(t, server, http.NotFoundHandler())
			g := newGateway(t, o.addr, "")
			client := g.trust(originName)
			tt.adjust(client)
			c := g.dialTLS(client)
			state := c.ConnectionState()
			c.Close()
			h := <-seen
			if want := versionsOf(client); !slices.Equal(h.SupportedVersions, want) {
				t.Errorf("versions %x, the client's are %x", h.SupportedVersions, want)
			}
			if client.CurvePreferences != nil && !slices.Equal(h.SupportedCurves, client.CurvePreferences) {
				t.Errorf("groups %v, the client's are %v", h.SupportedCurves, client.CurvePreferences)
			}
			if client.CurvePreferences == nil && !slices.Contains(h.SupportedCurves, tls.X25519MLKEM768) {
				t.Errorf("groups %v, none of them post-quantum", h.SupportedCurves)
			}
			if client.CipherSuites != nil && !slices.Equal(h.CipherSuites, client.CipherSuites) {
				t.Errorf("suites %x, the client's are %x", h.CipherSuites, client.CipherSuites)
			}
			if client.CurvePreferences != nil && state.CurveID != client.CurvePreferences[0] {
				t.Errorf("the client's leg has %v", state.CurveID)
			}
		})
	}
}

func versionsOf(c *tls.Config) []uint16 {
	all := []uint16{tls.VersionTLS13, tls.VersionTLS12}
	return slices.DeleteFunc(all, func(v uint16) bool { return c.MinVersion > v || c.MaxVersion != 0 && c.MaxVersion < v })
}

// A ticket is good for the leaf that the client was shown: another one, for
// another certificate of the server, or because the first has ended, has to be
// shown in its turn.
func TestTicketIsForTheLeaf(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			e := &epoch{tickets: new(tls.Config)}
			shown := make([]*tls.Config, 2)
			for i := range shown {
				leaf := originPKI().cert("valid")
				shown[i] = &tls.Config{Certificates: []tls.Certificate{leaf}, MaxVersion: version}
				e.resumable(shown[i], &leaf)
			}
			var with atomic.Int32
			o := newHTTPOrigin(t, &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return shown[with.Load()], nil }}, http.NotFoundHandler())
			client := &tls.Config{RootCAs: originPKI().roots, ServerName: originName, ClientSessionCache: tls.NewLRUClientSessionCache(1)}
			for i, call := range []struct {
				leaf   int32
				resume bool
			}{{0, false}, {0, true}, {0, true}, {1, false}, {1, true}, {0, false}} {
				with.Store(call.leaf)
				c, err := tls.Dial("tcp", o.addr.String(), client)
				if err != nil {
					t.Fatal(err)
				}
				if status, _ := get(t, c, originName); status != 404 { // and the tickets of TLS 1.3 were read
					t.Errorf("status %d", status)
				}
				if got := c.ConnectionState().DidResume; got != call.resume {
					t.Errorf("call %d: resumed %v", i, got)
				}
				c.Close()
			}
		})
	}
}

// All who are shown a leaf share what crypto/tls keeps for it, and that goes with
// the leaf.
func TestConfigIsForTheLeaf(t *testing.T) {
	e := &epoch{tickets: new(tls.Config), clients: new(sync.Map)}
	leaves := make([]*tls.Certificate, 2)
	for i := range leaves {
		leaf := originPKI().cert("valid")
		leaves[i] = &leaf
	}
	first := e.forClients(leaves[0])
	if e.forClients(leaves[0]) != first {
		t.Error("two configurations for one leaf")
	}
	if e.forClients(leaves[1]) == first {
		t.Error("one configuration for two leaves")
	}
	kept := func() (n int) {
		e.clients.Range(func(any, any) bool { n++; return true })
		return n
	}
	if n := kept(); n != 2 {
		t.Errorf("%d configurations are kept, want 2", n)
	}
	leaves[1] = nil
	if !settles(func() bool { runtime.GC(); return kept() == 1 }) {
		t.Errorf("%d configurations are kept, want 1", kept())
	}
	runtime.KeepAlive(leaves)
}
