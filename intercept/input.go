package intercept

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// An InputReport says what the firewall of this machine does with captured
// connections: they end here, so that they pass the chain INPUT of the table filter.
type InputReport struct {
	Family string
	// Dropped is the rule, or the policy, that keeps out what no rule before it
	// lets in; empty if the chain lets in all.
	Dropped string
	// Some is the first rule that lets in a part of it, by its source for one,
	// and Meant whether such a rule names what is captured. Both are about Dropped.
	Some  string
	Meant bool
	// Mend is the command that lets captured connections in, and nothing else.
	Mend string
}

// Input follows a captured connection through the rules of each family. It knows the
// rules of iptables; what a program has told nf_tables by itself it does not see.
func Input(ctx context.Context, r Runner, rules Rules) ([]InputReport, error) {
	if err := rules.Validate(); err != nil {
		return nil, err
	}
	var list []InputReport
	for _, f := range families(r) {
		saved, err := r.Run(ctx, "", f.command+"-save", "-t", "filter")
		if err != nil {
			return nil, fmt.Errorf("read %s rules: %w", f.name, err)
		}
		list = append(list, rules.input(f, saved))
	}
	return list, nil
}

func (r Rules) input(f family, saved string) InputReport {
	w := walk{rules: r, chains: map[string][]string{}}
	w.report.Family = f.name
	policy := "ACCEPT"
	for line := range strings.Lines(saved) {
		line = strings.TrimSpace(line)
		if m := savedRule.FindStringSubmatch(line); m != nil {
			w.chains[m[2]] = append(w.chains[m[2]], m[3])
		} else if rest, ok := strings.CutPrefix(line, ":INPUT "); ok {
			policy, _, _ = strings.Cut(rest, " ")
		}
	}
	switch end, by := w.chain("INPUT", 0, true); {
	case end == dropped:
		w.report.Dropped = by
	case end == undecided && policy == "DROP":
		w.report.Dropped = "-P INPUT DROP"
	}
	w.report.Mend = f.command + " -I INPUT -p tcp -m tcp --dport " + strconv.Itoa(int(r.ListenPort)) + " -m conntrack --ctstate DNAT -j ACCEPT"
	if r.transparent() {
		w.report.Mend = fmt.Sprintf("%s -I INPUT -p tcp -m mark --mark %#x -j ACCEPT", f.command, CaptureMark)
	}
	return w.report
}

// A walk goes through chains as the first packet of a captured connection would.
type walk struct {
	rules  Rules
	chains map[string][]string
	report InputReport
}

type ending int

const (
	undecided ending = iota
	accepted
	dropped
)

// deepest is how far jumps are followed; the kernel takes no loop.
const deepest = 32

// chain returns how a chain ends, and by which rule. With sure unset, it is not known
// whether the packet comes here at all: nothing is decided then.
func (w *walk) chain(name string, depth int, sure bool) (ending, string) {
	if depth > deepest {
		return undecided, ""
	}
	for _, rule := range w.chains[name] {
		m := w.rules.match(rule)
		if m.no {
			continue
		}
		certain := sure && !m.perhaps
		line := "-A " + name + " " + rule
		switch m.target {
		case "ACCEPT", "NFQUEUE", "QUEUE": // a queue is another program's matter
			if certain {
				return accepted, line
			}
			if w.report.Some == "" || m.meant && !w.report.Meant {
				w.report.Some, w.report.Meant = line, m.meant
			}
		case "DROP", "REJECT":
			if certain {
				return dropped, line
			}
		case "RETURN":
			if !m.perhaps {
				return undecided, ""
			}
			sure = false
		default: // a chain, or what decides nothing, such as LOG
			if end, by := w.chain(m.target, depth+1, certain); end != undecided {
				return end, by
			}
		}
	}
	return undecided, ""
}

// A match is what a rule has to do with the first packet of a captured connection.
type match struct {
	target  string
	no      bool // it is about others
	perhaps bool // it depends on what is not known: the client, how often it comes
	meant   bool // it names what only captured connections have
}

// match judges a rule as iptables-save prints it, without "-A CHAIN ".
func (r Rules) match(rule string) (m match) {
	words := strings.Fields(quoted.ReplaceAllString(rule, `""`))
	next := func() (word string) {
		if len(words) > 0 {
			word, words = words[0], words[1:]
		}
		return word
	}
	for len(words) > 0 {
		option := next()
		not := option == "!"
		if not {
			option = next()
		}
		is, meant := some, false
		switch option {
		case "-j", "-g":
			m.target = next()
			return m
		case "-m", "--comment":
			next()
			continue
		case "-p":
			is = all(slices.Contains([]string{"tcp", "6", "all"}, next()))
		case "-i":
			is = r.arrivesBy(next())
		case "--dport", "--dports":
			is, meant = r.arrivesAt(next()), true
		case "--ctstate", "--state":
			states := strings.Split(next(), ",")
			meant = !r.transparent() && slices.Contains(states, "DNAT")
			is = all(meant || slices.Contains(states, "NEW"))
		case "--dst-type":
			is = all(next() == "LOCAL" && !r.transparent())
		case "--transparent":
			is, meant = all(r.transparent()), true
		case "--mark":
			if mark := next(); r.transparent() { // else it is somebody else's
				is, meant = all(carries(mark)), true
			}
		case "--tcp-flags":
			if next(); next() == "SYN" {
				is = all(true)
			}
		default: // -s, -d, limits and all the others, and what they have as values
		}
		if not {
			is = every - is
			meant = false
		}
		m.no = m.no || is == none
		m.perhaps = m.perhaps || is == some
		m.meant = m.meant || meant
	}
	return m
}

// A share is how many of the captured connections a condition holds for.
type share int

const (
	none share = iota
	some
	every
)

func all(yes bool) share {
	if yes {
		return every
	}
	return none
}

// arrivesAt says of a list such as 80,8000:9000 whether it has the destination ports.
func (r Rules) arrivesAt(list string) share {
	ports := []uint16{r.ListenPort}
	if r.transparent() {
		ports = r.ports()
	}
	n := 0
	for _, port := range ports {
		for item := range strings.SplitSeq(list, ",") {
			low, high, isRange := strings.Cut(item, ":")
			if !isRange {
				high = low
			}
			from, err := strconv.ParseUint(low, 10, 16)
			to, err2 := strconv.ParseUint(high, 10, 16)
			if err == nil && err2 == nil && from <= uint64(port) && uint64(port) <= to {
				n++
				break
			}
		}
	}
	switch n {
	case 0:
		return none
	case len(ports):
		return every
	}
	return some
}

// arrivesBy says whether connections are captured on an interface.
func (r Rules) arrivesBy(name string) share {
	if name == "lo" {
		return none
	}
	if len(r.Interfaces) == 1 && r.Interfaces[0] == name {
		return every
	}
	return some
}

// carries says whether a mark such as 0x1/0xff is that of captured packets.
func carries(mark string) bool {
	value, mask, _ := strings.Cut(mark, "/")
	v, err := strconv.ParseUint(value, 0, 32)
	if err != nil {
		return false
	}
	bits, err := strconv.ParseUint(mask, 0, 32)
	if err != nil {
		bits = 0xffffffff
	}
	return CaptureMark&bits == v
}
