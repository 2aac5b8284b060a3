package mitm

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"testing"
	"time"

	"framegate/mitm/chain"
)

// originName is the name of every origin's certificate but a wrong one.
const originName = "origin.test"

// A pki is what the origins of the tests are certified by.
type pki struct {
	roots *x509.CertPool
	trust *chain.Trust
	root  tls.Certificate
	other tls.Certificate // a root that nobody trusts
}

var originPKI = sync.OnceValue(func() *pki {
	p := &pki{roots: x509.NewCertPool()}
	ca := x509.Certificate{
		Subject: pkix.Name{CommonName: "test root"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	p.root = issue(ca, nil)
	p.other = issue(ca, nil)
	p.roots.AddCert(p.root.Leaf)
	p.trust = &chain.Trust{Roots: p.roots}
	return p
})

// issue makes a certificate with a new key; by nil, it is self-signed.
func issue(c x509.Certificate, by *tls.Certificate) tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	c.SerialNumber, _ = rand.Int(rand.Reader, big.NewInt(1<<62))
	if by == nil {
		by = &tls.Certificate{Leaf: &c, PrivateKey: key}
	}
	der, err := x509.CreateCertificate(rand.Reader, &c, by.Leaf, key.Public(), by.PrivateKey)
	if err != nil {
		panic(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// cert returns an origin's certificate: "valid", "expired", "not-yet",
// "wrong-name", "untrusted" or "self-signed".
func (p *pki) cert(kind string) tls.Certificate {
	c := x509.Certificate{
		Subject: pkix.Name{CommonName: originName}, DNSNames: []string{originName, "www." + originName},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage:    x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	by := &p.root
	switch kind {
	case "valid":
	case "expired":
		c.NotAfter = time.Now().Add(-time.Minute)
	case "not-yet":
		c.NotBefore = time.Now().Add(time.Minute)
	case "wrong-name":
		c.DNSNames, c.IPAddresses = []string{"another.test"}, nil
	case "untrusted":
		by = &p.other
	case "self-signed":
		by = nil
	default:
		panic(kind)
	}
	return issue(c, by)
}

// secure is the configuration of an origin with such a certificate.
func secure(kind string) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{originPKI().cert(kind)}}
}

// An origin is a server on loopback that keeps what it received.
type origin struct {
	addr netip.AddrPort

	mu    sync.Mutex
	taps  []*tap
	wait  sync.WaitGroup
	close func()
}

// newOrigin starts a server that handles each connection with serve, and then
// closes it. It ends with the test.
func newOrigin(t testing.TB, serve func(c *tap)) *origin {
	t.Helper()
	o, ln := listenOrigin(t)
	o.wait.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			o.wait.Go(func() {
				defer c.Close()
				serve(c.(*tap))
			})
		}
	})
	return o
}

// newHTTPOrigin starts an HTTP server, with TLS if config is not nil.
func newHTTPOrigin(t testing.TB, config *tls.Config, h http.Handler) *origin {
	t.Helper()
	o, ln := listenOrigin(t)
	s := &http.Server{Handler: h, ErrorLog: log.New(io.Discard, "", 0)}
	if config != nil {
		config.NextProtos = []string{"http/1.1"}
		ln = tls.NewListener(ln, config)
	}
	o.close = func() { s.Close() }
	o.wait.Go(func() { s.Serve(ln) })
	return o
}

func listenOrigin(t testing.TB) (*origin, net.Listener) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o := &origin{addr: addrPort(ln.Addr()), close: func() {}}
	t.Cleanup(func() {
		ln.Close()
		o.close()
		for _, c := range o.conns() {
			c.Close()
		}
		o.wait.Wait()
	})
	return o, tapListener{ln, o}
}

// conns returns the connections that the origin has accepted.
func (o *origin) conns() []*tap {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]*tap(nil), o.taps...)
}

// received returns what came on all connections.
func (o *origin) received() string {
	var b []byte
	for _, c := range o.conns() {
		b = append(b, c.received()...)
	}
	return string(b)
}

type tapListener struct {
	net.Listener
	origin *origin
}

func (l tapListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c.SetDeadline(time.Now().Add(patience))
	w := &tap{TCPConn: c.(*net.TCPConn)}
	l.origin.mu.Lock()
	l.origin.taps = append(l.origin.taps, w)
	l.origin.mu.Unlock()
	return w, nil
}

// A tap is a connection that keeps what was read from it and written to it.
type tap struct {
	*net.TCPConn

	mu      sync.Mutex
	in, out bytes.Buffer
}

func (c *tap) Read(p []byte) (int, error) {
	n, err := c.TCPConn.Read(p)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.in.Write(p[:n])
	return n, err
}

func (c *tap) Write(p []byte) (int, error) {
	n, err := c.TCPConn.Write(p)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.out.Write(p[:n])
	return n, err
}

// ReadFrom and WriteTo hide those of TCPConn, which would pass the tap by.
func (c *tap) ReadFrom(r io.Reader) (int64, error) { return io.Copy(struct{ io.Writer }{c}, r) }
func (c *tap) WriteTo(w io.Writer) (int64, error)  { return io.Copy(w, struct{ io.Reader }{c}) }

func (c *tap) received() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.in.String()
}

func (c *tap) sent() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.out.String()
}
