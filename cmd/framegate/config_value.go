package main

import (
	"fmt"
	"math"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"framegate/intercept"
)

// A parser turns a value as package toml decodes it into what the program
// works with. Its error says what was found and what was expected.
type parser[T any] func(v any) (T, error)

// one sets dst to a single value.
func one[T any](dst *T, parse parser[T]) binding {
	set := func(v any) []error {
		x, err := parse(v)
		if err != nil {
			return []error{err}
		}
		*dst = x
		return nil
	}
	return binding{set, func() any { return *dst }}
}

// many sets dst to an array of at least least values.
func many[T any](dst *[]T, least int, parse parser[T]) binding {
	set := func(v any) []error {
		list, ok := v.([]any)
		if !ok {
			return []error{mismatch(v, "an array")}
		}
		if len(list) < least {
			return []error{mismatch(v, "at least one value")}
		}
		var xs []T
		var errs []error
		for _, e := range list {
			x, err := parse(e)
			if err != nil {
				errs = append(errs, err)
			}
			xs = append(xs, x)
		}
		if errs == nil {
			*dst = xs
		}
		return errs
	}
	return binding{set, func() any { return *dst }}
}

// choice accepts one of the given words.
func choice(words ...string) parser[string] {
	return func(v any) (string, error) {
		s, ok := v.(string)
		if !ok || !slices.Contains(words, s) {
			return "", mismatch(v, `"`+strings.Join(words, `" or "`)+`"`)
		}
		return s, nil
	}
}

func boolean(v any) (bool, error) {
	b, ok := v.(bool)
	if !ok {
		return false, mismatch(v, "true or false")
	}
	return b, nil
}

// optional accepts an empty string besides what parse accepts.
func optional(parse parser[string]) parser[string] {
	return func(v any) (string, error) {
		if v == "" {
			return "", nil
		}
		return parse(v)
	}
}

func path(v any) (string, error) {
	s, ok := v.(string)
	if !ok || s == "" || strings.ContainsRune(s, 0) {
		return "", mismatch(v, "a path")
	}
	return s, nil
}

func globPattern(v any) (string, error) {
	s, err := path(v)
	if err != nil {
		return "", err
	}
	if _, err := filepath.Match(s, ""); err != nil {
		return "", mismatch(v, "a glob pattern")
	}
	return s, nil
}

// listenAddress accepts "address:port" with a literal address or none: a name
// could resolve to something else at each start.
func listenAddress(v any) (string, error) {
	const want = `"address:port" or ":port", port 1 to 65535`
	s, ok := v.(string)
	if !ok {
		return "", mismatch(v, want)
	}
	host, p, err := net.SplitHostPort(s)
	if err != nil {
		return "", mismatch(v, want)
	}
	if n, err := strconv.ParseUint(p, 10, 16); err != nil || n == 0 {
		return "", mismatch(v, want)
	}
	if host != "" {
		if _, err := netip.ParseAddr(host); err != nil {
			return "", mismatch(v, want)
		}
	}
	return s, nil
}

// adminAddress accepts "unix:PATH" besides what a listener may have.
func adminAddress(v any) (string, error) {
	s, _ := v.(string)
	if file, ok := strings.CutPrefix(s, "unix:"); ok {
		_, err := path(file)
		return s, err
	}
	return listenAddress(v)
}

func interfaceName(v any) (string, error) {
	s, ok := v.(string)
	if !ok {
		return "", mismatch(v, "the name of a network interface")
	}
	return s, intercept.Rules{ListenPort: 1, Interfaces: []string{s}}.Validate()
}

// prefix accepts a CIDR or a single address. The bits behind the mask must be
// zero: "10.0.0.1/8" is more often a slip than a network.
func prefix(v any) (netip.Prefix, error) {
	s, _ := v.(string)
	p, err := netip.ParsePrefix(s)
	if a, addrErr := netip.ParseAddr(s); addrErr == nil && a.Zone() == "" {
		p, err = netip.PrefixFrom(a, a.BitLen()), nil
	}
	if err != nil {
		return p, mismatch(v, `a network such as "10.0.0.0/8"`)
	}
	if p != p.Masked() {
		return p, mismatch(v, strconv.Quote(p.Masked().String()))
	}
	return p, intercept.Rules{ListenPort: 1, Exclude: []netip.Prefix{p}}.Validate()
}

func port(v any) (uint16, error) {
	n, err := integer(v, 1, 65535)
	return uint16(n), err
}

// mark refuses 0, which every unmarked socket has: with it nothing would keep
// our own connections out of the redirection.
func mark(v any) (uint32, error) {
	n, err := integer(v, 1, 0xffffffff)
	if err != nil {
		return 0, err
	}
	return uint32(n), intercept.Rules{ListenPort: 1, Mark: uint32(n)}.Validate()
}

func count(v any) (int, error) {
	n, err := integer(v, 0, 1<<31-1)
	return int(n), err
}

// ratio is bounded by what DEFLATE can express.
func ratio(v any) (int, error) {
	n, err := integer(v, 0, 1032)
	return int(n), err
}

func integer(v any, least, most int64) (int64, error) {
	n, ok := v.(int64)
	if !ok || n < least || n > most {
		return 0, mismatch(v, fmt.Sprintf("a number from %d to %d", least, most))
	}
	return n, nil
}

// sizeUnits are decimal (powers of 1000) and binary (of 1024, IEC 80000-13), as
// in policy files.
var sizeUnits = []struct {
	suffix string
	bytes  int64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30},
	{"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9},
	{"B", 1},
}

// size accepts a positive whole number of bytes.
func size(v any) (int64, error) {
	s, _ := v.(string)
	for _, u := range sizeUnits {
		digits, ok := strings.CutSuffix(s, u.suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSuffix(digits, " "), 10, 64)
		if err == nil && n > 0 && n <= math.MaxInt64/u.bytes {
			return n * u.bytes, nil
		}
		break
	}
	return 0, mismatch(v, `a size such as "64KiB" or "1MiB"`)
}

func percent(v any) (int, error) {
	s, _ := v.(string)
	digits, ok := strings.CutSuffix(s, "%")
	n, err := strconv.ParseUint(digits, 10, 8)
	if !ok || err != nil || n < 1 || n > 100 {
		return 0, mismatch(v, `a percentage from "1%" to "100%"`)
	}
	return int(n), nil
}

// perTime accepts a number of events by the second or minute.
func perTime(v any) (rateLimit, error) {
	s, _ := v.(string)
	for suffix, per := range map[string]time.Duration{"/s": time.Second, "/m": time.Minute} {
		digits, ok := strings.CutSuffix(s, suffix)
		n, err := strconv.ParseUint(digits, 10, 64)
		switch {
		case !ok || err != nil || n > 1e6:
		case n == 0:
			return 0, nil
		default:
			return rateLimit(per) / rateLimit(n), nil
		}
	}
	return 0, mismatch(v, `a rate from "1/m" to "1000000/s", or "0/s" for none`)
}

func duration(v any) (time.Duration, error) {
	s, _ := v.(string)
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return 0, mismatch(v, `a duration such as "10s", "5m" or "23h"`)
	}
	return d, nil
}

// keepTime is a time for which records are kept: days too, and 0 for ever. Less
// than an hour is more often a slip than a wish.
func keepTime(v any) (time.Duration, error) {
	const want = `a time of at least an hour such as "400d" or "12h", or "0s" for ever`
	s, _ := v.(string)
	var d time.Duration
	if digits, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.ParseUint(digits, 10, 16) // 179 years, below what a Duration holds
		if err != nil {
			return 0, mismatch(v, want)
		}
		d = time.Duration(n) * 24 * time.Hour
	} else {
		var err error
		if d, err = duration(v); err != nil {
			return 0, mismatch(v, want)
		}
	}
	if d != 0 && d < time.Hour {
		return 0, mismatch(v, want)
	}
	return d, nil
}

// logSize is the size of a whole log. No segment is larger than an eighth of it.
func logSize(v any) (int64, error) {
	if v == "0B" {
		return 0, nil
	}
	n, err := size(v)
	if err != nil || n < 64<<20 {
		return 0, mismatch(v, `a size of at least 64MiB such as "100GiB", or "0B" for no limit`)
	}
	return n, nil
}

func positiveDuration(v any) (time.Duration, error) {
	d, err := duration(v)
	if err == nil && d == 0 {
		err = mismatch(v, "more than zero")
	}
	return d, err
}

// leafValidity has the bounds that package ca keeps for leaves, which cannot be
// revoked: stated here too, so that a mistake has its place in the file.
func leafValidity(v any) (time.Duration, error) {
	d, err := duration(v)
	if err == nil && (d < minLeafValidity || d > maxLeafValidity) {
		err = mismatch(v, `a duration from "1m" to "23h29m"`)
	}
	return d, err
}

const (
	minLeafValidity = time.Minute
	maxLeafValidity = 23*time.Hour + 29*time.Minute
)

func mismatch(v any, want string) error {
	return fmt.Errorf("got %s, expected %s", describe(v), want)
}

// describe shows a value of the file to the person who wrote it.
func describe(v any) string {
	switch v := v.(type) {
	case string:
		return strconv.Quote(v)
	case int64, float64, bool:
		return fmt.Sprint(v)
	case []any:
		if len(v) == 0 {
			return "an empty array"
		}
		return "an array"
	case []map[string]any:
		return "an array of tables"
	case map[string]any:
		return "a table"
	case time.Time:
		return "a date"
	}
	return fmt.Sprintf("%T", v)
}
