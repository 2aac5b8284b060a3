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
	before := make([]ruleset, len(fams))
	for i, f := range fams {
		if before[i], err = installed(ctx, r, f); err != nil {
			return err
		}
	}
	for i, f := range fams {
		if err := change(ctx, r, f, before[i], rules.ruleset(f)); err != nil {
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
			err = change(ctx, r, f, have, ruleset{})
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

// installed reads what is there of ours.
func installed(ctx context.Context, r Runner, f family) (ruleset, error) {
	saved, err := r.Run(ctx, "", f.command+"-save", "-c")
	if err != nil {
		return ruleset{}, fmt.Errorf("read %s rules: %w", f.name, err)
	}
	return parseSave(saved), nil
}

// change turns the rules of f from have into want. It runs nothing if they are
// the same, so that the counters go on.
func change(ctx context.Context, r Runner, f family, have, want ruleset) error {
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
func undo(ctx context.Context, r Runner, fams []family, before []ruleset, cause error) error {
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
