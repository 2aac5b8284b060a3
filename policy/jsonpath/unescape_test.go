package jsonpath

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

// A piece of a document makes a piece of its text.
type piece struct {
	doc  int // where it begins
	from int // its length there
	to   string
}

// pieces takes a document apart with encoding/json, one character at a time.
func pieces(doc []byte) (list []piece) {
	for i := 0; i < len(doc); {
		p := piece{i, 1, string(doc[i : i+1])}
		for _, n := range []int{2, 6, 12} {
			var r string
			if doc[i] == '\\' && i+n <= len(doc) && json.Unmarshal([]byte(`"`+string(doc[i:i+n])+`"`), &r) == nil && utf8.RuneCountInString(r) == 1 {
				p.from, p.to = n, r
			}
		}
		list = append(list, p)
		i += p.from
	}
	return list
}

func checkUnescaped(t *testing.T, u *Unescaped, doc []byte) {
	t.Helper()
	var text []byte
	var from []piece // by byte of the text
	for _, p := range pieces(doc) {
		text = append(text, p.to...)
		for range len(p.to) {
			from = append(from, p)
		}
	}
	if u.Reset(doc); !bytes.Equal(u.Text(), text) {
		t.Fatalf("%q: %q, want %q", doc, u.Text(), text)
	}
	check := func(start, end, wantStart, wantEnd int) {
		t.Helper()
		if gotStart, gotEnd := u.Span(start, end); gotStart != wantStart || gotEnd != wantEnd {
			t.Fatalf("%q: Span(%d, %d) = %d, %d, want %d, %d", doc, start, end, gotStart, gotEnd, wantStart, wantEnd)
		}
	}
	for start := range text {
		check(start, start, from[start].doc, from[start].doc)
		for _, end := range []int{start + 1, start + 2, start + 16, start + 200, len(text)} {
			if end <= len(text) {
				last := from[end-1]
				check(start, end, from[start].doc, last.doc+last.from)
			}
		}
	}
	check(len(text), len(text), len(doc), len(doc))
}

var documents = []struct{ doc, text string }{
	{``, ``},
	{`{"a":1}`, `{"a":1}`},
	{`{"pan":"\u0034\u0031\u00311"}`, `{"pan":"4111"}`},
	{`["\/\"\\\b\f\n\r\t"]`, "[\"/\"\\\b\f\n\r\t\"]"},
	{`"\\u0034"`, `"\u0034"`},
	{`"\\\u0034"`, `"\4"`},
	{`"\ud83d\ude00 \uD83D \ude00"`, "\"😀 \ufffd \ufffd\""},
	{`"\ud83d\ud83d\ude00"`, "\"\ufffd😀\""},
	{`"\ud83d\u0041\udE00"`, "\"\ufffdA\ufffd\""},
	{`"\ud83d0ude00"`, "\"\ufffd0ude00\""},
	{`"é\u00e9"`, `"éé"`},
	{`"{\"a\":\"\\u0034\"}"`, `"{"a":"\u0034"}"`},
	// not JSON
	{`\`, `\`},
	{`a\`, `a\`},
	{`\x\u12\u123g\n`, "\\x\\u12\\u123g\n"},
	{`\ud83d\u`, "\ufffd\\u"},
	{`\ud83d\`, "\ufffd\\"},
	{`\u0041 no string`, "A no string"},
}

func TestUnescape(t *testing.T) {
	var u Unescaped // the same one for all
	for _, test := range documents {
		if u.Reset([]byte(test.doc)); string(u.Text()) != test.text {
			t.Errorf("%q: %q, want %q", test.doc, u.Text(), test.text)
		}
		if Escaped([]byte(test.doc)) != strings.Contains(test.doc, `\`) {
			t.Errorf("%q: escaped is %v", test.doc, Escaped([]byte(test.doc)))
		}
		checkUnescaped(t, &u, []byte(test.doc))
	}
}

// Marks are set by the distance of the escapes.
func TestSpans(t *testing.T) {
	var u Unescaped
	for _, gap := range []int{0, 1, 7, markDistance - 2, markDistance - 1, markDistance, markDistance + 1, 3 * markDistance} {
		for _, escape := range []string{`\n`, `\u0041`, `\u20ac`, `\ud83d\ude00`, `\ud83d`, `\n\u20ac\ud83d\ude00`} {
			doc := `"` + strings.Repeat(escape+strings.Repeat("x", gap), 1+1000/(gap+1)) + `"`
			checkUnescaped(t, &u, []byte(doc))
			checkUnescaped(t, &u, []byte(strings.Repeat("x", gap)+doc[:len(doc)/2]))
		}
	}
	doc := []byte(`{"card":"\u0034111 1111"}`)
	u.Reset(doc)
	at := strings.Index(string(u.Text()), "4111 1111")
	start, end := u.Span(at, at+len("4111 1111"))
	if got := string(doc[start:end]); got != `\u0034111 1111` {
		t.Errorf("got %s", got)
	}
}

// What is kept for Span stays small beside the text, whatever the document is.
func TestMarksAreFew(t *testing.T) {
	var u Unescaped
	u.Reset(bytes.Repeat([]byte(`\n`), 1<<16))
	if most := len(u.Text())/markDistance + 1; len(u.marks) > most {
		t.Errorf("%d marks for %d bytes", len(u.marks), len(u.Text()))
	}
}

func TestUnescapeReuse(t *testing.T) {
	docs := [][]byte{[]byte(`"\u0034111"`), []byte(`"plain"`), bytes.Repeat([]byte(`\n and text`), 100)}
	var u Unescaped
	if n := testing.AllocsPerRun(100, func() {
		for _, doc := range docs {
			u.Reset(doc)
			u.Span(1, 2)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	plain := docs[1]
	if u.Reset(plain); &u.Text()[0] != &plain[0] {
		t.Error("a document without escapes was copied")
	}
	if u.Reset(docs[0]); string(plain) != `"plain"` {
		t.Errorf("the document became %s", plain)
	}
	if u.Reset(nil); len(u.Text()) != 0 {
		t.Errorf("text of nothing: %q", u.Text())
	}
}

func FuzzUnescape(f *testing.F) {
	for _, test := range documents {
		f.Add([]byte(test.doc))
	}
	for _, test := range grammar {
		f.Add([]byte(test.doc))
	}
	f.Add(bytes.Repeat([]byte(`\u0041\n`), 200))
	for _, doc := range samples(f) {
		f.Add(doc)
	}
	var u Unescaped
	f.Fuzz(func(t *testing.T, doc []byte) {
		checkUnescaped(t, &u, doc)
		var s string
		if v := append(append([]byte{'"'}, doc...), '"'); json.Unmarshal(v, &s) == nil && utf8.Valid(doc) && string(u.Text()) != s {
			t.Fatalf("%q: %q, want %q", doc, u.Text(), s)
		}
	})
}
