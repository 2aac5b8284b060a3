package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"framegate/audit"
	"framegate/ca"
	"framegate/policy"
)

// TestIssuedIsRecorded: the record of a leaf links it with the server's certificate, and a leaf
// that cannot be recorded is shown to nobody.
func TestIssuedIsRecorded(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"chat.example"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(0, 1, 0)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	origin, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}

	dir := t.TempDir()
	gw := &gateway{config: defaultConfig(), console: slog.New(slog.NewTextHandler(io.Discard, nil))}
	gw.config.CA.Dir = filepath.Join(dir, "ca")
	p, err := policy.Load(nil)
	if err != nil {
		t.Fatal(err)
	}
	gw.policy.Store(p)
	if gw.log, err = audit.Open(audit.Options{Dir: filepath.Join(dir, "log"), Level: audit.Connections, OnFailure: "block"}); err != nil {
		t.Fatal(err)
	}
	o := gw.caOptions(gw.config)
	o.ExcludeDNS = []string{"bank.example"}
	a, err := ca.Create(gw.config.CA.Dir, o)
	if err != nil {
		t.Fatal(err)
	}
	gw.authority.Store(a)

	// A client that names nobody, and one that asks for what is excluded.
	leaf, err := gw.authority.Leaf(t.Context(), "", origin, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := gw.authority.Leaf(t.Context(), "www.bank.example", origin, nil); err == nil || errors.Is(err, ca.ErrConstraint) {
		t.Errorf("a name that the server has no certificate for: %v", err)
	}
	reload := func() {
		a, err := ca.Load(gw.config.CA.Dir, gw.caOptions(gw.config))
		gw.takeAuthority(a, err, false)
	}
	// What has not changed is not taken for new.
	before := gw.authority.Load()
	reload()
	if gw.authority.Load() != before {
		t.Error("a reload of the same authority threw its leaves away")
	}
	if _, err := ca.Rotate(gw.config.CA.Dir, ca.Options{}, ""); err != nil {
		t.Fatal(err)
	}
	reload()
	if gw.authority.Load() == before {
		t.Fatal("the new authority is not in force")
	}
	again, err := gw.authority.Leaf(t.Context(), "", origin, nil)
	if err != nil || again == leaf {
		t.Errorf("after the change, the leaf of before: %v", err)
	}
	if err := os.Chmod(gw.config.CA.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	in := gw.authority.Load()
	reload()
	if gw.authority.Load() != in {
		t.Error("an authority that others can read is in force")
	}
	if err := gw.log.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := gw.authority.Leaf(t.Context(), "chat.example", origin, nil); !errors.Is(err, audit.ErrClosed) {
		t.Errorf("a leaf that is not recorded: %v", err)
	}

	r, err := audit.NewReader(filepath.Join(dir, "log"), audit.Filter{Event: "ca.*"})
	if err != nil {
		t.Fatal(err)
	}
	var got []audit.Record
	for rec, err := range r.Records() {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, rec)
	}
	var events string
	for _, rec := range got {
		events += rec.Event + " "
	}
	if events != "ca.issue ca.load ca.issue ca.reject " {
		t.Fatalf("events %s", events)
	}
	want := fmt.Sprintf("leaf=%x origin=%x serial=%032x issuer=%x not_after=%s names=chat.example",
		sha256.Sum256(leaf.Certificate[0]), sha256.Sum256(origin.Raw), leaf.Leaf.SerialNumber, sha256.Sum256(leaf.Certificate[1]), leaf.Leaf.NotAfter.UTC().Format(time.RFC3339))
	if got[0].Reason != want || got[0].Host != "chat.example" || got[0].Policy != p.Version() {
		t.Errorf("record of host %s: %s\nwant %s", got[0].Host, got[0].Reason, want)
	}
}
