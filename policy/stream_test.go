package policy

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"reflect"
	"regexp"
	"regexp/syntax"
	"strings"
	"testing"

	"framegate/frames"
)

// inPieces is the verdict on a message that comes in pieces of any size, and how
// much of it has passed before.
func inPieces(s *Scope, op frames.Opcode, data []byte, size func() int) (v Verdict, passed int) {
	st := s.Stream(frames.ToServer, op)
	for len(data) > 0 {
		n := min(size(), len(data))
		v, ok := st.Write(data[:n])
		if ok {
			v, ok = st.Check()
		}
		if !ok {
			st.Discard()
			return v, passed
		}
		passed += n
		data = data[n:]
	}
	return st.End(), passed
}

// sizes of pieces: all at once, random, and small.
func pieceSizes() map[string]func() int {
	rnd := rand.New(rand.NewPCG(1, 2))
	return map[string]func() int{
		"at once": func() int { return 1 << 30 },
		"random":  func() int { return 1 + rnd.IntN(9000) },
		"small":   func() int { return 1 + rnd.IntN(400) },
	}
}

// What is up to 4 KiB long is found wherever the message is cut, and nothing is
// found that is not there.
func TestStreamMatches(t *testing.T) {
	long := strings.Repeat("0123456789abcdef", 256) // 4 KiB
	p := mustParse(t, one("word", "close", "needle")+one("long", "close", long)+`
[[rule]]
id = "bytes"
action = "close"
match.regex = ['^begin', 'the end$', '\bword\b', '\Bmid\B', 'x\x{FFFD}y', '(?m)^line$', 'é+!', 'A[^A]{1000}[^A]{1000}[^A]{1000}[^A]{1000}Z']
`)
	s := p.Scope(Upgrade{})
	fill := strings.Repeat("lorem ipsum ", 20_000)
	for _, c := range []struct {
		before, what, after string
		hit                 bool
	}{
		{"", "needle", "", true},
		{".", long, ".", true},
		{"", "begin", "", false}, // not where it is put
		{"", "the end", "", false},
		{" ", "word", " ", true},
		{"s", "word", " ", false},
		{" ", "word", "s", false},
		{"a", "mid", "b", true},
		{" ", "mid", "b", false},
		{"a", "mid", " ", false},
		{"", "x\xffy", "", true},
		{"", "x\u00ffy", "", false},
		{"\n", "line", "\n", true},
		{"\r", "line", "\n", false},
		{"é", "éé", "!", true},
		{"", "A" + strings.Repeat("b", 4000) + "Z", "", true},
	} {
		for name, size := range pieceSizes() {
			for _, at := range []int{1000, streamWindow - len(c.what) - 3, streamWindow - len(c.what)/2, streamWindow - 1, streamWindow, 2*streamWindow - streamOverlap - 2, 2 * streamWindow} {
				if name == "small" && at > streamWindow {
					continue
				}
				data := fill[:at] + c.before + c.what + c.after + fill[:5000]
				want := s.Message(frames.ToServer, frames.Binary, []byte(data))
				if (want.Action == Close) != c.hit {
					t.Fatalf("%.40q: whole %v", c.what, want)
				}
				got, passed := inPieces(s, frames.Binary, []byte(data), size)
				if c.hit != (got.Action == Close) || c.hit && passed > at+len(c.before)+len(c.what)+len(c.after) {
					t.Errorf("%.40q at %d, %s: got %v after %d bytes", c.what, at, name, got, passed)
				}
			}
		}
	}
	for _, c := range []string{"begin" + fill, fill + "the end", "\xff" + fill + "\xe2\x82", fill + "begin", "the end" + fill, "needle", ""} {
		for name, size := range pieceSizes() {
			if name == "small" {
				continue
			}
			want := s.Message(frames.ToServer, frames.Binary, []byte(c))
			if got, _ := inPieces(s, frames.Binary, []byte(c), size); !reflect.DeepEqual(got, want) {
				t.Errorf("%.10q, %s: got %v, want %v", c, name, got, want)
			}
		}
	}
}

// Pieces cost what their bytes do, however many there are: they are judged together.
func TestStreamTogether(t *testing.T) {
	s := mustParse(t, one("word", "close", "needle")).Scope(Upgrade{}).Stream(frames.ToServer, frames.Text)
	for _, c := range []byte("... needl") {
		if _, ok := s.Write([]byte{c}); !ok {
			t.Fatal("refused")
		}
	}
	if _, ok := s.Check(); !ok || s.window != nil || len(s.tail) > streamOverlap+4 {
		t.Fatalf("passes: %v; a window %v, %d bytes kept", ok, s.window != nil, len(s.tail))
	}
	if _, ok := s.Write([]byte("e")); !ok {
		t.Fatal("judged before Check")
	}
	if v, ok := s.Check(); ok || v.Action != Close || v.Code != 1008 {
		t.Errorf("%v %v", v, ok)
	}
	s.Discard()
}

// Whether a message looks like JSON is known once something but white space has
// come.
func TestStreamBlank(t *testing.T) {
	s := mustParse(t, "[[rule]]\nid = \"r\"\naction = \"drop\"\nmatch.json = [{ path = \"a\", exists = true }]\n").Scope(Upgrade{})
	for _, blank := range []string{"", " ", "\r\n\t ", "\xef", "\xef\xbb", "\xef\xbb\xbf "} {
		st := s.Stream(frames.ToServer, frames.Text)
		for _, piece := range []string{blank, ("\xef\xbb\xbf ")[min(len(blank), 4):]} {
			if blank == "" || blank[0] == 0xef || piece == blank {
				st.Write([]byte(piece))
				st.Check()
			}
		}
		st.Write([]byte(`{"a":1}`))
		if v := st.End(); v.Action != Close {
			t.Errorf("%q first: %v", blank, v)
		}
	}
}

// The byte that completes a match does not leave, unless it takes the next one to
// know that it is a match.
func TestStreamCompletes(t *testing.T) {
	for re, before := range map[string]bool{`need+le`: true, `\bneed+le\b`: false, `need+le$`: false, `(?i)NEED+LE`: true} {
		s := mustParse(t, "[[rule]]\nid = \"r\"\naction = \"drop\"\nmatch.regex = ['"+re+"']\n").Scope(Upgrade{}).Stream(frames.ToServer, frames.Text)
		s.Write([]byte("a needle"))
		if _, ok := s.Check(); ok == before {
			t.Errorf("%s: passes %v", re, ok)
		}
		if v := s.End(); v.Action != Close {
			t.Errorf("%s: %v at the end", re, v)
		}
	}
}

// All keys of a rule, sizes, except and the default count for the whole message.
func TestStreamRules(t *testing.T) {
	text := `
[policy]
default = %q
[[rule]]
id = "both"
action = "drop"
[rule.match]
contains = ["first", "other"]
regex = ['sec+ond', '\d\d:\d\d']
[[rule]]
id = "spared"
action = "redact"
match.contains = ["secret"]
except.regex = ['all (is )?well']
[[rule]]
id = "large"
action = "close"
code = 4009
reason = "large"
match.min_size = 200000
[[rule]]
id = "small"
action = "close"
match.contains = ["small"]
match.max_size = 150000
[[rule]]
id = "seen"
action = "log"
match.contains = ["seen"]
[[rule]]
id = "tried"
action = "close"
mode = "shadow"
match.contains = ["tried"]
[[rule]]
id = "fine"
action = "allow"
match.contains = ["fine"]
`
	at := func(size int, words ...string) []byte {
		b := bytes.Repeat([]byte("."), size)
		for i, w := range words {
			copy(b[(i+1)*size/(len(words)+1):], w)
		}
		return b
	}
	for _, def := range []string{"allow", "drop", "close"} {
		s := mustParse(t, fmt.Sprintf(text, def)).Scope(Upgrade{})
		for _, c := range []struct {
			data []byte
			want string // with default allow
		}{
			{at(100_000), "allow "},
			{at(100_000, "first", "second"), `close 1008 "policy violation" both`},
			{at(100_000, "12:34", "other"), `close 1008 "policy violation" both`},
			{at(100_000, "first", "other"), "allow "},
			{at(100_000, "second"), "allow "},
			{at(100_000, "secret"), `close 1008 "policy violation" spared`},
			{at(100_000, "secret", "all is well"), "allow "},
			{at(100_000, "all well", "secret"), "allow "},
			{at(200_000), `close 4009 "large" large`},
			{at(199_999), "allow "},
			{at(150_000, "small"), `close 1008 "policy violation" small`},
			{at(150_001, "small"), "allow "},
			{at(100_000, "seen", "tried"), "log seen shadow tried"},
			{at(100_000, "seen", "fine"), "log seen,fine"},
			{at(100_000, "fine"), "allow fine"},
		} {
			want := c.want
			if want == "allow " && def != "allow" {
				want = `close 1008 "policy violation" `
			}
			for name, size := range pieceSizes() {
				if name == "small" && def != "allow" {
					continue
				}
				if got, _ := inPieces(s, frames.Text, c.data, size); judged(got) != want {
					t.Errorf("default %s, %s: got %s, want %s", def, name, judged(got), want)
				}
			}
		}
	}
}

// Whatever the regexes and the pieces, a message that fits into one window has
// the verdict of the whole.
func TestStreamIsMessage(t *testing.T) {
	hits := 0
	for i, text := range regexes {
		re := []*regexp.Regexp{regexp.MustCompile(text), regexp.MustCompile(regexes[(i*5+1)%len(regexes)])}
		trees := make([]*syntax.Regexp, len(re))
		for i := range re {
			trees[i], _ = syntax.Parse(re[i].String(), syntax.Perl)
		}
		m, rules := matchSeeded(re, []string{"needle", "a\xffb"}, uint64(i), true)
		p := &Policy{rules: rules, matcher: m}
		for _, r := range rules {
			r.scope.direction = [2]bool{true, true}
		}
		s := p.Scope(Upgrade{})
		for seed := range uint64(1) {
			for _, data := range messages([]byte("x needle 4012888888881881 a\xffb"), seed, trees...) {
				if len(data) > streamOverlap {
					continue
				}
				want := s.Message(frames.ToServer, frames.Text, data)
				hits += len(want.Rules)
				for name, size := range pieceSizes() {
					if got, _ := inPieces(s, frames.Text, data, size); judged(got) != judged(want) {
						t.Fatalf("%q of %q and %q, %s: got %s, want %s", data, re[0], re[1], name, judged(got), judged(want))
					}
				}
			}
		}
	}
	if hits < 5*len(regexes) {
		t.Errorf("only %d hits: this compares misses", hits)
	}
}

// FuzzStream looks for a message whose verdict depends on how it is cut.
func FuzzStream(f *testing.F) {
	for i, re := range regexes {
		f.Add(re, "needle", []byte("x needle 4012888888881881"), uint64(i))
	}
	f.Fuzz(func(t *testing.T, text, word string, data []byte, seed uint64) {
		if len(text) > 100 || len(word) > 100 || len(data) > 500 || word == "" {
			return
		}
		re, err := regexp.Compile(text)
		if err != nil {
			return
		}
		tree, err := syntax.Parse(text, syntax.Perl)
		if err != nil {
			t.Fatal(err)
		}
		m, rules := matchSeeded([]*regexp.Regexp{re}, []string{word, "needle"}, seed, true)
		for _, r := range rules {
			r.scope.direction = [2]bool{true, true}
		}
		s := (&Policy{rules: rules, matcher: m}).Scope(Upgrade{})
		random := rand.New(rand.NewPCG(seed, 3))
		for _, data := range messages(data, seed, tree) {
			if len(data) > 4<<10 {
				continue
			}
			want := s.Message(frames.ToServer, frames.Text, data)
			got, _ := inPieces(s, frames.Text, data, func() int { return 1 + random.IntN(100) })
			if judged(got) != judged(want) {
				t.Fatalf("%q in %q: got %s, want %s", text, data, judged(got), judged(want))
			}
		}
	})
}
