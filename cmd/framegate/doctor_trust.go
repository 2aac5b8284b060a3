package main

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"os"
	"strings"
	"time"

	"framegate/ca"
	"framegate/intercept"
	"framegate/mitm/chain"
	"framegate/policy"
)

// checkConfig says which configuration everything else is about.
func (d *doctor) checkConfig(name string) diagnosis {
	if _, err := os.Stat(name); err != nil {
		return pass("no %s: the defaults", name)
	}
	return pass("%s", name)
}

func (d *doctor) checkPolicy(context.Context) []diagnosis {
	check := d.command("policy check")
	p, err := policy.Load(d.config.Policy.Files)
	if err != nil {
		return []diagnosis{fail(check+"  # says each mistake and its place", "%v", err)}
	}
	d.policy = p
	warnings := p.Warnings()
	switch {
	case len(p.Rules()) == 0:
		where := strings.Join(d.config.Policy.Files, " ")
		if where == "" {
			where = "policy.files, which is empty"
		}
		return []diagnosis{warn("install -D -m 0644 /usr/share/doc/framegate/examples/policies/default.toml /etc/framegate/policy.d/default.toml  # to start from, if policy.files names it; then systemctl reload framegate",
			"no rule in %s: messages are recorded, and nothing is looked for", where)}
	case len(warnings) > 0:
		return []diagnosis{warn(check, "%s; %s, the first: %v", counted(len(p.Rules()), "rule"), counted(len(warnings), "warning"), warnings[0])}
	}
	return []diagnosis{pass("%s, version %.12s", counted(len(p.Rules()), "rule"), p.Version())}
}

// checkRoots looks at what servers are verified by.
func (d *doctor) checkRoots(context.Context) []diagnosis {
	system, err := x509.SystemCertPool()
	if err != nil || system.Equal(x509.NewCertPool()) {
		system = x509.NewCertPool()
		f := fail("apt-get install ca-certificates", "the system has no roots: every server is refused")
		if len(d.config.TLS.UpstreamRoots) == 0 {
			return []diagnosis{f}
		}
	}
	pool, err := d.config.upstreamRoots(io.Discard)
	if err != nil {
		return []diagnosis{d.mistake(err)}
	}
	if pool == nil {
		pool = system
	}
	if d.authority != nil {
		for _, root := range d.authority.Roots() {
			with := pool.Clone()
			with.AddCert(root)
			if with.Equal(pool) { // it was there before
				return []diagnosis{warn("# take it out of tls.upstream_roots or of the system's store; devices need it, the gateway does not",
					"the gateway's own root, sha-256 %s, is among the roots for servers: it never vouches for one", ca.Fingerprint(root))}
			}
		}
	}
	if n := len(d.config.TLS.UpstreamRoots); n > 0 {
		return []diagnosis{pass("the system's and those of %s", counted(n, "file"))}
	}
	return []diagnosis{pass("the system's")}
}

// checkRevocation looks for lists that have ended. Such a list still revokes, but
// says of nobody any more that he is good.
func (d *doctor) checkRevocation(context.Context) []diagnosis {
	required := d.config.TLS.Revocation == "require"
	if len(d.config.TLS.CRLs) == 0 {
		return []diagnosis{pass("tls.revocation = %q, no lists", d.config.TLS.Revocation)}
	}
	var list []diagnosis
	for _, name := range d.config.TLS.CRLs {
		lists, err := readCRLs(name, io.Discard)
		if err != nil {
			list = append(list, d.mistake(badCRL(err)))
			continue
		}
		for _, l := range lists {
			list = append(list, d.checkCRL(name, l, required))
		}
	}
	return list
}

func (d *doctor) checkCRL(name string, l *chain.CRL, required bool) diagnosis {
	end := l.NextUpdate()
	if time.Now().Before(end) {
		return pass("%s: list of %s, until %s", name, l.Issuer(), end.UTC().Format(time.RFC3339))
	}
	fix := "curl -fo " + shellWord(name) + " URL && systemctl reload framegate  # the URL is that of the issuer's list"
	detail := "%s: list of %s has ended on %s: it still revokes, and vouches for nobody"
	if required {
		return fail(fix, detail+", and tls.revocation = \"require\"", name, l.Issuer(), end.UTC().Format(time.RFC3339))
	}
	return warn(fix, detail, name, l.Issuer(), end.UTC().Format(time.RFC3339))
}

// mistake turns an error, and the hint that it may have, into a diagnosis.
func (d *doctor) mistake(err error) diagnosis {
	var setup *intercept.SetupError
	if (errors.Is(err, os.ErrPermission) || errors.As(err, &setup)) && os.Geteuid() != 0 {
		return warn(d.asRoot(), "not checked: %v", mendable(err))
	}
	err = mendable(err)
	var e *exitError
	if errors.As(err, &e) && len(e.hints) > 0 {
		return fail(pasteable(e.hints[0]), "%v", err)
	}
	return fail(d.asRoot()+"  # if this user may not", "%v", err)
}
