package frames

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestParseExtensions(t *testing.T) {
	type params = []Parameter
	for _, c := range []struct {
		values []string
		want   []Extension
	}{
		{nil, nil},
		{[]string{""}, nil},
		{[]string{" , ,\t,"}, nil},
		{[]string{"foo"}, []Extension{{"foo", nil}}},
		{[]string{"foo; a; b=1"}, []Extension{{"foo", params{{"a", ""}, {"b", "1"}}}}},
		{[]string{" foo\t; a = 1 ;b = \"2\" , bar,"}, []Extension{{"foo", params{{"a", "1"}, {"b", "2"}}}, {"bar", nil}}},
		{[]string{`foo; a="\1\0"`}, []Extension{{"foo", params{{"a", "10"}}}}},
		// The example of Section 9.1: these are equivalent.
		{[]string{"foo", "bar; baz=2"}, []Extension{{"foo", nil}, {"bar", params{{"baz", "2"}}}}},
		{[]string{"foo, bar; baz=2"}, []Extension{{"foo", nil}, {"bar", params{{"baz", "2"}}}}},
		// And the others of that section.
		{[]string{"deflate-stream"}, []Extension{{"deflate-stream", nil}}},
		{[]string{"mux; max-channels=4; flow-control, deflate-stream"}, []Extension{{"mux", params{{"max-channels", "4"}, {"flow-control", ""}}}, {"deflate-stream", nil}}},
		{[]string{"private-extension"}, []Extension{{"private-extension", nil}}},
		{[]string{"a!#$%&'*+-.^_`|~z"}, []Extension{{"a!#$%&'*+-.^_`|~z", nil}}},
	} {
		if got, err := ParseExtensions(c.values); err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%q: %+v, %v", c.values, got, err)
		}
	}

	for _, value := range []string{
		";", "=", "foo;", "foo;;a", "foo; =1", "foo; a=", "foo; a=,bar", "foo bar", "foo=1", "foo; a=1 b",
		`foo; a="`, `foo; a="1`, `foo; a="1\`, `foo; a=""`, `foo; a="1 2"`, `foo; a="1,2"`, `foo; a="\""`, `foo; a="1"2`, `"foo"`, `foo; "a"`,
		"foo\x00", "f\xc3\xb6", "foo; a=\x7f", "foo\n", "foo/1", "(foo)",
	} {
		got, err := ParseExtensions([]string{"first", value})
		var e *HandshakeError
		if got != nil || !errors.As(err, &e) || e.Section != "RFC 6455, Section 9.1" {
			t.Errorf("%q: %+v, %v", value, got, err)
		}
		if err != nil && strings.ContainsFunc(err.Error(), func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Errorf("%q: not escaped in %q", value, err)
		}
	}
}

func TestAgree(t *testing.T) {
	const pd = "permessage-deflate"
	full := Context{Takeover: true, Bits: 15}
	for _, c := range []struct {
		offers, answer string
		want           *Deflate
	}{
		{"", "", nil},
		{pd, "", nil},
		{"malformed;", "", nil},
		{pd, ", ,", nil},
		{pd, pd, &Deflate{full, full}},
		// Section 7.1.3 and what browsers and servers say.
		{pd + "; client_max_window_bits; server_max_window_bits=10", pd + "; server_max_window_bits=10", &Deflate{full, {true, 10}}},
		{pd + "; client_max_window_bits; server_max_window_bits=10, " + pd + "; client_max_window_bits", pd, &Deflate{full, full}},
		{pd + "; client_max_window_bits", pd + "; client_max_window_bits=15", &Deflate{full, full}},
		{pd + "; client_max_window_bits", pd + "; server_max_window_bits=12; client_max_window_bits=12", &Deflate{{true, 12}, {true, 12}}},
		{pd + "; client_max_window_bits", pd + "; server_no_context_takeover; client_no_context_takeover", &Deflate{{false, 15}, {false, 15}}},
		// Unasked limits are lawful, all but that on the window of the client.
		{pd, pd + "; server_no_context_takeover; server_max_window_bits=8", &Deflate{full, {false, 8}}},
		{pd + "; server_no_context_takeover, " + pd + "; server_max_window_bits=9", pd, &Deflate{full, full}}, // not said, so the widest
		{pd, pd + "; client_no_context_takeover", &Deflate{{false, 15}, full}},
		{pd + "; server_max_window_bits=10", pd + "; server_max_window_bits=8", &Deflate{full, {true, 8}}},
		// A hint that was ignored does not count.
		{pd + "; client_no_context_takeover", pd, &Deflate{full, full}},
		{pd + "; client_max_window_bits=9", pd, &Deflate{full, full}},
		{pd + "; client_max_window_bits=9", pd + "; client_max_window_bits=11", &Deflate{{true, 11}, full}},
		// The other offers do not matter.
		{"x-foo; a=1, " + pd + "; bad, " + pd, pd, &Deflate{full, full}},
		{pd + `; server_max_window_bits="12"`, pd + "; server_max_window_bits=9", &Deflate{full, {true, 9}}},
	} {
		got, err := Agree([]string{c.offers}, []string{c.answer})
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%q, %q: %+v, %v", c.offers, c.answer, got, err)
		}
		// In several headers it is the same.
		if got, err = Agree(strings.Split(c.offers, ","), strings.Split(c.answer, ",")); err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%q, %q in lines: %+v, %v", c.offers, c.answer, got, err)
		}
	}

	for _, c := range []struct{ offers, answer, section, reason string }{
		{"", pd, "RFC 6455, Section 4.1", "was not offered"},
		{"x-foo", pd, "RFC 6455, Section 4.1", "was not offered"},
		{pd, "x-foo", "RFC 6455, Section 4.1", "was not offered"},
		{pd, "Permessage-Deflate", "RFC 6455, Section 4.1", "was not offered"},
		{pd, pd + ", x-foo", "RFC 6455, Section 4.1", "was not offered"},
		{pd, pd + ";", "RFC 6455, Section 9.1", "malformed"},
		{pd + ";", pd, "RFC 6455, Section 9.1", "malformed"},
		{pd + ", " + pd, pd + ", " + pd, "RFC 7692, Section 5", "twice"},
		{pd, pd + "; foo", "RFC 7692, Section 7", "unknown parameter"},
		{pd, pd + "; Server_no_context_takeover", "RFC 7692, Section 7", "unknown parameter"},
		{pd, pd + "; server_no_context_takeover; server_no_context_takeover", "RFC 7692, Section 7", "more than one"},
		{pd, pd + "; server_no_context_takeover=1", "RFC 7692, Section 7", "invalid value"},
		{pd, pd + "; client_no_context_takeover=true", "RFC 7692, Section 7", "invalid value"},
		{pd, pd + "; server_max_window_bits", "RFC 7692, Section 7", "invalid value"},
		{pd, pd + "; server_max_window_bits=7", "RFC 7692, Section 7", "invalid value"},
		{pd, pd + "; server_max_window_bits=16", "RFC 7692, Section 7", "invalid value"},
		{pd, pd + "; server_max_window_bits=08", "RFC 7692, Section 7", "invalid value"},
		{pd, pd + "; server_max_window_bits=+9", "RFC 7692, Section 7", "invalid value"},
		{pd + "; client_max_window_bits", pd + "; client_max_window_bits", "RFC 7692, Section 7", "invalid value"},
		{pd + "; client_max_window_bits", pd + "; client_max_window_bits=16", "RFC 7692, Section 7", "invalid value"},
		{pd, pd + "; client_max_window_bits=15", "RFC 7692, Section 7.1.2.2", "not offered"},
		{pd + "; server_max_window_bits=10", pd + "; server_max_window_bits=11", "RFC 7692, Section 7.1.2.1", "over the 10"},
		// An offer that has to be declined cannot have been accepted.
		{pd + "; foo", pd, "RFC 7692, Section 7", "offer with unknown"},
		{pd + "; client_max_window_bits=7", pd, "RFC 7692, Section 7", "offer with invalid"},
		{pd + "; server_max_window_bits", pd + "; server_max_window_bits=9", "RFC 7692, Section 7", "offer with invalid"},
		{pd + "; client_max_window_bits; client_max_window_bits", pd, "RFC 7692, Section 7", "offer with more than one"},
	} {
		got, err := Agree([]string{c.offers}, []string{c.answer})
		var e *HandshakeError
		if got != nil || !errors.As(err, &e) || e.Section != c.section || !strings.Contains(e.Reason, c.reason) {
			t.Errorf("%q, %q: %+v, %v", c.offers, c.answer, got, err)
		}
	}

	for _, answer := range []string{"x-foo", "x-foo; a=1, " + pd, pd + ", x-foo"} {
		got, err := Agree([]string{pd, "x-foo"}, []string{answer})
		var e *UnknownExtensionError
		if got != nil || !errors.As(err, &e) || e.Name != "x-foo" || err.Error() != `unknown extension "x-foo" was agreed on` {
			t.Errorf("%q: %+v, %v", answer, got, err)
		}
	}
}

func FuzzExtensions(f *testing.F) {
	f.Fuzz(func(t *testing.T, offers, answer string) {
		for _, value := range []string{offers, answer} {
			list, err := ParseExtensions([]string{value})
			if err != nil {
				continue
			}
			// What was understood can be said again.
			if again, err := ParseExtensions(write(list)); err != nil || !reflect.DeepEqual(again, list) {
				t.Fatalf("%q: %+v became %+v, %v", value, list, again, err)
			}
		}
		d, err := Agree([]string{offers}, []string{answer})
		var unknown *UnknownExtensionError
		var failed *HandshakeError
		switch {
		case errors.As(err, &unknown):
			if !strings.Contains(offers, unknown.Name) || !strings.Contains(answer, unknown.Name) || d != nil {
				t.Fatalf("%q, %q: %+v, %v", offers, answer, d, err)
			}
		case errors.As(err, &failed):
			if d != nil || strings.ContainsFunc(err.Error(), func(r rune) bool { return r < ' ' || r == 0x7f }) {
				t.Fatalf("%q, %q: %+v, %q", offers, answer, d, err)
			}
		case err != nil:
			t.Fatalf("%T", err)
		case d != nil:
			for _, c := range d {
				if c.Bits < minWindowBits || c.Bits > maxWindowBits {
					t.Fatalf("%q, %q: %+v", offers, answer, d)
				}
			}
			if _, err := Agree(nil, []string{answer}); err == nil {
				t.Fatalf("%q was accepted without an offer", answer)
			}
		}
	})
}

// write returns a header for each element of list.
func write(list []Extension) (values []string) {
	for _, e := range list {
		s := e.Name
		for _, p := range e.Parameters {
			s += ";" + p.Name
			if p.Value != "" {
				s += `="` + p.Value + `"`
			}
		}
		values = append(values, s)
	}
	return values
}

func TestExtensionSeeds(t *testing.T) {
	for _, target := range []string{"FuzzExtensions", "FuzzInflate"} {
		if seeds, err := os.ReadDir(filepath.Join("testdata", "fuzz", target)); err != nil || len(seeds) < 10 {
			t.Errorf("%s has %d seeds: %v", target, len(seeds), err)
		}
	}
}
