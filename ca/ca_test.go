package ca

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// Two authorities are made once for all tests; a test works on a copy.
var made struct {
	once sync.Once
	dir  string
	err  error
}

func TestMain(m *testing.M) {
	workFactor = 10 // what is tested is not how long it takes
	newRSA = stockedRSA
	code := m.Run()
	if made.dir != "" {
		os.RemoveAll(made.dir)
	}
	os.Exit(code)
}

// stock holds some RSA keys of each size, which are handed out in turn.
var stock struct {
	mu   sync.Mutex
	next int
	keys map[int][]*rsa.PrivateKey
}

func stockedRSA(random io.Reader, bits int) (*rsa.PrivateKey, error) {
	stock.mu.Lock()
	defer stock.mu.Unlock()
	if stock.keys == nil {
		stock.keys = make(map[int][]*rsa.PrivateKey)
	}
	stock.next++
	const reserved, reused = 4, 5 // the first are those of the authorities that tests begin with
	if keys := stock.keys[bits]; len(keys) == reserved+reused {
		return keys[reserved+stock.next%reused], nil
	}
	key, err := rsa.GenerateKey(random, bits)
	stock.keys[bits] = append(stock.keys[bits], key)
	return key, err
}

// authorityDir returns a private copy of authority n (0 or 1).
func authorityDir(t testing.TB, n int) string {
	t.Helper()
	made.once.Do(func() {
		if made.dir, made.err = os.MkdirTemp("", "ca-test-"); made.err != nil {
			return
		}
		for i := range 2 {
			if _, err := Create(filepath.Join(made.dir, fmt.Sprint(i)), Options{}); err != nil {
				made.err = err
			}
		}
	})
	if made.err != nil {
		t.Fatal(made.err)
	}
	dir := filepath.Join(t.TempDir(), "ca")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		copyFile(t, filepath.Join(made.dir, fmt.Sprint(n), name), filepath.Join(dir, name))
	}
	return dir
}

func copyFile(t testing.TB, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func authority(t testing.TB, o Options) *Authority {
	t.Helper()
	a, err := Load(authorityDir(t, 0), o)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// A clock that a test sets forward.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func newClock() *clock { return &clock{t: time.Now()} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

var originKey = sync.OnceValue(func() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return key
})

// origin returns a server's certificate, valid from a month ago for two months, as change
// leaves it.
func origin(t testing.TB, change func(*x509.Certificate), names ...string) *x509.Certificate {
	t.Helper()
	tmpl := &x509.Certificate{
		NotBefore: time.Now().AddDate(0, -1, 0),
		NotAfter:  time.Now().AddDate(0, 1, 0),
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			tmpl.IPAddresses = append(tmpl.IPAddresses, ip)
		} else {
			tmpl.DNSNames = append(tmpl.DNSNames, name)
		}
	}
	if change != nil {
		change(tmpl)
	}
	cert, err := sign(tmpl, tmpl, originKey().Public(), originKey())
	if err != nil {
		t.Fatal(err)
	}
	return cert
}
