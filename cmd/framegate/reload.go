package main

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"framegate/audit"
	"framegate/audit/capture"
	"framegate/audit/ship"
	"framegate/policy"
)

// reload loads framegate.toml and all that it names anew, in this process and in
// the one before it, whose connections are to follow the same policy. It belongs
// to the loop of run: the signals that come meanwhile wait, and of several SIGHUP
// in a row the last one finds the last state of the files.
func (s *service) reload() {
	if s.stopping || s.orphaned || s.next == nil && s.accepting.Err() != nil {
		s.console.Warn("reload refused: the gateway stops, and what is in force stays")
		return
	}
	if s.next == nil {
		tell(daemon.SdNotifyReloading, daemon.SdNotifyMonotonicUsec())
		defer tell(daemon.SdNotifyReady)
	}
	if err := s.load(); err != nil {
		s.rejectConfig(err)
		return
	}
	s.before.say(sayReload) // only now: the two are not to differ
}

// load puts the configuration in force that the file has now. It is all or
// nothing: with an error everything is as before. Only where no key has changed,
// policy, trust and authority are each on their own, as what they are made of
// comes from different people.
func (s *service) load() error {
	c, err := s.source.load()
	if err != nil {
		return err
	}
	next, all := s.newPlan(c), s.config.changesTo(c)
	switch {
	case next.err != nil:
		return next.err
	case len(all) > 0 && next.mistake() != nil:
		return next.mistake()
	case len(all) > 0 && next.authorityErr != nil:
		return next.authorityErr // there is none
	}
	if keys := all.that(atRestart).keys(); keys != "" && s.next == nil {
		return usage(fmt.Errorf("%s: cannot change while the gateway runs", keys)).
			hint("framegate redirect up, then restart the gateway, which ends its connections")
	}
	x := changeover{service: s, plan: next, changes: all}
	prepare := x.prepare
	if s.next != nil {
		prepare = x.follow
	}
	if err := prepare(); err != nil {
		x.discard()
		return err
	}
	x.commit()
	return nil
}

// rejectConfig says and records why nothing has changed.
func (s *service) rejectConfig(err error) {
	s.counts.config.rejected.Add(1)
	message := mendable(err)
	var hints []string
	if e := (*exitError)(nil); errors.As(message, &e) {
		hints = e.hints
	}
	lines := strings.Split(strings.TrimRight(message.Error(), "\n"), "\n")
	for _, line := range lines {
		s.console.Error("configuration rejected, the one in force stays", "err", line)
	}
	for _, h := range hints {
		s.console.Error("configuration rejected", "hint", h)
	}
	s.log.Record(s.policy.event(audit.ConfigReject, abridged(strings.Join(lines, "; "), 8000)))
}

// A changeover is one configuration taking the place of another.
type changeover struct {
	*service
	plan    *plan
	changes changes

	bound   []inherited // new listeners
	ring    *capture.Ring
	shipper *ship.Shipper
	ships   bool // shipper is in place of the one in force
}

// prepare does what can fail: it binds addresses and opens files, and at last has
// the log opened anew if that has changed.
func (x *changeover) prepare() (err error) {
	if x.bound, err = x.bindNew(x.plan.config); err != nil {
		return err
	}
	if x.changes.in("audit.pcap_") {
		if x.ring, err = x.openPackets(x.plan.config); err != nil {
			return err
		}
	}
	before := x.service.plan
	x.ships = x.changes.in("audit.checkpoint_", "audit.witness_keys", "audit.ship", "audit.dir", "intercept.mark") ||
		x.plan.credentials.version != before.credentials.version
	if x.shipper = x.service.shipper.Load(); x.ships {
		if x.shipper, err = x.newShipper(x.plan); err != nil {
			return err
		}
	}
	return x.reopen(follower(x.shipper))
}

// follow is prepare where another process has listeners, packets and the log,
// which may come back.
func (x *changeover) follow() (err error) {
	if x.shipper, err = x.newShipper(x.plan); err != nil {
		return err
	}
	x.ships = true
	return x.reopen(follower(x.shipper))
}

// reopen has the log follow what has changed.
func (x *changeover) reopen(f audit.Follower) error {
	if !x.ships && !x.changes.in("audit.dir", "audit.level", "audit.on_failure", "audit.keep", "audit.max_size") &&
		reflect.DeepEqual(x.plan.recipients, x.service.plan.recipients) {
		return nil
	}
	settings := x.settings.Load()
	if settings.Payload == audit.PayloadFull {
		// The log that comes may make no keys, so nobody may ask for one meanwhile.
		other := *settings
		other.Payload = x.plan.payload
		x.settings.Store(&other)
	}
	if err := x.log.Reopen(x.auditOptions(x.plan, f)); err != nil {
		x.settings.Store(settings)
		return usage(fmt.Errorf("audit.dir: %w", err)).hint("name a directory that this user may write to, and no other gateway does")
	}
	return nil
}

// discard gives back what prepare has taken.
func (x *changeover) discard() {
	for _, socket := range x.bound {
		socket.ln.Close()
	}
	x.endRing(x.ring)
}

// commit puts everything in force. Nothing in it can fail.
func (x *changeover) commit() {
	gw, all := x.gateway, x.changes
	rules, _ := gw.config.rules()
	gw.apply(x.plan)
	x.exchangeSockets(x.bound, all)
	if gw.admin != nil {
		gw.admin.show(gw.page, gw.config.Admin.Profile)
	}
	if all.in("audit.pcap_") && x.next == nil {
		before := gw.packets.ring.Swap(x.ring)
		x.closing.Go(func() { gw.endRing(before) })
	}
	if x.next != nil {
		x.spare = x.shipper
	} else if x.ships {
		gw.exchangeShippers(x.shipper)
	}
	if len(all) == 0 {
		gw.counts.config.unchanged.Add(1)
		gw.console.Info("configuration unchanged")
	} else {
		gw.counts.config.loaded.Add(1)
		for _, c := range all {
			gw.console.Info("configuration changed", "key", c.key, "now", abridged(showValue(c.now), 500), "before", abridged(showValue(c.before), 500))
		}
		gw.console.Info("configuration loaded", "changed", all.keys())
		gw.log.Record(gw.policy.event(audit.ConfigLoad, all.String()))
	}
	if now, _ := gw.config.rules(); !reflect.DeepEqual(now, rules) {
		gw.console.Warn("the redirect rules are as before until: framegate redirect up")
	}
	gw.takeAuthority(x.plan.authority, x.plan.authorityErr, all.in("ca."))
	gw.takeTrust(x.plan.trust, x.plan.trustErr, gw.authority.Load())
	gw.takePolicy(x.plan.policy, x.plan.policyErr)
}

// takePolicy puts a policy in force that was read anew. One with a mistake, which
// err says, changes nothing.
func (gw *gateway) takePolicy(p *policy.Policy, err error) {
	if err != nil {
		gw.console.Error("policy rejected, the one in force stays", "policy", gw.policy.Load().Version()[:12], "err", err)
		gw.log.Record(gw.policy.event(audit.PolicyReject, err.Error()))
		gw.counts.policy.rejected.Add(1)
		return
	}
	old := gw.policy.Load()
	gw.policy.Store(p)
	gw.counts.policy.loaded.Add(1)
	gw.counts.policyLoaded.Store(time.Now().UnixNano())
	gw.console.Info("policy loaded", "policy", p.Version()[:12], "before", old.Version()[:12], "rules", len(p.Rules()))
	gw.warnOfPolicy(p)
	gw.log.Record(gw.policy.event(audit.PolicyLoad, fmt.Sprintf("%d rules, before %s", len(p.Rules()), old.Version())))
}

// warnOfPolicy says what is odd about a policy that is put in force. A file of rules
// that is read while somebody writes it may have none yet.
func (gw *gateway) warnOfPolicy(p *policy.Policy) {
	for _, w := range p.Warnings() {
		gw.console.Warn("policy", "warning", w.String())
	}
	if len(p.Rules()) == 0 {
		gw.console.Warn(noRules, "files", gw.config.Policy.Files)
	}
}

const noRules = "the policy has no rules for messages: they are recorded, and nothing is looked for"
