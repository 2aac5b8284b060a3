package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"framegate/audit"
	"framegate/ca"
	"framegate/policy"
)

// listOf makes a root and a list by which it revokes a certificate.
func listOf(t *testing.T, ends time.Time) (root, list []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "lists"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	if root, err = x509.CreateCertificate(rand.Reader, c, c, key.Public(), key); err != nil {
		t.Fatal(err)
	}
	if c, err = x509.ParseCertificate(root); err != nil {
		t.Fatal(err)
	}
	l := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: ends.Add(-48 * time.Hour), NextUpdate: ends}
	if list, err = x509.CreateRevocationList(rand.Reader, l, c, key); err != nil {
		t.Fatal(err)
	}
	return root, list
}

func TestRevocationLists(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, b []byte) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	root, list := listOf(t, time.Now().Add(time.Hour))
	text := pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: list})
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root})
	for _, tt := range []struct {
		name, file, want string
		lists            int
	}{
		{"DER", write("list.crl", list), "", 1},
		{"PEM", write("lists.pem", bytes.Join([][]byte{[]byte("# ours\n"), text, text}, nil)), "", 2},
		{"missing", filepath.Join(dir, "none.crl"), "no such file or directory", 0},
		{"empty", write("empty.crl", nil), "no revocation list in it, expected PEM", 0},
		{"cut DER", write("cut.crl", list[:len(list)-1]), "cut.crl: ", 0},
		{"a certificate", write("cert.pem", cert), `cert.pem:1: holds a "CERTIFICATE", expected revocation lists only`, 0},
		{"garbage behind", write("garbage.pem", append(bytes.Clone(text), "\n-----BEGIN X509 CRL-----\n!\n-----END X509 CRL-----\n"...)), fmt.Sprintf("garbage.pem:%d: a PEM block that cannot be read", 2+bytes.Count(text, []byte("\n"))), 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := defaultConfig()
			c.TLS.CRLs = []string{tt.file}
			trust, err := c.loadTrust()
			if tt.want == "" {
				if err != nil || len(trust.CRLs) != tt.lists {
					t.Fatalf("%v, %v", trust, err)
				}
				return
			}
			var e *exitError
			if !errors.As(err, &e) || e.code != exitUsage || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), tt.file) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v, want %s in it", err, tt.want)
			}
		})
	}
}

// TestReloadTrust: files that cannot be read change nothing and say so; new
// ones, and another authority, are another trust, and the same are the same.
func TestReloadTrust(t *testing.T) {
	dir := t.TempDir()
	var console bytes.Buffer
	gw := &gateway{config: defaultConfig(), console: slog.New(slog.NewTextHandler(&console, nil))}
	p, err := policy.Load(nil)
	if err != nil {
		t.Fatal(err)
	}
	gw.policy.Store(p)
	if gw.log, err = audit.Open(audit.Options{Dir: filepath.Join(dir, "log"), Level: audit.Connections, OnFailure: "block", Logger: slog.New(slog.NewTextHandler(io.Discard, nil))}); err != nil {
		t.Fatal(err)
	}
	authority, err := ca.Create(filepath.Join(dir, "ca"), ca.Options{})
	if err != nil {
		t.Fatal(err)
	}
	root, list := listOf(t, time.Now().Add(-time.Hour))
	roots, lists := filepath.Join(dir, "roots.pem"), filepath.Join(dir, "list.crl")
	write := func(name string, b []byte) {
		t.Helper()
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(roots, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root}))
	write(lists, list)
	gw.config.TLS.UpstreamRoots, gw.config.TLS.CRLs = []string{roots}, []string{lists}
	files, err := gw.config.loadTrust()
	if err != nil {
		t.Fatal(err)
	}
	gw.setTrust(files, authority)
	first := gw.trust.Load()
	if len(first.Own) == 0 || len(first.CRLs) != 1 || first.RequireStatus {
		t.Fatalf("%+v", first)
	}
	if !strings.Contains(console.String(), "a revocation list has ended") {
		t.Errorf("the console does not warn of the list:\n%s", &console)
	}

	reload := func(own *ca.Authority) {
		t.Helper()
		files, err := gw.config.loadTrust()
		gw.takeTrust(files, err, own)
	}
	reload(authority)
	if gw.trust.Load() != first {
		t.Error("a reload of the same files is another trust")
	}
	write(roots, []byte("-----BEGIN CERTIFICATE-----\n"))
	reload(authority)
	if gw.trust.Load() != first || !strings.Contains(console.String(), "roots.pem:1: a PEM block that cannot be read") {
		t.Errorf("a broken file changed the trust, or nothing was said:\n%s", &console)
	}
	other, err := ca.Create(filepath.Join(dir, "other"), ca.Options{})
	if err != nil {
		t.Fatal(err)
	}
	reload(other) // the file is still broken
	second := gw.trust.Load()
	if second.Version == first.Version || second.Roots == nil || len(second.CRLs) != 1 || second.Own[0].Equal(first.Own[0]) {
		t.Errorf("another authority is not another trust with the same roots:\n%+v\n%+v", first, second)
	}
	if err := os.Remove(lists); err != nil {
		t.Fatal(err)
	}
	gw.config.TLS.CRLs = nil
	write(roots, other.RootPEM())
	reload(other)
	if third := gw.trust.Load(); third.Version == second.Version || len(third.CRLs) != 0 {
		t.Error("other files are not another trust")
	}
	if err := gw.log.Close(); err != nil {
		t.Fatal(err)
	}
	for event, n := range map[string]int{audit.TrustLoad: 2, audit.TrustReject: 2} {
		if got := recordsOf(t, filepath.Join(dir, "log"), event); got != n {
			t.Errorf("%d records of %s, want %d", got, event, n)
		}
	}
}

func recordsOf(t *testing.T, dir, event string) (n int) {
	t.Helper()
	r, err := audit.NewReader(dir, audit.Filter{Event: event})
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range r.Records() {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	return n
}
