package policy

import (
	"fmt"
	"strings"
	"testing"

	"framegate/frames"
)

// What the log may have of a message, if its payload is to be redacted.
func TestMask(t *testing.T) {
	const shadow = `mode = "shadow"`
	for _, c := range []struct {
		name, rules string
		op          frames.Opcode
		data, want  string // want "": it cannot be masked
	}{
		{"no rule", "", frames.Text, "a key", "a key"},
		{"no rule matches", one("a", "log", "R"), frames.Text, "a key", "a key"},
		{"log", one("a", "log", "key"), frames.Text, "a key", "a ***"},
		{"drop", one("a", "drop", "key"), frames.Text, "a key", "a ***"},
		{"close", one("a", "close", "key"), frames.Text, "a key", "a ***"},
		{"redact", redacting("a", "replace = \"[cut]\"\nmatch.contains = [\"key\"]"), frames.Text, "a key", "a [cut]"},
		{"in shadow mode", one("a", "close", "key", shadow), frames.Text, "a key", "a ***"},
		{"allowed by a rule", one("a", "allow", "key"), frames.Text, "a key", "a key"},
		{"all that matched", one("a", "log", "key") + one("b", "allow", "a") + one("c", "drop", "lock", shadow), frames.Text,
			"a key, a lock", "a ***, a ****"},
		{"one that is excepted", acting("a", "log", "match.contains = [\"key\"]", "except.contains = [\"test\"]"), frames.Text, "test key", "test key"},
		{"a detector", acting("a", "log", `match.detect = ["payment-card"]`), frames.Text, "pan 4012 8888 8888 1881.", "pan *******************."},
		{"a number of JSON", acting("a", "log", `match.regex = ['\d{16}']`), frames.Text, `{"pan":4012888888881881}`, `{"pan":1111111111111111}`},
		{"a value of JSON", acting("a", "log", `match.json = [{ path = "user.role", equals = "admin" }]`), frames.Text,
			`{"user":{"role":"admin"},"n":1}`, `{"user":{"role":"*****"},"n":1}`},
		{"behind an escape", one("a", "log", "key"), frames.Text, `{"a":"\u006bey"}`, `{"a":"********"}`},

		{"by size", acting("a", "log", `match.min_size = "2B"`), frames.Text, "a key", ""},
		{"by opcode", acting("a", "log", `match.opcode = ["ping"]`), frames.Ping, "a key", ""},
		{"by an absent key", acting("a", "log", `match.json = [{ path = "user", exists = false }]`), frames.Text, `{"a":"key"}`, ""},
		{"by a true of JSON", acting("a", "log", `match.json = [{ path = "admin", equals = true }]`), frames.Text, `{"admin":true}`, ""},
		{"all of the messages", acting("a", "log"), frames.Text, "a key", ""},
		{"by size, beside one that can", acting("a", "log", `match.min_size = "2B"`) + one("b", "log", "key"), frames.Text, "a key", ""},
		{"replaced by itself", redacting("a", "replace = \"key\"\nmatch.contains = [\"key\"]"), frames.Text, "a key", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := mustParse(t, c.rules).Scope(Upgrade{})
			data := []byte(c.data)
			v := s.Message(frames.ToServer, c.op, data)
			got, ok := s.Mask(data, &v)
			if string(got) != c.want || ok != (c.want != "") {
				t.Errorf("got %q, %v, want %q", got, ok, c.want)
			}
			if string(data) != c.data {
				t.Errorf("the message itself became %q", data)
			}
		})
	}
}

// Two rules with one id, of which one is on trial, are two.
func TestMaskOnTrial(t *testing.T) {
	enforced, trial := one("a", "log", "key"), one("a", "log", "lock")
	p, err := build([]source{{"a.toml", []byte(enforced), false}, {"b.toml", []byte(trial), true}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	s := p.Scope(Upgrade{})
	for data, want := range map[string]string{"key": "***", "lock": "****", "key lock": "*** ****"} {
		v := s.Message(frames.ToServer, frames.Text, []byte(data))
		if got, ok := s.Mask([]byte(data), &v); !ok || string(got) != want {
			t.Errorf("%s: got %q, %v, want %q", data, got, ok, want)
		}
	}
}

// acting writes a rule with an action of its own.
func acting(id, action string, lines ...string) string {
	return fmt.Sprintf("[[rule]]\nid = %q\naction = %q\n%s\n", id, action, strings.Join(lines, "\n"))
}
