package ca

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"os"
)

const requestBlock = "CERTIFICATE REQUEST" // PKCS #10, RFC 7468 section 7

// requestFiles wait for their certificates, or rather the keys do.
var requestFiles = []string{
	"request-ecdsa.key", "request-ecdsa.csr",
	"request-rsa.key", "request-rsa.csr",
}

func (k Kind) request() string { return "request-" + k.String() }

// Request makes the keys of new issuers of the given kinds, and for each a request (PKCS #10) that
// another authority can sign; it returns the requests as PEM. The keys wait in dir for Import. What
// waits there already is returned as it is, unless other kinds are asked for. dir may be new, or
// have an authority, which goes on as it is.
func Request(dir string, o Options, ask ...Kind) ([]byte, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	made, err := prepareDir(dir)
	if err != nil {
		return nil, err
	}
	out, err := request(dir, o, ask)
	if err != nil && made {
		os.Remove(dir)
	}
	return out, err
}

func request(dir string, o Options, ask []Kind) ([]byte, error) {
	c, err := begin(dir)
	if err != nil {
		return nil, err
	}
	defer c.end()
	l := &loader{dir: dir, layers: []string{dir}, owner: c.owner, now: o.Now(), o: o}
	var waiting []byte
	same := true
	asked := [kinds]bool{}
	for _, k := range ask {
		asked[k] = true
	}
	for k := range kinds {
		has := l.has(k.request()+".key") && l.has(k.request()+".csr")
		same = same && has == asked[k]
		if has {
			data, err := readFile(l.path(k.request()+".csr"), false, l.owner)
			if err != nil {
				return nil, err
			}
			waiting = append(waiting, data...)
		}
	}
	if same {
		return waiting, nil
	}
	if len(waiting) > 0 {
		return nil, &Error{Path: dir, Problem: "requests of other kinds wait for their certificates", Hint: "framegate ca import FILE..., or remove " + shellWord(l.path("request-*"))}
	}
	encrypt := o.Encrypt
	for k := range kinds { // as the issuers are that there are
		if path, err := l.find(k.file() + ".key"); err == nil {
			data, err := readFile(path, true, l.owner)
			if err != nil {
				return nil, err
			}
			encrypt = encrypt || sealed(data)
		}
	}
	seal, err := o.sealWith(l.path(ask[0].request()+".key"), encrypt)
	if err != nil {
		return nil, err
	}
	var out []byte
	for k := range kinds {
		if !asked[k] {
			continue
		}
		csr, err := c.newRequest(k, o, seal)
		if err != nil {
			return nil, err
		}
		out = append(out, csr...)
	}
	return out, c.commit()
}

func (c *change) newRequest(k Kind, o Options, seal []byte) ([]byte, error) {
	key, err := newKey(k, rsaBits)
	if err != nil {
		return nil, err
	}
	extensions, err := requestExtensions()
	if err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject:         authorityTemplate(o, "issuing "+k.String(), o.Now()).Subject,
		ExtraExtensions: extensions,
	}, key)
	if err != nil {
		return nil, fmt.Errorf("ca: request: %w", err)
	}
	csr := pem.EncodeToMemory(&pem.Block{Type: requestBlock, Bytes: der})
	if err := c.writeKey(k.request(), key, seal); err != nil {
		return nil, err
	}
	return csr, c.write(k.request()+".csr", csr)
}

// requestExtensions are what the certificate should have, as an issuer of our own has it. An
// authority may heed them or not; Import looks at what it gave.
func requestExtensions() ([]pkix.Extension, error) {
	var list []pkix.Extension
	for _, e := range []struct {
		id       asn1.ObjectIdentifier
		critical bool
		value    any
	}{
		// RFC 5280 sections 4.2.1.9, 4.2.1.3 and 4.2.1.12.
		{asn1.ObjectIdentifier{2, 5, 29, 19}, true, struct {
			IsCA       bool
			MaxPathLen int
		}{true, 0}},
		{asn1.ObjectIdentifier{2, 5, 29, 15}, true, asn1.BitString{Bytes: []byte{0b0000_0110}, BitLength: 7}}, // keyCertSign(5), cRLSign(6)
		{asn1.ObjectIdentifier{2, 5, 29, 37}, false, []asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 1}}},    // serverAuth
	} {
		der, err := asn1.Marshal(e.value)
		if err != nil {
			return nil, err
		}
		list = append(list, pkix.Extension{Id: e.id, Critical: e.critical, Value: der})
	}
	return list, nil
}
