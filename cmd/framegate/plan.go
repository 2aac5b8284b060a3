package main

import (
	"errors"

	"framegate/audit"
	"framegate/ca"
	"framegate/intercept"
	"framegate/internal/onboarding"
	"framegate/mitm"
	"framegate/mitm/chain"
	"framegate/policy"
)

// A plan is what a configuration asks for: all of it that can be read and checked
// has been, and nothing of it is in force. The start makes one, and each reload.
type plan struct {
	config *config

	policy    *policy.Policy
	trust     *chain.Trust // without the authority
	authority *ca.Authority

	level       audit.Level
	payload     audit.PayloadMode
	recipients  *audit.Recipients
	credentials *credentials // of shipping
	page        *onboarding.Page

	// Why there is no policy, trust or authority, and what is wrong with the rest.
	policyErr, trustErr, authorityErr, err error
}

// newPlan reads everything that c names. What is wrong with it is in the plan.
func (gw *gateway) newPlan(c *config) *plan {
	p := &plan{config: c, page: gw.newPage(c.Admin.Onboarding)}
	if p.policy, p.policyErr = policy.LoadBeside(c.Policy.Files, c.Policy.Shadow); p.policyErr != nil {
		p.policyErr = usage(p.policyErr)
	}
	p.trust, p.trustErr = c.loadTrust()
	p.authority, p.authorityErr = ca.Load(c.CA.Dir, gw.caOptions(c))
	p.err = func() (err error) {
		if err = intercept.CheckMark(c.Intercept.Mark); err != nil {
			return err
		}
		if p.level, err = audit.ParseLevel(c.Audit.Level); err != nil {
			return usage(err)
		}
		if p.payload, p.recipients, err = c.payloads(); err != nil {
			return err
		}
		p.credentials, err = c.shipCredentials()
		return err
	}()
	return p
}

// mistake is the first thing that is wrong, nil if nothing is. That there is no
// authority yet is for the caller to judge: a first start makes one.
func (p *plan) mistake() error {
	for _, err := range []error{p.policyErr, p.trustErr, p.err, p.authorityErr} {
		if err != nil && !errors.Is(err, ca.ErrNoAuthority) {
			return err
		}
	}
	return nil
}

// auditOptions is how the log is opened, with whom to tell of what is in it.
func (gw *gateway) auditOptions(p *plan, f audit.Follower) audit.Options {
	c := p.config.Audit
	return audit.Options{
		Dir: c.Dir, Level: p.level, OnFailure: c.OnFailure, Keep: c.Keep, MaxSize: c.MaxSize,
		Recipients: p.recipients, Logger: gw.console, Follower: f,
	}
}

// newSettings is what the proxy does from p on.
func (gw *gateway) newSettings(p *plan) *mitm.Settings {
	c := p.config
	return &mitm.Settings{
		Level:                 p.level,
		Payload:               p.payload,
		Dialer:                intercept.Dialer(c.Intercept.Mark),
		BlockClientCert:       c.TLS.ClientCert == "block",
		BypassPinned:          c.TLS.Pinned == "bypass",
		PassUnknownExtensions: c.Limits.UnknownExtension == "opaque",
		HandshakeTimeout:      c.Limits.HandshakeTimeout,
		MaxHalfOpen:           gw.gate.halfOpen(),
		HeldMemory:            gw.gate.budget() / 10, // buffers take up to three times that, which 75 % leaves free
		IdleTimeout:           c.Limits.IdleTimeout,
		Hold:                  c.Limits.Hold,
		Stream:                c.Limits.Oversize == "stream",
		MaxMessage:            c.Limits.MaxMessage,
		MaxRatio:              int64(c.Limits.MaxRatio),
		Local:                 gw.local(p.page),
	}
}

// apply puts in force what connections ask for: the limits and the settings. It
// cannot fail.
func (gw *gateway) apply(p *plan) {
	gw.plan, gw.config, gw.page = p, p.config, p.page
	gw.inForce.Store(p.config)
	gw.gate.set(p.config.gateLimits())
	gw.settings.Store(gw.newSettings(p))
}
