package jsonpath

import (
	"math"
	"strings"
	"testing"
)

// value returns the whole of a document as a value.
func value(t *testing.T, doc string) Value {
	t.Helper()
	var got Value
	if !NewSet([]Path{{}}).Walk([]byte(doc), func(_ int, v Value) bool { got = v; return true }) {
		t.Fatalf("%q is not JSON", doc)
	}
	return got
}

func TestText(t *testing.T) {
	tests := []struct{ doc, text string }{
		{`""`, ""},
		{`"a"`, "a"},
		{`"\u0034\u0031"`, "41"},
		{`"\"\\\/\b\f\n\r\t"`, "\"\\/\b\f\n\r\t"},
		{`"a\u00e9\u20AC\ud83d\uDE00z"`, "aé€😀z"},
		{`"\ud83d"`, "\ufffd"},
		{`"\ude00\ud83d"`, "\ufffd\ufffd"},
		{`"\ud83d\ud83d\ude00"`, "\ufffd😀"},
		{`"\ud83d\u0041"`, "\ufffdA"},
		{`"\ud83d\n\ude00"`, "\ufffd\n\ufffd"},
		{`"\ud83dude00"`, "\ufffdude00"},
		{`"\ud83d0ude00"`, "\ufffd0ude00"},
		{`"\u0000"`, "\x00"},
		{`"\\u0034"`, `\u0034`},
		{"\"\xff\"", "\xff"},
		{"\"\xff\\n\"", "\xff\n"},
		{" -1.50e+3 ", "-1.50e+3"},
		{"true", "true"},
		{"null", "null"},
		{`["\n"]`, `["\n"]`},
		{`{"a" : 1}`, `{"a" : 1}`},
	}
	for _, test := range tests {
		v := value(t, test.doc)
		if got := v.Text(nil); string(got) != test.text {
			t.Errorf("%s: %q, want %q", test.doc, got, test.text)
		}
		scratch := []byte("something before")
		if got := v.Text(scratch); string(got) != test.text {
			t.Errorf("%s, in scratch: %q, want %q", test.doc, got, test.text)
		}
	}
	plain := value(t, `"plain"`)
	if &plain.Text(nil)[0] != &plain.Raw[1] {
		t.Error("a string without escapes was copied")
	}
	scratch := make([]byte, 0, 16)
	escaped := value(t, `"\u0041"`)
	if got := escaped.Text(scratch); &got[0] != &scratch[:1][0] {
		t.Error("scratch was not used")
	}
}

func TestNumber(t *testing.T) {
	tests := []struct {
		doc  string
		want float64
		ok   bool
	}{
		{"0", 0, true},
		{"-0", math.Copysign(0, -1), true},
		{"-1.5e3", -1500, true},
		{"1E-2", 0.01, true},
		{"9007199254740993", 9007199254740992, true},
		{"1e400", math.Inf(1), true},
		{"-1e400", math.Inf(-1), true},
		{"1e-400", 0, true},
		{`"1"`, 0, false},
		{"true", 0, false},
		{"null", 0, false},
		{"[1]", 0, false},
	}
	for _, test := range tests {
		if got, ok := value(t, test.doc).Number(); got != test.want || ok != test.ok {
			t.Errorf("%s: %v, %v, want %v, %v", test.doc, got, ok, test.want, test.ok)
		}
	}
}

func TestEqual(t *testing.T) {
	long := strings.Repeat("a", 300)
	tests := []struct {
		a, b string
		want bool
	}{
		{"null", "null", true},
		{"true", "true", true},
		{"true", "false", false},
		{"null", "false", false},
		{"1", "1", true},
		{"1", "1.0", true},
		{"1", "10e-1", true},
		{"1", "1.00000000000000000001", true},
		{"100", "1E2", true},
		{"1", "-1", false},
		{"0", "-0", true},
		{"0", "-0.0e5", true},
		{"1", "2", false},
		{"9007199254740992", "9007199254740992", true},
		{"9007199254740992", "9007199254740993", false},
		{"-9007199254740992", "-9007199254740993", false},
		{"9007199254740992", "9007199254740993.0", true},
		{"9007199254740992", "9007199254740994", false},
		{"1" + strings.Repeat("0", 400), "1" + strings.Repeat("0", 401), false},
		{"1e400", "1e401", true},
		{"1e400", "-1e400", false},
		{"1", `"1"`, false},
		{`"a"`, `"a"`, true},
		{`"a"`, `"\u0061"`, true},
		{`"a"`, `"A"`, false},
		{`"\n"`, `"\u000a"`, true},
		{`"` + long + `\u0062"`, `"` + long + `b"`, true},
		{`"` + long + `"`, `"` + long + `b"`, false},
		{"[]", "[]", false},
		{"{}", "{}", false},
	}
	for _, test := range tests {
		a, b := value(t, test.a), value(t, test.b)
		if a.Equal(b) != test.want || b.Equal(a) != test.want {
			t.Errorf("%s equals %s: %v and %v, want %v", test.a, test.b, a.Equal(b), b.Equal(a), test.want)
		}
	}
}

func TestValueAllocatesNothing(t *testing.T) {
	one, two := value(t, "-12345678.90123e-10"), value(t, "-1234567890.123e-12")
	a, b := value(t, `"card \u0034111"`), value(t, `"card 4\u0031\u0031\u0031"`)
	scratch := make([]byte, 0, 64)
	if n := testing.AllocsPerRun(100, func() {
		if !one.Equal(two) || !a.Equal(b) || len(a.Text(scratch)) != 9 {
			t.Error("not equal")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestKind(t *testing.T) {
	for doc, want := range map[string]string{
		"null": "null", "true": "bool", "false": "bool", "-1": "number", `""`: "string", "[]": "array", "{}": "object",
	} {
		if got := value(t, doc).Kind.String(); got != want {
			t.Errorf("%s is a %s", doc, got)
		}
	}
}
