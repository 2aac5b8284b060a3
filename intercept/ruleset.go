package intercept

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// ours are the chains that belong to framegate by their name, and with them
// every rule that jumps to one of them.
var ours = [...]struct{ table, chain string }{
	nat:    {"nat", "FRAMEGATE"},
	filter: {"filter", "FRAMEGATE-QUIC"},
	raw:    {"raw", "FRAMEGATE"},
	reply:  {"raw", "FRAMEGATE-REPLY"},
	mangle: {"mangle", "FRAMEGATE"},
}

const (
	nat = iota
	filter
	raw
	reply
	mangle
)

// A ruleset is what one family has of ours, or should have.
type ruleset [len(ours)]chain

type chain struct {
	present bool
	rules   []string // as iptables-save prints them, without "-A CHAIN "
	packets []uint64 // counted by each rule; nil if they have not been read
	jumps   []jump   // in the order of the rules around them
}

// A jump is a rule elsewhere that leads to one of our chains.
type jump struct {
	from string // the chain that holds it
	at   int    // its place there, from 1
	spec string // its matches and target
}

// same reports whether c and d are the same to the kernel, counters aside.
func (c chain) same(d chain) bool {
	return c.present == d.present && slices.Equal(c.rules, d.rules) && slices.Equal(c.jumps, d.jumps)
}

func (s ruleset) same(t ruleset) bool {
	return slices.EqualFunc(s[:], t[:], chain.same)
}

func (s ruleset) empty() bool { return s.same(ruleset{}) }

// transition renders the input of iptables-restore --noflush that turns have
// into want. Everything else in the tables stays as it is. To delete a rule
// that is not there is an error of iptables-restore, so have must be what is.
func transition(have, want ruleset) string {
	var b strings.Builder
	table := "" // whose transaction is open
	for i, own := range ours {
		have, want := have[i], want[i]
		if have.same(want) {
			continue
		}
		if own.table != table {
			if table != "" {
				b.WriteString("COMMIT\n")
			}
			table = own.table
			fmt.Fprintf(&b, "*%s\n", table)
		}
		// Creates the chain, or flushes it.
		fmt.Fprintf(&b, ":%s - [0:0]\n", own.chain)
		for _, j := range have.jumps {
			fmt.Fprintf(&b, "-D %s %s\n", j.from, j.spec)
		}
		for _, spec := range want.rules {
			fmt.Fprintf(&b, "-A %s %s\n", own.chain, spec)
		}
		// In order, so that each finds those before it in place.
		for _, j := range want.jumps {
			fmt.Fprintf(&b, "-I %s %d %s\n", j.from, j.at, j.spec)
		}
		if !want.present {
			fmt.Fprintf(&b, "-X %s\n", own.chain)
		}
	}
	if table != "" {
		b.WriteString("COMMIT\n")
	}
	return b.String()
}

var (
	savedRule = regexp.MustCompile(`^(?:\[(\d+):\d+\] )?-A (\S+) ?(.*)$`)
	quoted    = regexp.MustCompile(`"(?:[^"\\]|\\.)*"`)
)

// parseSave finds what is ours in the output of iptables-save, with or without
// counters.
func parseSave(saved string) ruleset {
	var s ruleset
	table := ""
	places := map[string]int{} // number of rules seen, by chain
	for line := range strings.Lines(saved) {
		line = strings.TrimRight(line, "\n")
		if name, ok := strings.CutPrefix(line, "*"); ok {
			table = name
			clear(places)
			continue
		}
		m := savedRule.FindStringSubmatch(line)
		if m != nil {
			places[m[2]]++
		}
		for i, own := range ours {
			switch {
			case own.table != table:
			case m == nil:
				s[i].present = s[i].present || strings.HasPrefix(line, ":"+own.chain+" ")
			case m[2] == own.chain:
				packets, _ := strconv.ParseUint(m[1], 10, 64) // "" without counters
				s[i].rules = append(s[i].rules, m[3])
				s[i].packets = append(s[i].packets, packets)
			case leadsTo(m[3], own.chain):
				s[i].jumps = append(s[i].jumps, jump{m[2], places[m[2]], m[3]})
			}
		}
	}
	return s
}

// leadsTo reports whether the target of a rule is chain. Quoted strings, such
// as comments, may hold anything.
func leadsTo(spec, chain string) bool {
	words := strings.Fields(quoted.ReplaceAllString(spec, "?"))
	for i, w := range words[:max(len(words)-1, 0)] {
		if (w == "-j" || w == "-g") && words[i+1] == chain {
			return true
		}
	}
	return false
}
