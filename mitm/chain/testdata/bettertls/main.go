// Command vectors writes the BetterTLS test cases that bettertls_test.go reads:
// all of the path building suite, and every nth of name constraints, with
// the keys of the servers so that they can be served.
package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/json"
	"flag"
	"log"
	"os"
	"time"

	"github.com/Netflix/bettertls/test-suites/certutil"
	test_case "github.com/Netflix/bettertls/test-suites/test-case"
	test_executor "github.com/Netflix/bettertls/test-suites/test-executor"
)

type vector struct {
	Suite    string
	ID       uint
	Host     string
	Accept   bool
	Soft     bool `json:",omitempty"`
	Features []string
	Certs    []int
	Key      []byte
}

func main() {
	nth := flag.Uint("nth", 40, "of the name constraints")
	flag.Parse()
	root, key, err := certutil.GenerateSelfSignedCert("bettertls_trust_root")
	check(err)
	suites, err := test_executor.BuildTestSuitesWithRootCa(root, key)
	check(err)
	var out struct {
		Made    time.Time
		Root    []byte
		Certs   [][]byte
		Vectors []vector
	}
	out.Made, out.Root = time.Now().UTC(), root.Raw
	for _, name := range suites.GetProviderNames() {
		p := suites.GetProvider(name)
		n, err := p.GetTestCaseCount()
		check(err)
		for i := uint(0); i < n; i++ {
			if name == "nameconstraints" && i%*nth != 0 {
				continue
			}
			c, err := p.GetTestCase(i)
			check(err)
			certs, err := c.GetCertificates(root, key)
			check(err)
			v := vector{Suite: name, ID: i, Host: c.GetHostname()}
			switch c.ExpectedResult() {
			case test_case.EXPECTED_RESULT_PASS:
				v.Accept = true
			case test_case.EXPECTED_RESULT_SOFT_PASS:
				v.Accept, v.Soft = true, true
			case test_case.EXPECTED_RESULT_SOFT_FAIL:
				v.Soft = true
			}
			for _, f := range c.RequiredFeatures() {
				v.Features = append(v.Features, p.DescribeFeature(f))
			}
			v.Key, err = x509.MarshalPKCS8PrivateKey(certs.PrivateKey.(*ecdsa.PrivateKey))
			check(err)
			for _, der := range certs.Certificate {
				at := len(out.Certs)
				for j, have := range out.Certs {
					if bytes.Equal(have, der) {
						at = j
						break
					}
				}
				if at == len(out.Certs) {
					out.Certs = append(out.Certs, der)
				}
				v.Certs = append(v.Certs, at)
			}
			out.Vectors = append(out.Vectors, v)
		}
	}
	check(json.NewEncoder(os.Stdout).Encode(out))
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
