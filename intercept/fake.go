package intercept

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// A Fake is a [Runner] that keeps the tables of a machine in memory. It knows
// iptables-save, iptables-restore --noflush and their IPv6 twins, and of
// these as much as this package uses: each table is committed by itself, and
// nothing of a table whose input has an error. Counters are always zero. It
// knows ip rule, ip route and ip -batch to the same extent.
//
// The zero Fake has empty tables and a kernel with IPv6. It is safe for
// concurrent use.
type Fake struct {
	// NoIPv6 makes the kernel one without IPv6.
	NoIPv6 bool
	// Fail makes commands fail, by name. An iptables-restore fails at the
	// first line of input that contains the text, and so does an ip -batch;
	// another command, or with an empty text, at once.
	Fail map[string]string
	// Ran lists the commands that were run, in order.
	Ran []string

	changing sync.Mutex // the lock of the machine
	mu       sync.Mutex // guards what follows, and Ran
	tables   map[string]fakeTable
	routings map[string]*fakeRouting
}

// A fakeTable maps the name of a chain to its rules. It is never changed, but
// replaced at COMMIT.
type fakeTable map[string][]string

var fakeBuiltin = map[string][]string{
	"nat":    {"PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"},
	"filter": {"INPUT", "FORWARD", "OUTPUT"},
	"raw":    {"PREROUTING", "OUTPUT"},
	"mangle": {"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"},
}

func (f *Fake) hasIPv6() bool { return !f.NoIPv6 }

func (f *Fake) lock(context.Context) (func(), error) {
	f.changing.Lock()
	return f.changing.Unlock, nil
}

// Run implements [Runner].
func (f *Fake) Run(ctx context.Context, stdin string, argv ...string) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.Ran = append(f.Ran, argv[0])
	if err := ctx.Err(); err != nil {
		return "", &CommandError{argv, "", err}
	}
	command, save := strings.CutSuffix(argv[0], "-save")
	command, restore := strings.CutSuffix(command, "-restore")
	at, failing := f.Fail[argv[0]]
	switch {
	case failing && (at == "" || !restore && argv[0] != "ip"):
		return "", &CommandError{argv, "fake failure", errors.New("exit status 1")}
	case argv[0] == "ip" && len(argv) > 2:
		out, err := f.routing(argv[1]).run(argv[2:], stdin, at)
		if err != nil {
			return "", &CommandError{argv, err.Error(), errors.New("exit status 1")}
		}
		return out, nil
	case save:
		return f.save(command), nil
	case restore:
		if err := f.restore(command, stdin, at); err != nil {
			return "", &CommandError{argv, err.Error(), errors.New("exit status 1")}
		}
		return "", nil
	}
	return "", &CommandError{argv, "the fake does not know this command", errors.New("exit status 127")}
}

// table returns a copy of a table, to be changed.
func (f *Fake) table(command, name string) fakeTable {
	t := fakeTable{}
	for _, chain := range fakeBuiltin[name] {
		t[chain] = nil
	}
	for chain, rules := range f.tables[command+" "+name] {
		t[chain] = slices.Clone(rules)
	}
	return t
}

func (f *Fake) save(command string) string {
	var b strings.Builder
	for _, name := range []string{"raw", "mangle", "filter", "nat"} {
		fmt.Fprintf(&b, "*%s\n", name)
		t := f.table(command, name)
		chains := slices.Clone(fakeBuiltin[name])
		for chain := range t {
			if !slices.Contains(chains, chain) {
				chains = append(chains, chain)
			}
		}
		slices.Sort(chains[len(fakeBuiltin[name]):])
		for i, chain := range chains {
			policy := "ACCEPT"
			if i >= len(fakeBuiltin[name]) {
				policy = "-"
			}
			fmt.Fprintf(&b, ":%s %s [0:0]\n", chain, policy)
		}
		for _, chain := range chains {
			for _, spec := range t[chain] {
				fmt.Fprintf(&b, "[0:0] -A %s %s\n", chain, spec)
			}
		}
		b.WriteString("COMMIT\n")
	}
	return b.String()
}

func (f *Fake) restore(command, input, failAt string) error {
	name, t := "", fakeTable(nil)
	n := 0
	for line := range strings.Lines(input) {
		n++
		line = strings.TrimRight(line, "\n")
		if failAt != "" && strings.Contains(line, failAt) {
			return fmt.Errorf("line %d failed: fake failure", n)
		}
		switch {
		case line == "" || line[0] == '#':
		case line[0] == '*' && fakeBuiltin[line[1:]] != nil:
			name = line[1:]
			t = f.table(command, name)
		case t == nil:
			return fmt.Errorf("line %d failed: no table", n)
		case line == "COMMIT":
			if f.tables == nil {
				f.tables = map[string]fakeTable{}
			}
			f.tables[command+" "+name] = t
			t = nil
		case line[0] == ':':
			chain, _, _ := strings.Cut(line[1:], " ")
			t[chain] = nil
		default:
			if err := t.apply(line); err != nil {
				return fmt.Errorf("line %d failed: %w", n, err)
			}
		}
	}
	return nil
}

// apply carries out one line of rules.
func (t fakeTable) apply(line string) error {
	op, rest, _ := strings.Cut(line, " ")
	chain, spec, _ := strings.Cut(rest, " ")
	rules, ok := t[chain]
	if !ok {
		return fmt.Errorf("no chain %s", chain)
	}
	switch op {
	case "-A":
		t[chain] = append(rules, spec)
	case "-I":
		place, spec, _ := strings.Cut(spec, " ")
		at, err := strconv.Atoi(place)
		if err != nil || at < 1 || at > len(rules)+1 {
			return fmt.Errorf("index of insertion %q too big", place)
		}
		t[chain] = slices.Insert(rules, at-1, spec)
	case "-D":
		i := slices.Index(rules, spec)
		if i < 0 {
			return errors.New("does a matching rule exist in that chain?")
		}
		t[chain] = slices.Delete(rules, i, i+1)
	case "-X":
		for _, specs := range t {
			for _, spec := range specs {
				if leadsTo(spec, chain) {
					return fmt.Errorf("chain %s is in use", chain)
				}
			}
		}
		if len(rules) > 0 {
			return fmt.Errorf("chain %s is not empty", chain)
		}
		delete(t, chain)
	default:
		return fmt.Errorf("unknown option %q", op)
	}
	return nil
}
