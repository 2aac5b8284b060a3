package intercept

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A fakeRouting is what a [Fake] knows of the routing of a family: the rules
// beside the three that the kernel makes, and the routes of captureTable, both
// as ip prints them.
type fakeRouting struct{ rules, routes []string }

// routing returns the routing of the family that an option of ip selects.
func (f *Fake) routing(family string) *fakeRouting {
	if f.routings == nil {
		f.routings = map[string]*fakeRouting{}
	}
	if f.routings[family] == nil {
		f.routings[family] = new(fakeRouting)
	}
	return f.routings[family]
}

// run carries out the arguments of ip after the family.
func (r *fakeRouting) run(args []string, stdin, failAt string) (string, error) {
	switch strings.Join(args, " ") {
	case "-N rule show":
		var b strings.Builder
		b.WriteString("0:\tfrom all lookup 255\n")
		for _, rule := range r.rules {
			b.WriteString(rule + "\n")
		}
		b.WriteString("32766:\tfrom all lookup 254\n32767:\tfrom all lookup 253\n")
		return b.String(), nil
	case fmt.Sprintf("route show table %d", captureTable):
		if len(r.routes) == 0 {
			return "", errors.New("Error: ipv4: FIB table does not exist. Dump terminated")
		}
		return strings.Join(r.routes, " \n") + " \n", nil
	case "-batch -":
		n := 0
		for line := range strings.Lines(stdin) {
			n++
			line = strings.TrimSuffix(line, "\n")
			err := errors.New("fake failure")
			if failAt == "" || !strings.Contains(line, failAt) {
				err = r.apply(line)
			}
			if err != nil {
				return "", fmt.Errorf("%w Command failed -:%d", err, n)
			}
		}
		return "", nil
	}
	return "", errors.New("the fake does not know these arguments")
}

func preference(rule string) int {
	pref, _, _ := strings.Cut(rule, ":")
	n, _ := strconv.Atoi(pref)
	return n
}

// apply carries out one line of a batch. What came before a line that fails
// has been done.
func (r *fakeRouting) apply(line string) error {
	table := fmt.Sprintf(" table %d", captureTable)
	switch {
	case strings.HasPrefix(line, "rule add pref "), strings.HasPrefix(line, "rule del pref "):
		pref, spec, _ := strings.Cut(line[len("rule add pref "):], " ")
		rule := pref + ":\t" + spec
		i := slices.Index(r.rules, rule)
		switch add := line[5:8] == "add"; {
		case add && i >= 0:
			return errors.New("RTNETLINK answers: File exists")
		case add:
			r.rules = append(r.rules, rule)
			slices.SortFunc(r.rules, func(a, b string) int { return cmp.Compare(preference(a), preference(b)) })
		case i < 0:
			return errors.New("RTNETLINK answers: No such file or directory")
		default:
			r.rules = slices.Delete(r.rules, i, i+1)
		}
	case strings.HasPrefix(line, "route add ") && strings.HasSuffix(line, table):
		r.routes = append(r.routes, strings.TrimSuffix(line[len("route add "):], table)+" scope host")
	case strings.HasPrefix(line, "route del ") && strings.HasSuffix(line, table):
		i := slices.Index(r.routes, strings.TrimSuffix(line[len("route del "):], table)+" scope host")
		if i < 0 {
			return errors.New("RTNETLINK answers: No such process")
		}
		r.routes = slices.Delete(r.routes, i, i+1)
	default:
		return fmt.Errorf("unknown command %q", line)
	}
	return nil
}
