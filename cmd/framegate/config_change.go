package main

import (
	"fmt"
	"net/netip"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// An effect says when a reload brings a changed value of a key to bear.
type effect int

const (
	_         effect = iota
	live             // at once, on live connections, too
	fresh            // on new connections; those that live keep what they had
	atRules          // with `framegate redirect up`, the gateway itself has no use for it
	atRestart        // not by a reload, which is refused
)

// A binding is the place of one key in a config.
type binding struct {
	set func(v any) []error // takes the value as package toml decodes it; errors say what was expected
	get func() any          // the value that is there
}

// A change is a key with another value than before.
type change struct {
	key         string
	effect      effect
	before, now any
}

func (c change) String() string {
	return fmt.Sprintf("%s: %s, before %s", c.key, abridged(showValue(c.now), 500), abridged(showValue(c.before), 500))
}

// abridged leaves out the end of what would make a record too long, as a list of
// thousands of networks can.
func abridged(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return fmt.Sprintf("%s... (%d bytes)", strings.ToValidUTF8(s[:most], ""), len(s))
}

// changes are a list of them.
type changes []change

// changesTo returns in which keys next differs.
func (c *config) changesTo(next *config) (all changes) {
	before := c.fields()
	for i, f := range next.fields() {
		a, b := before[i].get(), f.get()
		if !same(a, b) {
			all = append(all, change{f.key, f.effect, a, b})
		}
	}
	return all
}

// same takes an empty array for none.
func same(a, b any) bool {
	x, y := reflect.ValueOf(a), reflect.ValueOf(b)
	if x.Kind() == reflect.Slice && x.Len() == 0 && y.Len() == 0 {
		return true
	}
	return reflect.DeepEqual(a, b)
}

// in reports whether one of the keys begins with one of the prefixes.
func (all changes) in(prefixes ...string) bool {
	for _, c := range all {
		for _, p := range prefixes {
			if strings.HasPrefix(c.key, p) {
				return true
			}
		}
	}
	return false
}

// that are those with an effect.
func (all changes) that(e effect) (some changes) {
	for _, c := range all {
		if c.effect == e {
			some = append(some, c)
		}
	}
	return some
}

// String is what the log has of them.
func (all changes) String() string {
	var lines []string
	for _, c := range all {
		lines = append(lines, c.String())
	}
	return strings.Join(lines, "; ")
}

// keys are their names.
func (all changes) keys() string {
	var names []string
	for _, c := range all {
		names = append(names, c.key)
	}
	return strings.Join(names, ", ")
}

// showValue writes a value of a config as the file would. No value is a secret:
// passphrases and private keys are in files of their own, and URLs have no place
// for a password.
func showValue(v any) string {
	switch v := v.(type) {
	case string:
		return strconv.QuoteToGraphic(v)
	case time.Duration:
		return strconv.Quote(shortDuration(v))
	case int64: // all of these are sizes
		best := sizeUnits[len(sizeUnits)-1] // bytes
		for _, u := range sizeUnits {
			if v%u.bytes == 0 && v >= u.bytes && u.bytes > best.bytes {
				best = u
			}
		}
		return fmt.Sprintf(`"%d%s"`, v/best.bytes, best.suffix)
	case rateLimit:
		return showRate(v)
	case netip.Prefix:
		return strconv.Quote(v.String())
	case fmt.Stringer:
		return strconv.QuoteToGraphic(v.String())
	}
	r := reflect.ValueOf(v)
	if r.Kind() != reflect.Slice {
		return fmt.Sprint(v)
	}
	elements := make([]string, r.Len())
	for i := range elements {
		elements[i] = showValue(r.Index(i).Interface())
	}
	return "[" + strings.Join(elements, ", ") + "]"
}

func showRate(l rateLimit) string {
	switch {
	case l == 0:
		return `"0/s"`
	case rateLimit(time.Second)%l < rateLimit(time.Second)/l: // what the division had left over
		return fmt.Sprintf(`"%d/s"`, rateLimit(time.Second)/l)
	}
	return fmt.Sprintf(`"%d/m"`, rateLimit(time.Minute)/l)
}

// shortDuration leaves out units that are zero: "23h", not "23h0m0s".
func shortDuration(d time.Duration) string {
	s := d.String()
	if rest, ok := strings.CutSuffix(s, "m0s"); ok {
		s = rest + "m"
	}
	if rest, ok := strings.CutSuffix(s, "h0m"); ok {
		s = rest + "h"
	}
	return s
}
