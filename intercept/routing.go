package intercept

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// A routing is what one family has of ours, or should have, besides the
// tables: the routes of the table captureTable, the rules that lead there and
// those about CaptureMark.
type routing struct {
	rules  []string // arguments of "ip rule add"
	routes []string // arguments of "ip route add", without the table
}

func (a routing) same(b routing) bool {
	return slices.Equal(a.rules, b.rules) && slices.Equal(a.routes, b.routes)
}

func (a routing) empty() bool { return a.same(routing{}) }

// reroute renders the input of ip -batch that turns have into want. Routes are
// there before a rule leads to them.
func reroute(have, want routing) string {
	var b strings.Builder
	table := fmt.Sprintf(" table %d", captureTable)
	b.WriteString(commands("rule del ", have.rules, want.rules, ""))
	b.WriteString(commands("route del ", have.routes, want.routes, table))
	b.WriteString(commands("route add ", want.routes, have.routes, table))
	b.WriteString(commands("rule add ", want.rules, have.rules, ""))
	return b.String()
}

// commands renders a command for each of specs that is not among others.
func commands(command string, specs, others []string, end string) string {
	var b strings.Builder
	for _, spec := range specs {
		if !slices.Contains(others, spec) {
			b.WriteString(command + spec + end + "\n")
		}
	}
	return b.String()
}

// noTable is what ip says of a table without routes, which does not exist.
const noTable = "FIB table does not exist"

// installedRouting reads what is there of ours. Without ip there is nothing.
func installedRouting(ctx context.Context, r Runner, f family) (routing, error) {
	rules, err := r.Run(ctx, "", "ip", f.ip, "-N", "rule", "show") // -N: tables by number
	if errors.Is(err, errNoCommand) {
		return routing{}, nil
	}
	if err != nil {
		return routing{}, fmt.Errorf("read %s routing rules: %w", f.name, err)
	}
	routes, err := r.Run(ctx, "", "ip", f.ip, "route", "show", "table", fmt.Sprint(captureTable))
	if failed := (*CommandError)(nil); errors.As(err, &failed) && strings.Contains(failed.Stderr, noTable) {
		routes, err = "", nil
	}
	if err != nil {
		return routing{}, fmt.Errorf("read %s routes: %w", f.name, err)
	}
	return parseRouting(rules, routes), nil
}

// defaultAttributes are printed of a route though nobody has asked for them.
var defaultAttributes = strings.NewReplacer(" scope host", "", " metric 1024", "", " pref medium", "")

var ownRule = regexp.MustCompile(fmt.Sprintf(" (fwmark %#x|lookup %d)( |$)", CaptureMark, captureTable))

// parseRouting finds what is ours in the output of ip.
func parseRouting(rules, routes string) routing {
	var own routing
	for line := range strings.Lines(rules) {
		pref, spec, ok := strings.Cut(strings.Join(strings.Fields(line), " "), ": ")
		if ok && ownRule.MatchString(spec) {
			own.rules = append(own.rules, "pref "+pref+" "+spec)
		}
	}
	for line := range strings.Lines(routes) {
		if words := strings.Fields(line); len(words) > 0 {
			own.routes = append(own.routes, defaultAttributes.Replace(strings.Join(words, " ")))
		}
	}
	return own
}

// linkDown is what ip says of a route by a device that is down.
const linkDown = "Nexthop device is not up"

// changeRouting turns the routing of f from have into want. It runs nothing if
// they are the same.
func changeRouting(ctx context.Context, r Runner, f family, have, want routing) error {
	if have.same(want) {
		return nil
	}
	_, err := r.Run(ctx, reroute(have, want), "ip", f.ip, "-batch", "-")
	if failed := (*CommandError)(nil); errors.As(err, &failed) && strings.Contains(failed.Stderr, linkDown) {
		err = &SetupError{err, "ip link set lo up"}
	}
	if err != nil {
		return fmt.Errorf("change %s routing: %w", f.name, err)
	}
	return nil
}
