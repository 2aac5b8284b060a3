package intercept

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// A State sums up what is installed.
type State string

const (
	StateUp      State = "up"      // exactly the expected rules
	StateDown    State = "down"    // nothing of ours
	StatePartial State = "partial" // some of the rules, or others in our chains
)

// A Report compares what is installed with what is expected.
type Report struct {
	State    State          `json:"state"`
	Families []FamilyReport `json:"families"`
}

// A FamilyReport is the part of a [Report] on "ipv4" or "ipv6".
type FamilyReport struct {
	Family string `json:"family"`
	State  State  `json:"state"`
	// Detail says what differs, or may be wrong all the same, in lines.
	Detail []string `json:"detail,omitempty"`
	// Captured counts the connections captured since the rules were installed,
	// as their tables see the first packet of each; under "tproxy" one that a
	// client repeats counts again.
	Captured uint64 `json:"captured"`
	// Rejected counts the UDP/443 packets rejected since then.
	Rejected uint64 `json:"rejected"`
}

// Status reports on the rules of a machine, where rules are expected. It
// changes nothing.
func Status(ctx context.Context, r Runner, rules Rules) (Report, error) {
	if err := rules.Validate(); err != nil {
		return Report{}, err
	}
	var rep Report
	for _, f := range families(r) {
		have, err := installed(ctx, r, f)
		if err != nil {
			return Report{}, err
		}
		rep.Families = append(rep.Families, compare(f, have, rules.installation(f)))
	}
	rep.State = rep.Families[0].State
	for _, f := range rep.Families {
		if f.State != rep.State {
			rep.State = StatePartial
		}
	}
	return rep, nil
}

func compare(f family, have, want installation) FamilyReport {
	rep := FamilyReport{Family: f.name, State: StateUp}
	for i, own := range ours {
		have := have.rules[i]
		diff := difference(own.chain, have, want.rules[i])
		for _, line := range diff {
			rep.Detail = append(rep.Detail, own.table+": "+line)
		}
		if len(diff) > 0 {
			rep.State = StatePartial
		}
		before := map[string]int{} // of our jumps, by chain
		for _, j := range have.jumps {
			if n := j.at - 1 - before[j.from]; n > 0 {
				rep.Detail = append(rep.Detail, fmt.Sprintf("%s: rules before ours in %s, which may decide first: %d", own.table, j.from, n))
			}
			before[j.from]++
		}
	}
	for _, line := range slices.Concat(
		missingOrExtra(prefixed("rule ", have.routing.rules), prefixed("rule ", want.routing.rules)),
		missingOrExtra(prefixed("route ", have.routing.routes), prefixed("route ", want.routing.routes)),
	) {
		rep.State = StatePartial
		rep.Detail = append(rep.Detail, "routing: "+line)
	}
	if have.rules.empty() && have.routing.empty() {
		rep.State, rep.Detail = StateDown, nil
	}
	rep.Captured = have.rules[nat].count("-j REDIRECT ") + have.rules[mangle].count("-j TPROXY ")
	rep.Rejected = have.rules[filter].count("-j REJECT ")
	return rep
}

// missingOrExtra lists the lines that are missing, then those too many. It
// uses h up.
func missingOrExtra(h, w []string) []string {
	var diff []string
	for _, line := range w {
		if i := slices.Index(h, line); i >= 0 {
			h = slices.Delete(h, i, i+1)
			continue
		}
		diff = append(diff, "missing: "+line)
	}
	for _, line := range h {
		diff = append(diff, "unexpected: "+line)
	}
	return diff
}

func prefixed(prefix string, lines []string) []string {
	var out []string
	for _, line := range lines {
		out = append(out, prefix+line)
	}
	return out
}

// difference compares two chains.
func difference(name string, have, want chain) []string {
	diff := missingOrExtra(have.lines(name), want.lines(name))
	switch {
	case diff != nil:
	case have.present != want.present:
		diff = append(diff, "unexpected: empty chain "+name)
	case !slices.Equal(have.rules, want.rules):
		diff = append(diff, "the rules of "+name+" are in another order")
	}
	return diff
}

// lines returns c as iptables-save prints it.
func (c chain) lines(name string) []string {
	var lines []string
	for _, spec := range c.rules {
		lines = append(lines, "-A "+name+" "+spec)
	}
	for _, j := range c.jumps {
		lines = append(lines, "-A "+j.from+" "+j.spec)
	}
	return lines
}

// count adds up the packets of the rules with target.
func (c chain) count(target string) uint64 {
	var n uint64
	for i, spec := range c.rules {
		if strings.Contains(spec, target) {
			n += c.packets[i]
		}
	}
	return n
}

// Show returns a shell script with the effect of [Up], for an administrator to
// read, keep or paste. It may be run again. Unlike Up it does not undo, nor
// remove what older rules had and these have not.
func Show(rules Rules) (string, error) {
	if err := rules.Validate(); err != nil {
		return "", err
	}
	var b strings.Builder
	fmt.Fprintf(&b, `#!/bin/sh
# framegate: TCP to ports %s goes to port %d of this machine.
# Run as root; "framegate redirect down" takes it back.
(
set -eu
`, list(rules.ports()), rules.ListenPort)
	script(&b, ipv4, rules)
	b.WriteString("\n# a kernel without IPv6 needs no more\n[ -e /proc/net/if_inet6 ] || exit 0\n")
	script(&b, ipv6, rules)
	b.WriteString(")\n")
	return b.String(), nil
}

func script(b *strings.Builder, f family, rules Rules) {
	for _, spec := range rules.routing().routes {
		fmt.Fprintf(b, "\nip %s route replace %s table %d\n", f.ip, spec, captureTable)
	}
	for _, spec := range rules.routing().rules {
		pref, match, _ := strings.Cut(strings.TrimPrefix(spec, "pref "), " ")
		fmt.Fprintf(b, "ip %s -N rule show | grep -q '^%s:[[:space:]]*%s *$' ||\n\tip %s rule add %s\n", f.ip, pref, match, f.ip, spec)
	}
	chains := rules.ruleset(f)
	jumps := ""
	for i, own := range ours {
		for _, j := range chains[i].jumps {
			cmd := fmt.Sprintf("%s -w 10 -t %s", f.command, own.table)
			jumps += fmt.Sprintf("%s -C %s %s 2>/dev/null ||\n\t%s -I %s %d %s\n", cmd, j.from, j.spec, cmd, j.from, j.at, j.spec)
		}
		chains[i].jumps = nil
	}
	fmt.Fprintf(b, "\n%s-restore --noflush --wait=10 <<'EOF'\n%sEOF\n%s", f.command, transition(ruleset{}, chains), jumps)
}
