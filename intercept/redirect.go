package intercept

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Up installs rules in both families, in place of any rules of ours that are
// there. It may be run again at any time. If a step fails, the families are put
// back to what they were and the error says so. A kernel without IPv6 has
// nothing to capture there and only IPv4 is touched; anything else that keeps
// the IPv6 rules from being installed is an error.
func Up(ctx context.Context, r Runner, rules Rules) error {
	if err := rules.Validate(); err != nil {
		return err
	}
	unlock, err := machineOf(r).lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	fams := families(r)
	// All are read before the first is changed: a missing command or privilege
	// shows here.
	before := make([]installation, len(fams))
	for i, f := range fams {
		if before[i], err = installed(ctx, r, f); err != nil {
			return err
		}
	}
	for i, f := range fams {
		if err := change(ctx, r, f, before[i], rules.installation(f)); err != nil {
			return undo(ctx, r, fams[:i+1], before, err)
		}
	}
	return nil
}

// Down removes all rules of ours, whatever [Rules] made them, and nothing else.
// It may be run again at any time. A family that fails does not keep the other.
func Down(ctx context.Context, r Runner) error {
	unlock, err := machineOf(r).lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	var errs []error
	for _, f := range families(r) {
		have, err := installed(ctx, r, f)
		if err == nil {
			err = change(ctx, r, f, have, installation{})
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func families(r Runner) []family {
	if machineOf(r).hasIPv6() {
		return []family{ipv4, ipv6}
	}
	return []family{ipv4}
}

// An installation is all that one family has of ours, or should have.
type installation struct {
	rules   ruleset
	routing routing
}

func (r Rules) installation(f family) installation {
	return installation{r.ruleset(f), r.routing()}
}

// installed reads what is there of ours.
func installed(ctx context.Context, r Runner, f family) (installation, error) {
	saved, err := r.Run(ctx, "", f.command+"-save", "-c")
	if err != nil {
		return installation{}, fmt.Errorf("read %s rules: %w", f.name, err)
	}
	routing, err := installedRouting(ctx, r, f)
	return installation{parseSave(saved), routing}, err
}

// change turns what f has from have into want. Nothing leads to a route that
// is not there: routing comes before the rules that need it and goes after
// them.
func change(ctx context.Context, r Runner, f family, have, want installation) error {
	if want.routing.empty() {
		if err := changeRules(ctx, r, f, have.rules, want.rules); err != nil {
			return err
		}
		return changeRouting(ctx, r, f, have.routing, want.routing)
	}
	if err := changeRouting(ctx, r, f, have.routing, want.routing); err != nil {
		return err
	}
	return changeRules(ctx, r, f, have.rules, want.rules)
}

// changeRules turns the rules of f from have into want. It runs nothing if they
// are the same, so that the counters go on.
func changeRules(ctx context.Context, r Runner, f family, have, want ruleset) error {
	if have.same(want) {
		return nil
	}
	// iptables waits this many seconds for its lock.
	_, err := r.Run(ctx, transition(have, want), f.command+"-restore", "--noflush", "--wait=10")
	if err != nil {
		return fmt.Errorf("change %s rules: %w", f.name, err)
	}
	return nil
}

const undoTimeout = 30 * time.Second

// undo puts fams back to what they were before cause. The last of them may be
// half done: its tables are committed one by one. An undo outlasts the end of
// ctx, which may be the cause.
func undo(ctx context.Context, r Runner, fams []family, before []installation, cause error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancel()
	var errs []error
	for i, f := range slices.Backward(fams) {
		now, err := installed(ctx, r, f)
		if err == nil {
			err = change(ctx, r, f, now, before[i])
		}
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("%w; undoing the rest failed too, so the rules are half installed: %w", cause, err)
	}
	return fmt.Errorf("%w; the rules are as they were before", cause)
}
