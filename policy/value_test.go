package policy

import (
	"testing"

	"framegate/frames"
)

// group = "first" is the first group that has text, and the match if none has.
func TestFirstGroup(t *testing.T) {
	p := mustParse(t, `
[[rule]]
id = "either"
action = "redact"
match.regex = ['one=(x*)|two=(\w*)-(\w+)']
value = { group = "first", entropy = 0.5, except = { words = ["no"] } }
`)
	for _, c := range []struct{ text, want string }{
		{"two=yes-maybe", "two=***-maybe"},
		{"two=-maybe", "two=-*****"},
		{"two=no-yes", ""},
		{"two=yes-no", "two=***-no"},
		{"two=aaa-yes", ""}, // too little entropy
		{"one=", "****"},
		{"one=xx", ""},
	} {
		v := p.Scope(Upgrade{}).Message(frames.ToServer, frames.Text, []byte(c.text))
		got := ""
		if v.Action == Redact {
			got = string(v.Redact([]byte(c.text)))
		}
		if got != c.want {
			t.Errorf("%q: got %q, want %q", c.text, got, c.want)
		}
		p.Explain(Upgrade{}, frames.ToServer, frames.Text, []byte(c.text)) // has a reason for each

		// In a window, too.
		s := p.Scope(Upgrade{}).Stream(frames.ToServer, frames.Text)
		s.Write([]byte(c.text))
		if v := s.End(); (len(v.Rules) > 0) != (c.want != "") {
			t.Errorf("%q: a stream got %v, want %q", c.text, v.Rules, c.want)
		}
	}
}

func TestPosition(t *testing.T) {
	const text = "a = 1\n[[list]]\nb = ['x', 'ü', 'z']\n[[list]]\nc = { d = 2 }\n"
	for _, c := range []struct {
		path         []any
		line, column int
	}{
		{[]any{"a"}, 1, 5},
		{[]any{"list", 0}, 2, 1},
		{[]any{"list", 0, "b", 2}, 3, 16},
		{[]any{"list", 1, "c", "d"}, 5, 11},
		{[]any{"list", 1, "c", "e"}, 5, 5},
		{[]any{"list", 2}, 2, 1},
		{nil, 1, 1},
	} {
		if line, column := Position(text, c.path...); line != c.line || column != c.column {
			t.Errorf("%v: got %d:%d, want %d:%d", c.path, line, column, c.line, c.column)
		}
	}
}
