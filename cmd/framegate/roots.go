package main

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"unicode"
	"unicode/utf8"
)

// contents takes what files hold, for a version of it all.
type contents = io.Writer

// upstreamRoots returns what servers are verified by: the system's roots and
// those of tls.upstream_roots, or nil, which means the system's, if there are
// none. A file with anything in it that is not a certificate is refused as a
// whole: the one that was meant could be what cannot be read.
func (c *config) upstreamRoots(sum contents) (*x509.CertPool, error) {
	if len(c.TLS.UpstreamRoots) == 0 {
		return nil, nil
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		return nil, fmt.Errorf("the system's roots: %w", err)
	}
	for _, name := range c.TLS.UpstreamRoots {
		if err := addRoots(pool, name, sum); err != nil {
			return nil, usage(fmt.Errorf("tls.upstream_roots: %w", err)).
				hint("give it PEM files of certificates, or take the file out of tls.upstream_roots")
		}
	}
	return pool, nil
}

func addRoots(pool *x509.CertPool, name string, sum contents) error {
	data, err := readTrustFile(name)
	if err != nil {
		return err
	}
	sum.Write(data)
	return eachBlock(name, data, "CERTIFICATE", "certificate", func(b *pem.Block) error {
		cert, err := x509.ParseCertificate(b.Bytes)
		if err == nil {
			pool.AddCert(cert)
		}
		return err
	})
}

// readTrustFile reads a file that a reload reads again. A pipe, which has nothing
// the second time and would be waited for, is refused.
func readTrustFile(name string) ([]byte, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil {
		return nil, err
	} else if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a regular file", name)
	}
	return io.ReadAll(f)
}

// eachBlock calls f for each PEM block of a file. Unlike pem.Decode by itself,
// which passes over what it cannot read, it takes nothing but whole blocks of
// the kind that is wanted and text between them (RFC 7468, Section 2: "parsers
// SHOULD ignore" it). Errors say on which line the block begins that is at fault.
func eachBlock(name string, data []byte, kind, what string, f func(*pem.Block) error) error {
	begin := []byte("-----BEGIN")
	found := 0
	for line, rest := 1, data; len(rest) > 0; {
		at := bytes.Index(rest, begin)
		if at < 0 {
			at = len(rest)
		}
		if bad := notText(rest[:at]); bad >= 0 && found+len(rest)-at > 0 {
			return fmt.Errorf("%s:%d: neither PEM nor text", name, line+bytes.Count(rest[:bad], []byte("\n")))
		}
		line += bytes.Count(rest[:at], []byte("\n"))
		if rest = rest[at:]; len(rest) == 0 {
			break
		}
		end := len(rest)
		if next := bytes.Index(rest[len(begin):], begin); next >= 0 {
			end = len(begin) + next
		}
		block, after := pem.Decode(rest[:end])
		switch {
		case block == nil:
			return fmt.Errorf("%s:%d: a PEM block that cannot be read, expected a %s", name, line, what)
		case block.Type != kind:
			return fmt.Errorf("%s:%d: holds a %q, expected %ss only", name, line, block.Type, what)
		}
		found++
		if err := f(block); err != nil {
			return fmt.Errorf("%s:%d: %s %d: %w", name, line, what, found, err)
		}
		line += bytes.Count(rest[:end-len(after)], []byte("\n"))
		rest = rest[end-len(after):]
	}
	if found == 0 {
		return fmt.Errorf("%s: no %s in it, expected PEM", name, what)
	}
	return nil
}

// notText returns where b stops being text, -1 if it does not.
func notText(b []byte) int {
	for i := 0; i < len(b); {
		r, n := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && n == 1 || unicode.IsControl(r) && !strings.ContainsRune("\t\r\n\f", r) {
			return i
		}
		i += n
	}
	return -1
}
