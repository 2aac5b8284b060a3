package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"framegate/audit"
	"framegate/ca"
)

// A loadedAuthority is the authority in force: a [mitm.CertSource] that a reload
// exchanges. Handshakes that are under way end with the one they began with.
type loadedAuthority struct{ atomic.Pointer[ca.Authority] }

func (l *loadedAuthority) Leaf(ctx context.Context, name string, origin *x509.Certificate, hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	return l.Load().Leaf(ctx, name, origin, hello)
}

// caOptions is how the gateway opens the authority of a configuration.
func (gw *gateway) caOptions(c *config) ca.Options {
	return ca.Options{
		LeafValidity: c.CA.LeafValidity,
		Passphrase:   c.caPassphrase(),
		Issued:       gw.issued,
	}
}

// issued records a new leaf, with the server's certificate that it stands for.
// A leaf that cannot be recorded is shown to nobody if that is what
// audit.on_failure says.
func (gw *gateway) issued(i *ca.Issuance) error {
	origin := hex.EncodeToString(i.Origin[:])
	if i.Origin == [32]byte{} {
		origin = "own" // it stands for no server
	}
	e := gw.policy.event(audit.CAIssue, fmt.Sprintf("leaf=%s origin=%s serial=%s issuer=%s not_after=%s names=%s",
		hex.EncodeToString(i.Leaf[:]), origin, i.Serial, hex.EncodeToString(i.Issuer[:]),
		i.NotAfter.UTC().Format(time.RFC3339), strings.Join(i.Names, ",")))
	e.Host = i.Names[0]
	return gw.log.Record(e)
}

// takeAuthority puts an authority in force that was read anew. One with a fault,
// which err says, changes nothing; one that is the same keeps its leaves, unless
// it is to issue them in another way.
func (gw *gateway) takeAuthority(a *ca.Authority, err error, otherwise bool) {
	old := gw.authority.Load()
	if err != nil {
		gw.console.Error("authority rejected, the one in force stays", "authority", old.Version()[:12], "err", err)
		gw.log.Record(gw.policy.event(audit.CAReject, err.Error()))
		gw.counts.authority.rejected.Add(1)
		return
	}
	if a.Version() == old.Version() {
		gw.counts.authority.unchanged.Add(1)
		if otherwise {
			gw.authority.Store(a)
		}
	} else {
		gw.counts.authority.loaded.Add(1)
		gw.authority.Store(a)
		gw.console.Info("authority loaded", "authority", a.Version()[:12], "before", old.Version()[:12], "root", a.Fingerprint())
		gw.log.Record(gw.policy.event(audit.CALoad, fmt.Sprintf("%s, before %s, root %s", a.Version(), old.Version(), a.Fingerprint())))
	}
	gw.sayAuthority(a)
}

// sayAuthority tells operators what will end soon.
func (gw *gateway) sayAuthority(a *ca.Authority) {
	for _, w := range a.Warnings() {
		gw.console.Warn("authority: " + w)
	}
}
