package ship

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"framegate/audit"
)

// An authority issues certificates for one test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "lab"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	check(t, err)
	cert, err := x509.ParseCertificate(der)
	check(t, err)
	return &authority{cert, key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}
}

func (a *authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

// issue returns a certificate for an address or a name, for servers and clients,
// and both halves as PEM.
func (a *authority) issue(t *testing.T, name string) (pair tls.Certificate, certPEM, keyPEM []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if ip := net.ParseIP(name); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else {
		template.DNSNames = []string{name}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	check(t, err)
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	check(t, err)
	certPEM = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})
	pair, err = tls.X509KeyPair(certPEM, keyPEM)
	check(t, err)
	return pair, certPEM, keyPEM
}

// A console collects what the shipper logs.
type console struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (c *console) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.buf.Write(b)
}

func (c *console) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.buf.String()
}

// A fixture is a log with a shipper behind it.
type fixture struct {
	t       *testing.T
	dir     string
	log     *audit.Log
	shipper *Shipper
	console *console
	stopped bool
}

func start(t *testing.T, c Config) *fixture {
	t.Helper()
	return startIn(t, filepath.Join(t.TempDir(), "log"), c)
}

func startIn(t *testing.T, dir string, c Config) *fixture {
	t.Helper()
	f := &fixture{t: t, dir: dir, console: new(console)}
	c.Dir, c.Logger, c.Version = dir, slog.New(slog.NewTextHandler(f.console, nil)), "test"
	if c.Every == 0 {
		c.Every = 20 * time.Millisecond
	}
	c.pause = 5 * time.Millisecond
	if c.reportEvery == 0 {
		c.reportEvery = 20 * time.Millisecond
	}
	s, err := New(c)
	check(t, err)
	f.shipper = s
	f.log, err = audit.Open(audit.Options{Dir: dir, Logger: c.Logger, Follower: s})
	check(t, err)
	s.Start(f.log)
	t.Cleanup(func() { f.stop(2 * time.Second) })
	return f
}

func (f *fixture) stop(timeout time.Duration) {
	f.t.Helper()
	if !f.stopped {
		f.stopped = true
		check(f.t, f.shipper.Stop(timeout, f.log.Close))
	}
}

func (f *fixture) record(events ...audit.Event) {
	f.t.Helper()
	check(f.t, f.log.Record(events...))
}

// wait waits until something is so; a test that has to wait long has failed.
func (f *fixture) wait(what string, so func() bool) {
	f.t.Helper()
	for end := time.Now().Add(20 * time.Second); !so(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			f.t.Fatalf("not within 20 s: %s\nstatus: %+v\nconsole:\n%s", what, f.shipper.Status(), f.console)
		}
	}
}

// lines are the records of the log, as they are stored.
func (f *fixture) lines() (lines []string) {
	f.t.Helper()
	r, err := audit.NewReader(f.dir, audit.Filter{})
	check(f.t, err)
	for rec, err := range r.Records() {
		check(f.t, err)
		lines = append(lines, string(rec.Raw))
	}
	return lines
}

// verify verifies the log and returns the report.
func (f *fixture) verify(o audit.VerifyOptions) audit.Report {
	f.t.Helper()
	r, err := audit.Verify(f.dir, o)
	check(f.t, err)
	if r.Verdict != "intact" {
		f.t.Errorf("verdict %s: %+v", r.Verdict, r.Findings)
	}
	return r
}

func events(n int) (all []audit.Event) {
	for i := range n {
		all = append(all, audit.Event{
			Event: audit.WSMessage, Conn: fmt.Sprintf("c-%d", i), Host: "chat.example", Path: "/ws/\u202eümläut", Action: "allow",
			Client: netip.MustParseAddrPort("10.0.0.7:40000"), Server: netip.MustParseAddrPort("[2001:db8::1]:443"),
			Msg: &audit.Message{Dir: "to-server", Opcode: "text", Size: 6, WireSize: 12, Frames: 1, Payload: []byte(`se"},cret`)},
		})
	}
	return all
}

func record(t *testing.T, s string) Target {
	t.Helper()
	target, err := ParseRecordTarget(s)
	check(t, err)
	return target
}

func checkpoint(t *testing.T, s string) Target {
	t.Helper()
	target, err := ParseCheckpointTarget(s)
	check(t, err)
	return target
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return string(b)
}

// freePort is one that nothing listens on.
func freePort(t *testing.T) string {
	t.Helper()
	ln, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	check(t, err)
	defer ln.Close()
	return ln.Addr().String()
}

// missing returns the first line that text does not have.
func missing(text string, lines []string) string {
	for _, line := range lines {
		if !strings.Contains(text, line) {
			return line
		}
	}
	return ""
}
