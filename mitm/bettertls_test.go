package mitm

import (
	"compress/gzip"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"framegate/audit"
	"framegate/mitm/chain"
)

// TestBetterTLSThroughGateway serves vectors of Netflix BetterTLS to a client
// behind the gateway; package chain has them all. Those for an address are left
// out: a client that calls an address names nobody.
func TestBetterTLSThroughGateway(t *testing.T) {
	f, err := os.Open(filepath.Join("chain", "testdata", "bettertls.json.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var vectors struct {
		Made    time.Time
		Root    []byte
		Certs   [][]byte
		Vectors []struct {
			Suite        string
			ID           uint
			Host         string
			Accept, Soft bool
			Certs        []int
			Key          []byte
		}
	}
	if err := json.NewDecoder(z).Decode(&vectors); err != nil {
		t.Fatal(err)
	}
	root, err := x509.ParseCertificate(vectors.Root)
	if err != nil {
		t.Fatal(err)
	}
	trust := &chain.Trust{Roots: x509.NewCertPool()}
	trust.Roots.AddCert(root)

	var served atomic.Pointer[tls.Certificate]
	o := newHTTPOrigin(t, &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return served.Load(), nil }, SessionTicketsDisabled: true}, http.NotFoundHandler())
	g := newGateway(t, o.addr, "", func(p *Proxy) {
		p.Trust = func() *chain.Trust { return trust }
		p.clock = func() time.Time { return vectors.Made }
	})
	calls := 0
	for _, v := range vectors.Vectors {
		if net.ParseIP(v.Host) != nil {
			continue
		}
		c := tls.Certificate{}
		if c.PrivateKey, err = x509.ParsePKCS8PrivateKey(v.Key); err != nil {
			t.Fatal(err)
		}
		for _, i := range v.Certs {
			c.Certificate = append(c.Certificate, vectors.Certs[i])
		}
		served.Store(&c)
		asked := g.certs.asked.Load()
		tls.Client(g.dial(), g.trust(v.Host)).Handshake() // the end is in the log
		calls++
		accepted := g.certs.asked.Load() > asked
		if accepted != v.Accept && !v.Soft {
			t.Errorf("%s %d for %s: a leaf was asked for: %v", v.Suite, v.ID, v.Host, accepted)
		}
		if fails := g.ledger.of(audit.TLSFail); !accepted && (len(fails) == 0 || strings.HasPrefix(fails[len(fails)-1].Reason, "server-")) {
			t.Errorf("%s %d: no reason of the certificate's", v.Suite, v.ID)
		}
	}
	if calls < 150 {
		t.Errorf("%d calls", calls)
	}
	t.Logf("%d calls", calls)
}
