package mitm

import (
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"framegate/audit"
	"framegate/mitm/chain"
	"framegate/policy"
)

// fronted allows other hosts on connections for the origin.
const fronted = "[[connection]]\nid = \"many\"\nhost = [\"" + originName + "\"]\ndecision = \"inspect\"\nfronting = \"allow\"\n"

// The Host decides what the server serves, so it has to be the name by which
// the connection was judged.
func TestNamesAgree(t *testing.T) {
	var asked atomic.Int32
	o := newHTTPOrigin(t, secure("valid"), http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	const other = "www." + originName // of the same certificate
	for _, tt := range []struct {
		name, rules, sni, request string
		reason                    string // "": served
	}{
		{"same", "", originName, "GET / HTTP/1.1\r\nHost: " + originName + "\r\n\r\n", ""},
		{"case", "", originName, "GET / HTTP/1.1\r\nHost: " + strings.ToUpper(originName) + "\r\n\r\n", ""},
		{"port", "", originName, "GET / HTTP/1.1\r\nHost: " + originName + ":443\r\n\r\n", ""},
		{"trailing dot", "", originName, "GET / HTTP/1.1\r\nHost: " + originName + ".:443\r\n\r\n", ""},
		{"two trailing dots", "", originName, "GET / HTTP/1.1\r\nHost: " + originName + "..\r\n\r\n", hostFronting},
		{"SNI in capitals", "", "ORIGIN.Test", "GET / HTTP/1.1\r\nHost: " + originName + "\r\n\r\n", ""},
		{"absolute target", "", originName, "GET https://" + originName + "/ HTTP/1.1\r\nHost: " + originName + "\r\n\r\n", ""},
		{"absolute target of another", "", originName, "GET https://" + other + "/ HTTP/1.1\r\nHost: " + other + "\r\n\r\n", hostFronting},
		{"no Host", "", originName, "GET / HTTP/1.0\r\n\r\n", ""},
		{"fronting", "", originName, "GET / HTTP/1.1\r\nHost: hidden.test\r\n\r\n", hostFronting},
		{"another of the certificate", "", originName, "GET / HTTP/1.1\r\nHost: " + other + "\r\n\r\n", hostFronting},
		{"address of the certificate", "", originName, "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", hostFronting},
		{"below", "", originName, "GET / HTTP/1.1\r\nHost: a." + originName + "\r\n\r\n", hostFronting},

		{"allowed", fronted, originName, "GET / HTTP/1.1\r\nHost: " + other + "\r\n\r\n", ""},
		{"allowed, address", fronted, originName, "GET / HTTP/1.1\r\nHost: 127.0.0.1:443\r\n\r\n", ""},
		{"allowed, not certified", fronted, originName, "GET / HTTP/1.1\r\nHost: hidden.test\r\n\r\n", hostNotCertified},
		{"allowed, another address", fronted, originName, "GET / HTTP/1.1\r\nHost: 127.0.0.2\r\n\r\n", hostNotCertified},
		{"allowed on other connections", fronted, other, "GET / HTTP/1.1\r\nHost: " + originName + "\r\n\r\n", hostFronting},

		{"no SNI", "", "", "GET / HTTP/1.1\r\nHost: " + other + "\r\n\r\n", ""},
		{"no SNI, address", "", "", "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", ""},
		{"no SNI, not certified", "", "", "GET / HTTP/1.1\r\nHost: hidden.test\r\n\r\n", hostNotCertified},
		{"no SNI, IPv6", "", "", "GET / HTTP/1.1\r\nHost: [::1]:443\r\n\r\n", hostNotCertified},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := newGateway(t, o.addr, tt.rules)
			asked.Store(0)
			config := g.trust(tt.sni)
			if tt.sni == "" {
				config.InsecureSkipVerify = true
			}
			c := g.dialTLS(config)
			send(t, c, tt.request)
			status, body := answer(t, newReader(c))
			c.Close()
			end := g.ended(1)
			e := g.ledger.of(audit.HTTPRequest)
			if len(e) != 1 {
				t.Fatalf("%s", g.ledger)
			}
			if tt.reason == "" {
				if status != 200 || end.State != audit.StateInspected || e[0].Action != "" {
					t.Errorf("%d %q\n%s", status, body, g.ledger)
				}
				return
			}
			if status != 421 || !strings.HasPrefix(body, "framegate: "+tt.reason+": ") {
				t.Errorf("%d %q", status, body)
			}
			if e[0].Code != 421 || e[0].Action != "block" || !strings.HasPrefix(e[0].Reason, tt.reason+": ") || e[0].Host == e[0].SNI {
				t.Errorf("%+v", e[0])
			}
			if end.State != audit.StateBlocked {
				t.Errorf("%+v", end)
			}
			if asked.Load() > 0 {
				t.Error("the server was asked")
			}
		})
	}
}

// Every request of a connection is looked at, a WebSocket as well, and a rule
// that is in force by then.
func TestNamesAgreeLater(t *testing.T) {
	var hosts []string
	o := newHTTPOrigin(t, secure("valid"), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hosts = append(hosts, r.Host)
	}))
	g := newGateway(t, o.addr, fronted)
	c := g.dialTLS(g.trust(originName))
	for _, host := range []string{originName, "www." + originName, originName} {
		if status, _ := get(t, c, host); status != 200 {
			t.Errorf("%s: status %d", host, status)
		}
	}
	g.reload("")
	if status, _ := get(t, c, "www."+originName); status != 421 {
		t.Errorf("status %d", status)
	}
	readAll(t, c)
	if e := g.ended(1); e.State != audit.StateBlocked {
		t.Errorf("%+v", e)
	}
	if want := []string{originName, "www." + originName, originName}; !slices.Equal(hosts, want) {
		t.Errorf("the server served %q", hosts)
	}

	for _, tt := range []struct {
		rules  string
		status int
	}{{"", 421}, {fronted, 404}} {
		s := newStage(t, "wss")
		s.reload(tt.rules)
		client := s.connect()
		client.send(with(upgradeRequest, "Host: www."+originName))
		if tt.status == 421 {
			client.expectAnswer(421)
		} else {
			server := <-s.servers
			server.expect(with(upgradeRequest, "Host: www."+originName))
			server.send("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
			client.expect("HTTP/1.1 404 Not Found\r\n")
		}
		client.Close()
	}
}

// Behind a CONNECT without TLS, the target is the name of the connection.
func TestNamesAgreeTarget(t *testing.T) {
	o := newHTTPOrigin(t, nil, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	allowed := "[[connection]]\nid = \"a\"\nhost = [\"a.example\"]\ndecision = \"inspect\"\nfronting = \"allow\"\n"
	for _, tt := range []struct {
		rules, target, host string
		status              int
	}{
		{"", "a.example", "a.example", 200},
		{"", "A.Example.", "a.example:80", 200},
		{"", "a.example", "b.example", 421},
		{allowed, "a.example", "b.example", 200},
		{allowed, "b.example", "a.example", 421},
		{"", "127.0.0.1", "a.example", 200}, // which names nobody
		{"", "::1", "a.example", 200},
		{"", "", "a.example", 200},
	} {
		g := newGateway(t, o.addr, tt.rules)
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		served := make(chan struct{})
		go func() {
			defer close(served)
			if c, err := ln.Accept(); err == nil {
				g.ServeConn(WithTarget(t.Context(), tt.target), c, o.addr)
			}
		}()
		c, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if status, body := get(t, c, tt.host); status != tt.status {
			t.Errorf("%+v: %d %q", tt, status, body)
		}
		c.Close()
		<-served
		ln.Close()
		if e := g.ended(1); (e.State == audit.StateBlocked) != (tt.status == 421) {
			t.Errorf("%+v: %+v", tt, e)
		}
	}
}

// Whatever a client names where: a request that passes is one for the SNI, and
// without one, or where a rule allows others, one for a name of the server.
func FuzzNamesAgree(f *testing.F) {
	for _, s := range []string{"origin.test", "ORIGIN.test.:443", "origin.test..", "[::1]", "127.0.0.1:443", "origin.test:0x", "www.origin.test", "xn--.", ".", ""} {
		f.Add(originName, s)
		f.Add(s, originName)
	}
	cert := originPKI().cert("valid").Leaf
	var policies []*policy.Policy
	for _, rules := range []string{"", fronted} {
		p, err := policy.Parse("test.toml", []byte(rules))
		if err != nil {
			f.Fatal(err)
		}
		policies = append(policies, p)
	}
	f.Fuzz(func(t *testing.T, sni, host string) {
		if !validHost(host) {
			return // which is refused before
		}
		for i, p := range policies {
			fl := &flow{proxy: &Proxy{Policy: func() *policy.Policy { return p }}, sni: policy.NormalHost(sni), origin: cert}
			form := policy.NormalHost(host)
			status, _ := fl.agree(form)
			if form == "" && host != "" {
				t.Fatalf("Host %q comes to nothing", host)
			}
			passes := form == fl.sni || form == "" || (fl.sni == "" || i == 1 && fl.sni == originName) && chain.Covers(cert, form)
			if (status == 0) != passes {
				t.Fatalf("SNI %q, Host %q: %d", sni, host, status)
			}
			for _, dressed := range []string{strings.ToUpper(form), form + "."} {
				if again, _ := fl.agree(policy.NormalHost(dressed)); again != status && validHost(dressed) && !strings.HasSuffix(form, ".") {
					t.Fatalf("SNI %q, Host %q: %d, as %q: %d", sni, host, status, dressed, again)
				}
			}
		}
	})
}

func TestValidHost(t *testing.T) {
	for _, s := range []string{"", "a", "a.example", "a.example.", "a.example:443", "a.example:", "127.0.0.1:80", "[::1]", "[::1]:443", "[fe80::1%25eth0]", "a_b", "%41"} {
		if !validHost(s) {
			t.Errorf("%q is refused", s)
		}
	}
	for _, s := range []string{":", ":80", ".", ".:80", "::1", "::1:80", "a:b", "a:80:80", "a:80x", "[::1", "[::1]x", "[::1]80", "[::1]:x", "[::1]:80:80", "[[::1]]",
		"[127.0.0.1]", "[a.example]", "[]", "]", "a]", "a[", "user@a", "a/b", "a?b", "a b", "a\x00", "b\xfc"} {
		if validHost(s) {
			t.Errorf("%q is taken", s)
		}
	}
}
