package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"framegate/ca"
)

func TestUpstreamRoots(t *testing.T) {
	dir := t.TempDir()
	a, err := ca.Create(filepath.Join(dir, "ca"), ca.Options{})
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, content string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	root := string(a.RootPEM())
	lines := strings.Count(root, "\n")
	good := write("good.pem", "a comment\n"+root)

	c := defaultConfig()
	if pool, err := c.upstreamRoots(io.Discard); pool != nil || err != nil {
		t.Errorf("without files: %v, %v", pool, err)
	}
	c.TLS.UpstreamRoots = []string{good}
	pool, err := c.upstreamRoots(io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(a.RootDER())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cert.Verify(x509.VerifyOptions{Roots: pool}); err != nil {
		t.Errorf("the root of the file: %v", err)
	}

	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, file, want string }{
		{"a pipe", pipe, "pipe: not a regular file"},
		{"missing", filepath.Join(dir, "none.pem"), "no such file or directory"},
		{"empty", write("empty.pem", ""), "no certificate in it, expected PEM"},
		{"not PEM", write("der.pem", string(a.RootDER())), "no certificate in it, expected PEM"},
		{"a key", filepath.Join(dir, "ca", "root.key"), `holds a "PRIVATE KEY", expected certificates only`},
		{"garbage behind", write("garbage.pem", root+"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), fmt.Sprintf("garbage.pem:%d: certificate 2: ", 1+lines)},
		{"a broken block", write("broken.pem", "# ours\n"+root+"-----BEGIN CERTIFICATE-----\nno base64!\n-----END CERTIFICATE-----\n"+root), fmt.Sprintf("broken.pem:%d: a PEM block that cannot be read", 2+lines)},
		{"an open block", write("open.pem", root+"\n"+strings.TrimSuffix(root, "-----END CERTIFICATE-----\n")), fmt.Sprintf("open.pem:%d: a PEM block that cannot be read", 2+lines)},
		{"bytes behind", write("bytes.pem", root+"text\n\x00\x01\x02"), fmt.Sprintf("bytes.pem:%d: neither PEM nor text", 2+lines)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c.TLS.UpstreamRoots = []string{good, tt.file}
			_, err := c.upstreamRoots(io.Discard)
			var e *exitError
			if !errors.As(err, &e) || e.code != exitUsage || len(e.hints) != 1 {
				t.Fatalf("got %#v", err)
			}
			if !strings.Contains(err.Error(), tt.file) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v\nwant %s and %s in it", err, tt.file, tt.want)
			}
		})
	}
}
