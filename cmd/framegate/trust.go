package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"time"

	"framegate/audit"
	"framegate/ca"
	"framegate/mitm/chain"
)

// loadTrust reads what servers are verified by. Its version is made of the files;
// the system's roots are read once in a process, so they are no part of it.
func (c *config) loadTrust() (*chain.Trust, error) {
	sum := sha256.New()
	fmt.Fprintln(sum, c.TLS.Revocation)
	roots, err := c.upstreamRoots(sum)
	if err != nil {
		return nil, err
	}
	lists, err := c.revocationLists(sum)
	if err != nil {
		return nil, err
	}
	return &chain.Trust{
		Roots: roots, CRLs: lists,
		RequireStatus: c.TLS.Revocation == "require",
		Version:       hex.EncodeToString(sum.Sum(nil)),
	}, nil
}

// revocationLists reads tls.crls, each file one list in DER or any number in PEM.
func (c *config) revocationLists(sum contents) ([]*chain.CRL, error) {
	var lists []*chain.CRL
	for _, name := range c.TLS.CRLs {
		found, err := readCRLs(name, sum)
		if err != nil {
			return nil, badCRL(err)
		}
		lists = append(lists, found...)
	}
	return lists, nil
}

func badCRL(err error) error {
	return usage(fmt.Errorf("tls.crls: %w", err)).
		hint("give it certificate revocation lists in DER or PEM, or take the file out of tls.crls")
}

func readCRLs(name string, sum contents) (lists []*chain.CRL, err error) {
	data, err := readTrustFile(name)
	if err != nil {
		return nil, err
	}
	sum.Write(data)
	const der = 0x30 // a SEQUENCE; text does not begin with a "0" that is followed by a length
	if len(data) > 1 && data[0] == der && data[1] >= 0x80 {
		l, err := chain.ParseCRL(data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		return []*chain.CRL{l}, nil
	}
	err = eachBlock(name, data, "X509 CRL", "revocation list", func(b *pem.Block) error {
		l, err := chain.ParseCRL(b.Bytes)
		lists = append(lists, l)
		return err
	})
	return lists, err
}

// takeTrust puts roots and revocation lists in force that were read anew, with an
// authority that may be new, too. If a file could not be read, which err says, all
// of those that are in force stay.
func (gw *gateway) takeTrust(files *chain.Trust, err error, own *ca.Authority) {
	if err != nil {
		gw.console.Error("roots or revocation lists rejected, those in force stay", "trust", gw.trust.Load().Version[:12], "err", err)
		gw.log.Record(audit.Event{Event: audit.TrustReject, Policy: gw.policy.Load().Version(), Reason: err.Error()})
		files = gw.trustFiles
	}
	old, count := gw.trust.Load(), &gw.counts.trust
	gw.setTrust(files, own)
	switch {
	case err != nil:
		count.rejected.Add(1)
	case gw.trust.Load() == old:
		count.unchanged.Add(1)
	default:
		count.loaded.Add(1)
	}
}

// setTrust puts in force what was loaded from files, for a gateway whose own
// authority vouches for no server.
func (gw *gateway) setTrust(files *chain.Trust, own *ca.Authority) {
	gw.trustFiles = files
	for _, l := range files.CRLs {
		if end := l.NextUpdate(); !time.Now().Before(end) {
			gw.console.Warn("a revocation list has ended: it still revokes, and vouches for nobody", "issuer", printable(l.Issuer()), "ended", end)
		}
	}
	t := *files
	t.Own = own.Signers()
	sum := sha256.Sum256([]byte(files.Version + " " + own.Version()))
	t.Version = hex.EncodeToString(sum[:])
	old := gw.trust.Load()
	if old != nil && old.Version == t.Version {
		return // and sessions go on
	}
	gw.trust.Store(&t)
	if old != nil {
		own.Purge() // leaves for servers that were verified by what is no more
		gw.console.Info("trust loaded", "trust", t.Version[:12], "before", old.Version[:12])
		gw.log.Record(audit.Event{Event: audit.TrustLoad, Policy: gw.policy.Load().Version(), Reason: t.Version + ", before " + old.Version})
	}
}
