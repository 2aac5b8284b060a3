package jsonpath

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
)

var walks = []struct {
	name  string
	doc   string
	paths []string
	want  []string // path and value
}{
	{"whole", ` [1] `, []string{"@"}, []string{"@ [1]"}},
	{"whole scalar", `"a"`, []string{"@", "a", "#"}, []string{`@ "a"`}},
	{"member", `{"user":{"role":"admin","x":1},"role":2}`, []string{"user.role"}, []string{`user.role "admin"`}},
	{"none", `{"a":1}`, []string{"b", "a.b", "a.#", "#", "0", "A", "aa"}, nil},
	{"the same path", `{"a":1}`, []string{"a", "a"}, []string{"a 1", "a 1"}},
	{"duplicate", `{"a":1,"b":0,"a":2,"a":{"a":3}}`, []string{"a"}, []string{"a 1", "a 2", `a {"a":3}`}},
	{"duplicate above", `{"u":{"r":1},"u":{"r":2},"u":3}`, []string{"u.r"}, []string{"u.r 1", "u.r 2"}},
	{"escaped name", `{"\u0072ole":1,"r\u006Fle":2,"rol\u0065":3,"\\role":4}`, []string{"role"}, []string{"role 1", "role 2", "role 3"}},
	{"surrogate pair", `{"\ud83d\ude00":1,"\ud83d":2}`, []string{"😀", "\ufffd"}, []string{"😀 1", "\ufffd 2"}},
	{"name as in Unicode", `{"größe":1,"gr\u00f6\u00dfe":2,"gro\u0308ße":3}`, []string{"größe"}, []string{"größe 1", "größe 2"}},
	{"case", `{"Role":1,"ROLE":2}`, []string{"role", "ROLE"}, []string{"ROLE 2"}},
	{"special names", `{"a.b":1,"#":2,"\\":3,"@":4,"a":{"b":5}}`, []string{`a\.b`, `\#`, `\\`, `\@`}, []string{`a\.b 1`, `\# 2`, `\\ 3`, `\@ 4`}},
	{"any element", `[1,[2],{"a":3}]`, []string{"#"}, []string{"# 1", "# [2]", `# {"a":3}`}},
	{"no member", `{"a":1,"#":2}`, []string{"#"}, nil},
	{"index", `[1,[2],{"a":3},4]`, []string{"0", "1.0", "2.a", "3", "4", "03"}, []string{"0 1", "1.0 2", "2.a 3", "3 4"}},
	{"index as name", `{"0":1,"00":2,"a":[{"1":3},{"1":4}]}`, []string{"0", "00", "a.1.1"}, []string{"0 1", "00 2", "a.1.1 4"}},
	{"elements of elements", `{"a":[{"b":[1,2]},{"b":[3]},{"b":4}]}`, []string{"a.#.b.#"}, []string{"a.#.b.# 1", "a.#.b.# 2", "a.#.b.# 3"}},
	{"parts before the whole", `{"a":{"b":1}}`, []string{"@", "a", "a.b"}, []string{"a.b 1", `a {"b":1}`, `@ {"a":{"b":1}}`}},
	{"empty", `{"a":[],"b":{}}`, []string{"a.#", "a.0", "b.c", "a", "b"}, []string{"a []", "b {}"}},
	{"kinds", `{"a":[null,true,false,-1.5e3,"",[],{}]}`, []string{"a.#"}, []string{"a.# null", "a.# true", "a.# false", "a.# -1.5e3", `a.# ""`, "a.# []", "a.# {}"}},
	{"whitespace", " { \"a\" : [ 1 , 2 ] , \"b\" : \n3 } ", []string{"a", "a.1", "b"}, []string{"a.1 2", "a [ 1 , 2 ]", "b 3"}},
	{"byte order mark", "\ufeff{\"a\":1}", []string{"a"}, []string{"a 1"}},
}

func TestWalk(t *testing.T) {
	for _, test := range walks {
		t.Run(test.name, func(t *testing.T) {
			var paths []Path
			for _, s := range test.paths {
				paths = append(paths, mustParse(t, s))
			}
			var got []string
			if !NewSet(paths).Walk([]byte(test.doc), func(path int, v Value) bool {
				got = append(got, fmt.Sprintf("%s %s", test.paths[path], v.Raw))
				return true
			}) {
				t.Fatal("not valid")
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
			checkWalk(t, []byte(test.doc), paths)
		})
	}
}

// Where "#" and numbers lead to the same element, all paths through it count.
func TestCrossingPaths(t *testing.T) {
	var list []string
	for _, a := range []string{"#", "0", "1", "x"} {
		for _, b := range []string{"#", "0", "1", "x"} {
			for _, c := range []string{"#", "0", "1", "x"} {
				list = append(list, a+"."+b+"."+c)
			}
		}
	}
	var paths []Path
	for _, s := range list {
		paths = append(paths, mustParse(t, s))
	}
	checkWalk(t, []byte(`[[[1,2],[3,4]],[[5,6],{"x":7,"0":8}],{"x":[9,10],"1":{"1":11}}]`), paths)
	checkWalk(t, []byte(`{"0":[[1,2],[3,4]],"x":[[5,6],{"x":7,"0":8}],"1":{"x":[9,10],"1":{"1":11}}}`), paths)
}

func TestWalkStops(t *testing.T) {
	set := NewSet([]Path{mustParse(t, "a.#"), mustParse(t, "a")})
	for stop, want := range [][]string{{"1"}, {"1", "2"}, {"1", "2", "[1,2]"}} {
		var got []string
		ok := set.Walk([]byte(`{"a":[1,2],"b":!}`), func(path int, v Value) bool {
			got = append(got, string(v.Raw))
			return len(got) <= stop
		})
		if !ok || !slices.Equal(got, want) {
			t.Errorf("stop after %d: %q, %v, want %q", stop+1, got, ok, want)
		}
	}
	if set.Walk([]byte(`{"a":[1,2],"b":!}`), func(int, Value) bool { return true }) {
		t.Error("what is not JSON was taken for it")
	}
}

// More levels than encoding/json takes, more than a stack of calls would.
func TestDeep(t *testing.T) {
	for _, depth := range []int{63, 64, 65, 127, 128, 129, 1000, 9999, 200_000} {
		open := strings.Repeat(`[{"a":`, depth/2) + strings.Repeat("[", depth%2)
		shut := strings.Repeat("]", depth%2) + strings.Repeat("}]", depth/2)
		inside := "0"
		if depth%2 == 1 {
			inside = ""
		}
		for _, test := range []struct {
			doc   string
			valid bool
		}{
			{open + inside + shut, true},
			{open + inside + shut + "]", false},
			{open + inside + shut[1:], false},
			{open + inside + shut[:len(shut)-1], false},
			{open + inside + "}" + shut, false},
			{open, false},
			{strings.Repeat("[", depth), false},
			{strings.Repeat(`{"a":`, depth), false},
		} {
			doc := []byte(test.doc)
			if depth < 10000 && json.Valid(doc) != test.valid {
				t.Fatalf("depth %d: %q", depth, test.doc)
			}
			found := 0
			walked := NewSet([]Path{mustParse(t, "#.a.#.a"), {}}).Walk(doc, func(int, Value) bool {
				found++
				return true
			})
			if walked != test.valid || Valid(doc) != test.valid {
				t.Errorf("depth %d: Walk %v, Valid %v, want %v", depth, walked, Valid(doc), test.valid)
			}
			if test.valid && found != 2 {
				t.Errorf("depth %d: %d values", depth, found)
			}
		}
	}
	// A path of the most names.
	names := maxSteps
	p := mustParse(t, strings.TrimSuffix(strings.Repeat("a.", names), "."))
	doc := []byte(strings.Repeat(`{"a":`, names) + "1" + strings.Repeat("}", names))
	checkWalk(t, doc, []Path{p})
	checkWalk(t, bytes.TrimSuffix(doc, []byte("}")), []Path{p})
}

func TestWalkAllocatesNothing(t *testing.T) {
	var paths []Path
	for i := range 100 {
		paths = append(paths, mustParse(t, fmt.Sprintf("n%d.#.x", i)), mustParse(t, fmt.Sprintf("#.0.n%d", i)), mustParse(t, fmt.Sprintf("0.#.m%d", i)))
	}
	set := NewSet(paths)
	docs := samples(t)
	docs["escaped names"] = []byte(`{"n\u0030":[{"\u0079":1}],"` + strings.Repeat(`\u0041`, 1000) + `":1,"\n\"":2}`)
	docs["elements"] = []byte(`[[{"m":1}],[{"n":1}],[[[]]]]`)
	docs["nested"] = []byte(strings.Repeat("[", 64) + strings.Repeat("]", 64))
	for name, doc := range docs {
		visit := func(int, Value) bool { t.Error(name); return true }
		if n := testing.AllocsPerRun(100, func() { set.Walk(doc, visit); Valid(doc) }); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func TestSetIsShared(t *testing.T) {
	set := NewSet([]Path{mustParse(t, "a.#.b"), mustParse(t, "c")})
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			doc := fmt.Appendf(nil, `{"a":[{"b":%d},{"\u0062":"x"}],"c":%d}`, i, i)
			for range 100 {
				var got []string
				set.Walk(doc, func(_ int, v Value) bool { got = append(got, string(v.Raw)); return true })
				if want := []string{fmt.Sprint(i), `"x"`, fmt.Sprint(i)}; !slices.Equal(got, want) {
					t.Errorf("got %q, want %q", got, want)
				}
			}
		})
	}
	group.Wait()
}
