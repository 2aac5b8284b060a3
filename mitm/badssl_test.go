package mitm

import (
	"bytes"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"framegate/audit"
	"framegate/mitm/chain"
)

const badDomain = ".badssl.test"

// A badHost is one name of the replica.
type badHost struct {
	name   string
	code   string         // reason of tls.fail; "": the host is served
	alert  tls.AlertError // to the client
	config *tls.Config
}

// badHosts are the hosts of badssl.com (github.com/chromium/badssl.com, domains/)
// that are about TLS and not about what a page says, and some that it lacks.
// Those about keys and trust that differ by nothing but who leaked a key stand
// side by side.
func badHosts(p *badPKI) []badHost {
	var hosts []badHost
	name := func(host string) x509.Certificate {
		return x509.Certificate{Subject: pkix.Name{CommonName: host + badDomain}, DNSNames: []string{host + badDomain}}
	}
	add := func(host string, code chain.Code, c tls.Certificate, behind ...tls.Certificate) *tls.Config {
		for _, b := range behind {
			c.Certificate = append(c.Certificate, b.Certificate...)
		}
		config := &tls.Config{Certificates: []tls.Certificate{c}}
		var alert byte
		if code != "" {
			alert = code.Alert()
		}
		hosts = append(hosts, badHost{host, string(code), tls.AlertError(alert), config})
		return config
	}
	// leaf is a certificate in good order save for what change does.
	leaf := func(host string, change func(*x509.Certificate)) tls.Certificate {
		c := name(host)
		if change != nil {
			change(&c)
		}
		return p.issue(c, &p.middle)
	}
	fails := func(host string, config *tls.Config) {
		c := leaf(host, func(c *x509.Certificate) { c.PublicKey = rsaKey(p.t, 2048) })
		c.Certificate = append(c.Certificate, p.middle.Certificate...)
		config.Certificates = []tls.Certificate{c}
		hosts = append(hosts, badHost{host, tlsServer, alertHandshakeFailure, config})
	}
	day := 24 * time.Hour

	// certificate
	add("expired", chain.Expired, leaf("expired", func(c *x509.Certificate) { c.NotBefore, c.NotAfter = time.Now().Add(-2*day), time.Now().Add(-day) }), p.middle)
	add("not-yet-valid", chain.NotYetValid, leaf("not-yet-valid", func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) }), p.middle)
	add("wrong.host", chain.NameMismatch, leaf("host", nil), p.middle) // *.badssl.com does not cover it either
	add("wrong-wildcard.a", chain.NameMismatch, leaf("*", nil), p.middle)
	add("captive-portal", chain.NameMismatch, leaf("login", nil), p.middle)
	add("self-signed", chain.SelfSigned, p.issue(name("self-signed"), nil))
	add("untrusted-root", chain.Untrusted, p.issue(name("untrusted-root"), &p.rogue), p.rogue)
	for _, host := range []string{"superfish", "edellroot", "dsdtestprovider", "preact-cli", "webpack-dev-server", "mitm-software", "known-interception", "blocked-interception"} {
		add(host, chain.Untrusted, p.issue(name(host), &p.rogue))
	}
	add("incomplete-chain", chain.IncompleteChain, leaf("incomplete-chain", func(c *x509.Certificate) { c.IssuingCertificateURL = []string{"http://pki.test/i.crt"} }))
	add("wrong-chain", chain.IncompleteChain, leaf("wrong-chain", nil), p.rogue)
	add("no-san", chain.NoSAN, leaf("no-san", func(c *x509.Certificate) { c.DNSNames = nil }), p.middle)
	add("critical-extension", chain.CriticalExtension, leaf("critical-extension", func(c *x509.Certificate) {
		c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 1}, Critical: true, Value: []byte{5, 0}}}
	}), p.middle)
	add("code-signing", chain.EKU, leaf("code-signing", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning} }), p.middle)
	add("any-purpose", chain.EKU, leaf("any-purpose", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} }), p.middle)
	add("key-usage", chain.KeyUsage, leaf("key-usage", func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyAgreement }), p.middle)
	add("a.partial", chain.Wildcard, p.issue(x509.Certificate{DNSNames: []string{"a*.partial" + badDomain, "*" + badDomain}}, &p.middle), p.middle)
	add("a.inner.wildcard", chain.Wildcard, p.issue(x509.Certificate{DNSNames: []string{"a.*.wildcard" + badDomain}}, &p.middle), p.middle)
	add("star", chain.Wildcard, p.issue(x509.Certificate{DNSNames: []string{"*", "*.test"}}, &p.middle), p.middle)

	// who issued it
	oldCA, purpose, narrow, short, foreign := p.authority("expired CA"), p.authority("code signing CA"), p.authority("narrow CA"), p.authority("short CA"), name("server")
	oldCA.NotBefore, oldCA.NotAfter = time.Now().Add(-2*day), time.Now().Add(-day)
	purpose.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}
	narrow.PermittedDNSDomainsCritical, narrow.PermittedDNSDomains = true, []string{"permitted.test"}
	short.MaxPathLenZero = true
	foreign.KeyUsage = x509.KeyUsageDigitalSignature
	for _, tt := range []struct {
		host string
		code chain.Code
		ca   x509.Certificate
	}{
		{"expired-intermediate", chain.Expired, oldCA},
		{"eku-intermediate", chain.EKU, purpose},
		{"name-constraints", chain.NameConstraint, narrow},
		{"not-a-ca", chain.NotCA, foreign},
		{"rsa1024-intermediate", chain.WeakKey, func() x509.Certificate { c := p.authority("weak CA"); c.PublicKey = rsaKey(p.t, 1024); return c }()},
	} {
		by := p.issue(tt.ca, &p.middle)
		add(tt.host, tt.code, p.issue(name(tt.host), &by), by, p.middle)
	}
	shortCA := p.issue(short, &p.middle)
	below := p.issue(p.authority("too deep"), &shortCA)
	add("path-length", chain.PathLength, p.issue(name("path-length"), &below), below, shortCA, p.middle)

	// keys and signatures
	rsaCA := p.authority("RSA CA")
	rsaCA.PublicKey = rsaKey(p.t, 2048)
	byRSA := p.issue(rsaCA, &p.middle)
	signed := func(host string, a x509.SignatureAlgorithm) tls.Certificate {
		c := name(host)
		c.SignatureAlgorithm = a
		return p.issue(c, &byRSA)
	}
	for _, host := range []string{"sha1", "sha1-2016", "sha1-2017"} {
		add(host, chain.WeakSignature, signed(host, x509.SHA1WithRSA), byRSA, p.middle)
	}
	sha1CA := p.authority("SHA-1 CA")
	sha1CA.SignatureAlgorithm = x509.SHA1WithRSA
	bySHA1 := p.issue(sha1CA, &byRSA)
	add("sha1-intermediate", chain.WeakSignature, p.issue(name("sha1-intermediate"), &bySHA1), bySHA1, byRSA, p.middle)
	add("md5", chain.WeakSignature, p.withMD5(signed("md5", x509.SHA1WithRSA), &byRSA), byRSA, p.middle)
	add("rsa1024", chain.WeakKey, leaf("rsa1024", func(c *x509.Certificate) { c.PublicKey = rsaKey(p.t, 1024) }), p.middle)
	forged := p.authority("replica intermediate") // its name, another key
	byForged := p.issue(forged, &p.rogue)
	add("bad-signature", chain.BadSignature, p.issue(name("bad-signature"), &byForged), p.middle)
	for host, a := range map[string]x509.SignatureAlgorithm{"sha256": x509.SHA256WithRSA, "sha384": x509.SHA384WithRSA, "sha512": x509.SHA512WithRSA} {
		add(host, "", signed(host, a), byRSA, p.middle)
	}
	for _, bits := range []int{2048, 3072, 4096, 8192} {
		host := fmt.Sprintf("rsa%d", bits)
		add(host, "", leaf(host, func(c *x509.Certificate) { c.PublicKey = rsaKey(p.t, bits) }), p.middle)
	}
	add("ecc256", "", leaf("ecc256", nil), p.middle)
	add("ecc384", "", leaf("ecc384", func(c *x509.Certificate) { c.PublicKey = p.ec(elliptic.P384()) }), p.middle)

	// oddities that browsers take
	for _, n := range []int{1000, 10000} {
		host := fmt.Sprintf("%d-sans", n)
		add(host, "", leaf(host, func(c *x509.Certificate) {
			for i := range n {
				c.DNSNames = append(c.DNSNames, fmt.Sprintf("%d.t", i))
			}
		}), p.middle)
	}
	deep := p.issue(p.authority("deep CA"), &p.middle)
	add("reversed-chain", "", p.issue(name("reversed-chain"), &deep), p.middle, deep)
	add("no-common-name", "", leaf("no-common-name", func(c *x509.Certificate) { c.Subject = pkix.Name{Organization: []string{"o"}} }), p.middle)
	add("no-subject", "", leaf("no-subject", func(c *x509.Certificate) { c.Subject = pkix.Name{} }), p.middle)
	add("extended-validation", "", leaf("extended-validation", func(c *x509.Certificate) { c.PolicyIdentifiers = []asn1.ObjectIdentifier{{2, 23, 140, 1, 1}} }), p.middle)
	add("xn--n1aae7f7o", "", leaf("xn--n1aae7f7o", nil), p.middle)
	add("wildcard", "", p.issue(x509.Certificate{DNSNames: []string{"*" + badDomain}}, &p.middle), p.middle)

	// revocation
	stapled := func(host string, code chain.Code, change func(*x509.Certificate), r *ocsp.Response) {
		c := leaf(host, change)
		if r != nil {
			c.OCSPStaple = p.staple(&c, p.middle, *r)
		}
		add(host, code, c, p.middle)
	}
	must := func(c *x509.Certificate) {
		c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 24}, Value: []byte{0x30, 3, 2, 1, 5}}}
	}
	stapled("revoked-staple", chain.Revoked, nil, &ocsp.Response{Status: ocsp.Revoked})
	stapled("stale-staple", chain.BadStaple, nil, &ocsp.Response{ThisUpdate: time.Now().Add(-2 * day), NextUpdate: time.Now().Add(-day)})
	stapled("unknown-staple", chain.BadStaple, nil, &ocsp.Response{Status: ocsp.Unknown})
	stapled("no-staple", chain.NoStaple, must, nil)
	stapled("good-staple", "", must, &ocsp.Response{Status: ocsp.Good})
	foreignStaple := leaf("foreign-staple", nil)
	foreignStaple.OCSPStaple = p.staple(&foreignStaple, p.rogue, ocsp.Response{})
	add("foreign-staple", chain.BadStaple, foreignStaple, p.middle)

	// protocol: what the server wants is not offered to it
	fails("tls-v1-0", &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10})
	fails("tls-v1-1", &tls.Config{MinVersion: tls.VersionTLS11, MaxVersion: tls.VersionTLS11})
	for host, suite := range map[string]uint16{
		"rc4": tls.TLS_ECDHE_RSA_WITH_RC4_128_SHA, "3des": tls.TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA, "static-rsa": tls.TLS_RSA_WITH_AES_128_GCM_SHA256,
	} {
		fails(host, &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{suite}})
	}
	tls12 := add("tls-v1-2", "", leaf("tls-v1-2", nil), p.middle)
	tls12.MaxVersion = tls.VersionTLS12
	cbc := add("cbc", "", leaf("cbc", nil), p.middle)
	cbc.MaxVersion, cbc.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}
	return hosts
}

// TestBadSSL: each host of the replica, called through the gateway, is refused
// with the alert and the reason that it deserves and without a leaf, or served.
func TestBadSSL(t *testing.T) {
	p := newBadPKI(t)
	hosts := badHosts(p)
	revoked := p.issue(x509.Certificate{DNSNames: []string{"revoked" + badDomain}}, &p.middle)
	revokedCA := p.issue(p.authority("revoked CA"), &p.root)
	below := p.issue(x509.Certificate{DNSNames: []string{"revoked-intermediate" + badDomain}}, &revokedCA)
	own := p.issue(p.authority("our authority"), nil)
	looped := p.issue(x509.Certificate{DNSNames: []string{"own-root" + badDomain}}, &own)
	for _, c := range []struct {
		host string
		code chain.Code
		cert tls.Certificate
		by   tls.Certificate
	}{
		{"revoked", chain.Revoked, revoked, p.middle}, {"revoked-intermediate", chain.Revoked, below, revokedCA}, {"own-root", chain.OwnRoot, looped, own},
	} {
		c.cert.Certificate = append(c.cert.Certificate, c.by.Certificate...)
		hosts = append(hosts, badHost{c.host, string(c.code), tls.AlertError(c.code.Alert()), &tls.Config{Certificates: []tls.Certificate{c.cert}}})
	}
	soon := time.Now().Add(time.Hour)
	p.roots.AddCert(own.Leaf) // even if somebody made the system trust it
	trust := &chain.Trust{
		Roots: p.roots, Own: []*x509.Certificate{own.Leaf},
		CRLs: []*chain.CRL{p.list(p.middle, soon, revoked), p.list(p.root, soon, revokedCA)},
	}
	byName := map[string]*tls.Config{}
	for _, h := range hosts {
		if byName[h.name+badDomain] != nil {
			t.Fatalf("%s is there twice", h.name)
		}
		byName[h.name+badDomain] = h.config
	}
	o := newHTTPOrigin(t, &tls.Config{GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) { return byName[h.ServerName], nil }},
		http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.TLS.ServerName) }))
	for _, h := range hosts {
		t.Run(h.name, func(t *testing.T) {
			g := newGateway(t, o.addr, "", func(p *Proxy) { p.Trust = func() *chain.Trust { return trust } })
			host := h.name + badDomain
			conn := tls.Client(g.dial(), g.trust(host))
			err := conn.Handshake()
			if h.code == "" {
				if err != nil {
					t.Fatalf("client: %v\n%s", err, g.ledger)
				}
				if status, body := get(t, conn, host); status != 200 || body != host {
					t.Errorf("%d %q", status, body)
				}
				conn.Close()
				if e := g.ended(1); e.State != audit.StateInspected {
					t.Errorf("%+v", e)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), "remote error: "+h.alert.Error()) {
				t.Errorf("client: %v, want alert %v", err, h.alert)
			}
			e := g.ended(1)
			fail := g.ledger.of(audit.TLSFail)
			if e.State != audit.StateFailed || len(fail) != 1 || !strings.HasPrefix(fail[0].Reason, h.code+": ") || fail[0].SNI != host {
				t.Errorf("want the reason %s:\n%s", h.code, g.ledger)
			}
			if n := g.certs.asked.Load(); n > 0 {
				t.Errorf("%d leaves were asked for", n)
			}
		})
	}
}

// TestBadSSLWithoutName: a client that names nobody gets no leaf either for a
// certificate with a wildcard out of place.
func TestBadSSLWithoutName(t *testing.T) {
	p := newBadPKI(t)
	c := p.issue(x509.Certificate{DNSNames: []string{"good.test", "*.com"}}, &p.root)
	o := newHTTPOrigin(t, &tls.Config{Certificates: []tls.Certificate{c}}, http.NotFoundHandler())
	g := newGateway(t, o.addr, "", func(x *Proxy) { x.Trust = func() *chain.Trust { return &chain.Trust{Roots: p.roots} } })
	err := tls.Client(g.dial(), &tls.Config{InsecureSkipVerify: true}).Handshake()
	if want := tls.AlertError(chain.Wildcard.Alert()); err == nil || !strings.Contains(err.Error(), want.Error()) {
		t.Errorf("client: %v, want alert %v", err, want)
	}
	if e := g.ended(1); !strings.HasPrefix(e.Reason, string(chain.Wildcard)+": ") {
		t.Errorf("%+v", e)
	}
}

// oldServers are what no server of Go's is: hosts of badssl.com whose answer to
// a ClientHello is written down.
func TestBadSSLOldServers(t *testing.T) {
	hello := func(version uint16, suite uint16) string {
		body := append([]byte{byte(version >> 8), byte(version)}, make([]byte, 33)...) // random, no session
		body = append(body, byte(suite>>8), byte(suite), 0)
		message := append([]byte{2, 0, 0, byte(len(body))}, body...)
		return string(append([]byte{22, 3, byte(min(version, 0x0303)), 0, byte(len(message))}, message...))
	}
	for name, answer := range map[string]string{
		"ssl-v2":    "\x80\x0b\x04\x00\x01\x00\x02\x00\x00\x00\x00\x00\x00", // SERVER-HELLO
		"ssl-v3":    hello(0x0300, 0x0005),
		"null":      hello(0x0303, 0x003b), // RSA_WITH_NULL_SHA256
		"rc4-md5":   hello(0x0303, 0x0004),
		"dh2048":    hello(0x0303, 0x009e), // DHE_RSA_WITH_AES_128_GCM_SHA256; no size of it is offered
		"anonymous": hello(0x0303, 0x00a6),
		"undefined": hello(0x0305, 0x1301),
		"no TLS":    "HTTP/1.1 400 Bad Request\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			o := newOrigin(t, func(c *tap) {
				io.ReadFull(c, make([]byte, 100))
				io.WriteString(c, answer)
				io.Copy(io.Discard, c)
			})
			g := newGateway(t, o.addr, "")
			err := tls.Client(g.dial(), g.trust(originName)).Handshake()
			if want := tls.AlertError(alertHandshakeFailure); err == nil || !strings.Contains(err.Error(), want.Error()) {
				t.Errorf("client: %v, want alert %v", err, want)
			}
			if e := g.ended(1); e.State != audit.StateFailed || !strings.HasPrefix(e.Reason, tlsServer+": ") {
				t.Errorf("%+v", e)
			}
		})
	}
}

// A certificate that cannot be parsed is refused by crypto/tls itself.
func TestMalformedCertificate(t *testing.T) {
	p := newBadPKI(t)
	c := p.issue(x509.Certificate{DNSNames: []string{originName}}, &p.root)
	signing, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	certified := func(key any) []byte {
		der, err := x509.CreateCertificate(rand.Reader, c.Leaf, p.root.Leaf, key, p.root.PrivateKey)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	for name, tt := range map[string]struct {
		der  []byte
		code chain.Code
	}{
		"garbage":            {slices.Concat(c.Certificate[0][:40], []byte("garbage")), chain.Malformed},
		"truncated":          {c.Certificate[0][:200], chain.Malformed},
		"RSA with 9000 bits": {certified(&rsa.PublicKey{N: new(big.Int).SetBit(big.NewInt(1), 8999, 1), E: 65537}), chain.KeyType},
		"X25519 key": { // RFC 8410, Section 3: one that cannot sign
			bytes.Replace(certified(signing), []byte("\x06\x03\x2b\x65\x70"), []byte("\x06\x03\x2b\x65\x6e"), 1), chain.KeyType},
	} {
		t.Run(name, func(t *testing.T) {
			bad := c
			bad.Certificate, bad.Leaf = [][]byte{tt.der}, nil
			o := newHTTPOrigin(t, &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &bad, nil }}, http.NotFoundHandler())
			g := newGateway(t, o.addr, "")
			err := tls.Client(g.dial(), g.trust(originName)).Handshake()
			if want := tls.AlertError(tt.code.Alert()); err == nil || !strings.Contains(err.Error(), want.Error()) {
				t.Errorf("client: %v, want alert %v", err, want)
			}
			if e := g.ended(1); !strings.HasPrefix(e.Reason, string(tt.code)+": ") {
				t.Errorf("%+v", e)
			}
		})
	}
}

// TestWildcardCoversNoHost: a misplaced wildcard beside the right name does not
// let requests through to names that it would cover.
func TestWildcardCoversNoHost(t *testing.T) {
	p := newBadPKI(t)
	cert := p.issue(x509.Certificate{DNSNames: []string{originName, "*.com"}}, &p.root)
	o := newHTTPOrigin(t, &tls.Config{Certificates: []tls.Certificate{cert}}, http.NotFoundHandler())
	g := newGateway(t, o.addr, "", func(x *Proxy) {
		trust := &chain.Trust{Roots: p.roots}
		x.Trust = func() *chain.Trust { return trust }
	})
	for host, want := range map[string]int{originName: 404, "example.com": 421} {
		c := g.dialTLS(g.trust(originName))
		if status, _ := get(t, c, host); status != want {
			t.Errorf("%s: status %d, want %d", host, status, want)
		}
		c.Close()
	}
}
