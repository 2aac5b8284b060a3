package ca

import (
	"crypto/tls"
	"testing"
	"time"
)

// A modern client: what the question of the kind costs is part of every handshake.
func bothHello() *tls.ClientHelloInfo {
	return &tls.ClientHelloInfo{
		ServerName:        "www.example.com",
		CipherSuites:      []uint16{tls.TLS_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256},
		SupportedCurves:   []tls.CurveID{tls.X25519, tls.CurveP256},
		SupportedPoints:   []uint8{0},
		SignatureSchemes:  []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256, tls.PSSWithSHA256},
		SupportedVersions: []uint16{tls.VersionTLS13, tls.VersionTLS12},
	}
}

func BenchmarkLeafCached(b *testing.B) {
	a := authority(b, Options{})
	o := origin(b, nil, "example.com", "*.example.com")
	for _, tt := range []struct {
		name, host string
		hello      *tls.ClientHelloInfo
	}{{"name", "www.example.com", bothHello()}, {"mirror", "", bothHello()}, {"rsa", "www.example.com", rsaHello("")}} {
		b.Run(tt.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := a.Leaf(b.Context(), tt.host, o, tt.hello); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkLeafMint(b *testing.B) {
	a := authority(b, Options{})
	o := origin(b, nil, "www.example.com")
	n, _, err := parseName("www.example.com")
	if err != nil {
		b.Fatal(err)
	}
	for k := range kinds {
		b.Run(k.String(), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := a.mint(k, n, o, time.Now()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
