package main

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
)

// upstreamRoots returns what servers are verified by: the system's roots and
// those of tls.upstream_roots, or nil, which means the system's, if there are
// none. A file with anything in it that is not a certificate is refused as a
// whole: the one that was meant could be what cannot be read.
func (c *config) upstreamRoots() (*x509.CertPool, error) {
	if len(c.TLS.UpstreamRoots) == 0 {
		return nil, nil
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		return nil, fmt.Errorf("the system's roots: %w", err)
	}
	for _, name := range c.TLS.UpstreamRoots {
		if err := addRoots(pool, name); err != nil {
			return nil, usage(fmt.Errorf("tls.upstream_roots: %w", err)).
				hint("give it PEM files of certificates, or take the file out of tls.upstream_roots")
		}
	}
	return pool, nil
}

func addRoots(pool *x509.CertPool, name string) error {
	data, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	found := 0
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			return fmt.Errorf("%s: holds a %q, expected certificates only", name, block.Type)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return fmt.Errorf("%s: certificate %d: %w", name, found+1, err)
		}
		pool.AddCert(cert)
		found++
	}
	if found == 0 {
		return fmt.Errorf("%s: no certificate in it, expected PEM", name)
	}
	return nil
}
