package ca

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"slices"
	"testing"
	"time"
)

// The leaf for the gateway's own name is as every other, but that it stands for
// no server's certificate, and says so.
func TestOwn(t *testing.T) {
	const name = "framegate.internal"
	clk := newClock()
	var issued []*Issuance
	a := authority(t, Options{Now: clk.Now, Issued: func(i *Issuance) error { issued = append(issued, i); return nil }})
	own := func(name string) (*tls.Certificate, error) { return a.Own(context.Background(), name, nil) }

	if err := a.CanOwn(name); err != nil {
		t.Error(err)
	}
	cert, err := own("FrameGate.internal.")
	if err != nil {
		t.Fatal(err)
	}
	verify(t, a, cert, name, clk.Now())
	l := cert.Leaf
	if !slices.Equal(l.DNSNames, []string{name}) || len(l.IPAddresses) > 0 || l.IsCA || l.KeyUsage != x509.KeyUsageDigitalSignature ||
		!slices.Equal(l.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}) || l.NotAfter.Sub(l.NotBefore) >= maxLife {
		t.Errorf("%q %v, usage %v %v, from %s to %s", l.DNSNames, l.IPAddresses, l.KeyUsage, l.ExtKeyUsage, l.NotBefore, l.NotAfter)
	}
	if again, err := own(name); err != nil || again != cert {
		t.Errorf("a second one at once: %v", err)
	}
	if len(issued) != 1 || issued[0].Origin != [32]byte{} || !slices.Equal(issued[0].Names, []string{name}) {
		t.Errorf("reported: %+v", issued)
	}

	// It is never shown in place of a server, and the other way round.
	for range 2 {
		inPlace, err := a.Leaf(context.Background(), name, origin(t, nil, name), nil)
		if err != nil || slices.Equal(inPlace.Certificate[0], cert.Certificate[0]) {
			t.Errorf("in place of a server: %v", err)
		}
		if again, err := own(name); err != nil || again != cert {
			t.Errorf("after that: %v", err)
		}
	}
	clk.Advance(23 * time.Hour)
	renewed, err := own(name)
	if err != nil || renewed == cert {
		t.Errorf("near its end: %v", err)
	}

	if _, err := own("a b"); !errors.Is(err, ErrName) {
		t.Errorf("no name: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := a.Own(ctx, name, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("called off: %v", err)
	}
	clk.Advance(2 * 365 * 24 * time.Hour)
	if _, err := own(name); err == nil {
		t.Error("made by an issuer that has expired")
	}
}

// An authority that may not certify the name does not.
func TestOwnConstrained(t *testing.T) {
	a, err := Create(t.TempDir()+"/ca", Options{PermitDNS: []string{"example.com"}})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]error{"trust.example.com": nil, "framegate.internal": ErrConstraint} {
		if _, err := a.Own(context.Background(), name, nil); !errors.Is(err, want) {
			t.Errorf("%s: %v", name, err)
		}
		if err := a.CanOwn(name); !errors.Is(err, want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
