package jsonpath

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

func name(s string) step          { return step{name: s, index: -1} }
func number(s string, n int) step { return step{name: s, index: n} }

var anyElement = step{any: true, index: -1}

func TestParse(t *testing.T) {
	tests := []struct {
		path string
		want []step
	}{
		{"@", nil},
		{"role", []step{name("role")}},
		{"user.role", []step{name("user"), name("role")}},
		{"items.#.sku", []step{name("items"), anyElement, name("sku")}},
		{"#", []step{anyElement}},
		{"#.#", []step{anyElement, anyElement}},
		{"items.0", []step{name("items"), number("0", 0)}},
		{"12.3", []step{number("12", 12), number("3", 3)}},
		{"007", []step{name("007")}},
		{"-1", []step{name("-1")}},
		{"+1", []step{name("+1")}},
		{"99999999999999999999", []step{name("99999999999999999999")}},
		{`a\.b`, []step{name("a.b")}},
		{`\#`, []step{name("#")}},
		{`a\#b.\\`, []step{name("a#b"), name(`\`)}},
		{`\@`, []step{name("@")}},
		{"@.a", []step{name("@"), name("a")}},
		{"a@b", []step{name("a@b")}},
		{" a b ", []step{name(" a b ")}},
		{`"`, []step{name(`"`)}},
		{"größe.名", []step{name("größe"), name("名")}},
	}
	for _, test := range tests {
		p, err := Parse(test.path)
		if err != nil || !reflect.DeepEqual(p.steps, test.want) {
			t.Errorf("Parse(%q) = %v, %v, want %v", test.path, p.steps, err, test.want)
		}
		again, err := Parse(p.String())
		if err != nil || !reflect.DeepEqual(again, p) {
			t.Errorf("%q: Parse(%q) = %v, %v", test.path, p, again, err)
		}
	}
	if got := (Path{}).String(); got != "@" {
		t.Errorf("the zero path is %q", got)
	}
}

func TestParseErrors(t *testing.T) {
	long := strings.Repeat("a.", maxSteps-1)
	if _, err := Parse(long + "a"); err != nil {
		t.Errorf("%d names: %v", maxSteps, err)
	}
	tests := []struct {
		path     string
		column   int
		expected string
	}{
		{"", 1, "a name"},
		{".", 1, "a name"},
		{".a", 1, "a name"},
		{"a.", 3, "a name"},
		{"a..b", 3, "a name"},
		{"#a", 2, `"." after "#"`},
		{"##", 2, `"." after "#"`},
		{"ü.#x", 5, `"." after "#"`},
		{"a#", 2, `"\#"`},
		{"a.b#.c", 4, `"\#"`},
		{`\`, 2, `after "\"`},
		{`ab.\n`, 5, `after "\"`},
		{long + "a.a", len(long) + 3, "at most"},
	}
	for _, test := range tests {
		_, err := Parse(test.path)
		var syntax *SyntaxError
		if !errors.As(err, &syntax) || syntax.Column != test.column || !strings.Contains(syntax.Expected, test.expected) {
			t.Errorf("Parse(%q): %v, want column %d, %s", test.path, err, test.column, test.expected)
			continue
		}
		if want := fmt.Sprintf("column %d: expected ", test.column); !strings.HasPrefix(err.Error(), want) {
			t.Errorf("Parse(%q): %v, want %s...", test.path, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"@", "a.b", `a\.b.#.0`, `\@`, `\\`, "#", "", "a..b", "#x", `\x`, "名.00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := Parse(s)
		if err != nil {
			var syntax *SyntaxError
			if !errors.As(err, &syntax) || syntax.Column < 1 || syntax.Column > len(s)+1 {
				t.Fatalf("Parse(%q): %#v", s, err)
			}
			return
		}
		again, err := Parse(p.String())
		if err != nil || !reflect.DeepEqual(again, p) {
			t.Fatalf("%q: Parse(%q) = %v, %v, want %v", s, p, again, err, p)
		}
	})
}
