package jsonpath

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"framegate/examples/traffic"
)

// A tree is a document as the tokens of encoding/json make it: every member is
// there, those with the same name too.
type tree struct {
	Kind  Kind
	Text  string // unescaped, of a scalar
	Names []string
	Parts []*tree
}

// naive returns the tree of a valid document.
func naive(t *testing.T, doc []byte) *tree {
	t.Helper()
	dec := json.NewDecoder(bytes.NewReader(doc))
	dec.UseNumber()
	return read(t, dec, token(t, dec))
}

func token(t *testing.T, dec *json.Decoder) json.Token {
	t.Helper()
	tok, err := dec.Token()
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func read(t *testing.T, dec *json.Decoder, tok json.Token) *tree {
	t.Helper()
	switch v := tok.(type) {
	case nil:
		return &tree{Kind: Null, Text: "null"}
	case bool:
		return &tree{Kind: Bool, Text: map[bool]string{true: "true", false: "false"}[v]}
	case json.Number:
		return &tree{Kind: Number, Text: v.String()}
	case string:
		return &tree{Kind: String, Text: v}
	}
	whole := &tree{Kind: Array}
	if tok == json.Delim('{') {
		whole.Kind = Object
	}
	for dec.More() {
		if whole.Kind == Object {
			whole.Names = append(whole.Names, token(t, dec).(string))
		}
		whole.Parts = append(whole.Parts, read(t, dec, token(t, dec)))
	}
	token(t, dec)
	return whole
}

// find appends what is at a path, in the order of the document.
func (d *tree) find(found []*tree, steps []step) []*tree {
	if len(steps) == 0 {
		return append(found, d)
	}
	for i, part := range d.Parts {
		s := steps[0]
		if d.Kind == Array && (s.any || s.index == i) || d.Kind == Object && !s.any && s.name == d.Names[i] {
			found = part.find(found, steps[1:])
		}
	}
	return found
}

// checkWalk compares Walk, Valid and Value with encoding/json.
func checkWalk(t *testing.T, doc []byte, paths []Path) {
	t.Helper()
	plain := bytes.TrimPrefix(doc, []byte("\ufeff"))
	valid := json.Valid(plain)
	got := make([][]*tree, len(paths))
	walked := NewSet(paths).Walk(doc, func(path int, v Value) bool {
		if !json.Valid(v.Raw) {
			t.Fatalf("%q: %q is not JSON", doc, v.Raw)
		}
		one := naive(t, v.Raw)
		text := string(v.Text(nil))
		switch {
		case one.Kind != v.Kind:
			t.Fatalf("%q: %q is a %v", doc, v.Raw, v.Kind)
		case one.Kind == String && text != one.Text && utf8.Valid(doc):
			t.Fatalf("%q: the text of %q is %q, not %q", doc, v.Raw, text, one.Text)
		case one.Kind != String && text != string(v.Raw):
			t.Fatalf("%q: the text of %q is %q", doc, v.Raw, text)
		}
		if n, ok := v.Number(); ok != (v.Kind == Number) || n != n {
			t.Fatalf("%q: %v, %v", v.Raw, n, ok)
		}
		if v.Equal(v) != (v.Kind < Array) {
			t.Fatalf("%q is not itself", v.Raw)
		}
		got[path] = append(got[path], one)
		return true
	})
	if walked != valid || Valid(doc) != valid {
		t.Fatalf("%q: Walk %v, Valid %v, encoding/json %v", doc, walked, Valid(doc), valid)
	}
	if !valid || !utf8.Valid(doc) {
		return // names are then not the same, either
	}
	whole := naive(t, plain)
	for i, p := range paths {
		if want := whole.find(nil, p.steps); !reflect.DeepEqual(got[i], want) {
			t.Fatalf("%q at %s: %v, want %v", doc, p, describe(got[i]), describe(want))
		}
	}
}

func describe(trees []*tree) string {
	b, _ := json.Marshal(trees)
	return string(b)
}

// allPaths returns some paths that a document has, with "#" for each second array.
func (d *tree) allPaths(to []Path, here []step) []Path {
	if len(here) > 0 {
		to = append(to, Path{append([]step(nil), here...)})
	}
	for i, part := range d.Parts {
		s := step{any: true, index: -1}
		switch {
		case d.Kind == Object:
			s = step{name: d.Names[i], index: parseIndex(d.Names[i])}
		case i%2 == 0:
			s = step{name: strconv.Itoa(i), index: i}
		}
		to = part.allPaths(to, append(here, s))
	}
	return to
}

func TestTraffic(t *testing.T) {
	messages := 0
	for _, set := range traffic.Sets() {
		list, err := traffic.Load(set)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range list {
			var paths []Path
			if len(m.Payload) <= 2000 && json.Valid(m.Payload) {
				paths = naive(t, m.Payload).allPaths(nil, nil)
				messages++
			}
			checkWalk(t, m.Payload, paths)
		}
	}
	if messages < 100 {
		t.Errorf("only %d messages are JSON", messages)
	}
}

func FuzzWalk(f *testing.F) {
	const paths = "@\na.b\na.#\n#\n0\n#.a\na.0.b\n\\@\nrole"
	for _, test := range grammar {
		f.Add([]byte(test.doc), paths)
	}
	for _, test := range walks {
		f.Add([]byte(test.doc), strings.Join(test.paths, "\n"))
	}
	for _, doc := range samples(f) {
		f.Add(doc, "@\ntype\npayload.token\nparams.#\nproduct_ids.3")
	}
	f.Fuzz(func(t *testing.T, doc []byte, list string) {
		var paths []Path
		for s := range strings.SplitSeq(list, "\n") {
			if p, err := Parse(s); err == nil && len(paths) < 16 && utf8.ValidString(s) {
				paths = append(paths, p)
			}
		}
		if bytes.Count(doc, []byte("["))+bytes.Count(doc, []byte("{")) > 10000 {
			return // encoding/json has a limit there
		}
		checkWalk(t, doc, paths)
	})
}
