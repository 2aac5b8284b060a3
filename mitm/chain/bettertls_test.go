package chain

import (
	"compress/gzip"
	"crypto/x509"
	"encoding/json"
	"flag"
	"os"
	"testing"
	"time"
)

var betterTLS = flag.String("bettertls", "testdata/bettertls.json.gz", "`file` of vectors, as testdata/bettertls/make.sh makes it")

// A suite is the output of testdata/bettertls/main.go.
type suite struct {
	Made    time.Time
	Root    []byte
	Certs   [][]byte
	Vectors []struct {
		Suite        string
		ID           uint
		Host         string
		Accept, Soft bool // Soft: the other outcome is a warning
		Certs        []int
	}
}

// TestBetterTLS runs the path building and name constraint cases of Netflix
// BetterTLS. docs/TRUST.md has the figures of the whole suite.
func TestBetterTLS(t *testing.T) {
	f, err := os.Open(*betterTLS)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var s suite
	if err := json.NewDecoder(z).Decode(&s); err != nil {
		t.Fatal(err)
	}
	root, err := x509.ParseCertificate(s.Root)
	if err != nil {
		t.Fatal(err)
	}
	trust := &Trust{Roots: x509.NewCertPool()}
	trust.Roots.AddCert(root)
	parsed := make([]*x509.Certificate, len(s.Certs))
	for i, der := range s.Certs {
		parsed[i], _ = x509.ParseCertificate(der) // crypto/tls refuses a chain with one that cannot be
	}
	tally := map[string]int{}
	for _, v := range s.Vectors {
		var certs []*x509.Certificate
		err := error(nil)
		for _, i := range v.Certs {
			if parsed[i] == nil {
				err = fault(Malformed, nil, "cannot be parsed")
			}
			certs = append(certs, parsed[i])
		}
		if err == nil {
			_, err = trust.Verify(certs, v.Host, nil, s.Made)
		}
		switch {
		case (err == nil) == v.Accept:
			tally[v.Suite+" as expected"]++
		case v.Soft:
			tally[v.Suite+" otherwise, which is a warning"]++
		default:
			tally[v.Suite+" otherwise"]++
			t.Errorf("%s %d for %s: %v, expected acceptance %v", v.Suite, v.ID, v.Host, err, v.Accept)
		}
	}
	t.Log(tally)
}
