package jsonpath

import (
	"encoding/json"
	"strings"
	"testing"
)

// grammar has what is JSON and what is not, section by section of RFC 8259.
var grammar = []struct {
	doc   string
	valid bool
}{
	// 2: one value, whitespace around it and around the structural characters
	{"", false},
	{" ", false},
	{" \t\r\n1 \t\r\n", true},
	{"\v1", false},
	{"\f1", false},
	{"\u00a01", false},
	{"1\x00", false},
	{"\x001", false},
	{"1 2", false},
	{"1,2", false},
	{"{}{}", false},
	{"[]]", false},
	{"]", false},
	{"}", false},
	{",", false},
	{":", false},
	{" { \"a\" : [ 1 , 2 ] } ", true},
	{"\n[\n]\n", true},
	{"/**/1", false},
	{"1//", false},
	{"# 1", false},
	{"1 ", true},
	{"\ufeff1", true}, // 8.1
	{"\ufeff", false},
	{"\ufeff\ufeff1", false},
	{" \ufeff1", false},
	{"1\ufeff", false},
	{"\xef\xbb1", false},
	{"\xff\xfe1\x00", false},
	{"1\x00\x00\x00", false},
	// 3: literals are lower case
	{"true", true}, {"false", true}, {"null", true},
	{"True", false}, {"tru", false}, {"truee", false}, {"nul", false}, {"nullnull", false},
	{"fals", false}, {"t", false}, {"undefined", false}, {"NaN", false}, {"Infinity", false},
	{"[true,false,null]", true}, {"[truefalse]", false}, {"[nul]", false}, {"a", false}, {"[a]", false},
	// 4: objects
	{"{}", true}, {"{ }", true}, {`{"a":1}`, true}, {`{"a":1,"a":2}`, true}, {`{"":0}`, true},
	{"{", false}, {`{"a"`, false}, {`{"a":`, false}, {`{"a":1`, false}, {`{"a":1,`, false}, {`{"a`, false},
	{`{"a":1,}`, false}, {`{,"a":1}`, false}, {`{"a":1,,"b":2}`, false}, {`{"a":1 "b":2}`, false},
	{`{"a"}`, false}, {`{"a",1}`, false}, {`{"a"::1}`, false}, {`{:1}`, false}, {`{1:1}`, false}, {`{a:1}`, false},
	{`{'a':1}`, false}, {`{null:1}`, false}, {`{"a":}`, false}, {`{"a":1]`, false}, {`{[]:1}`, false},
	{`{{}}`, false}, {`{[]}`, false}, {`{"a":{"b":{"c":[{}]}}}`, true}, {`{"a":1};`, false}, {`{"a":1}}`, false},
	{`{"a" 1}`, false}, {`{"a":1:2}`, false}, {"{\"a\x00\":1}", false},
	// 5: arrays
	{"[]", true}, {"[ ]", true}, {"[1]", true}, {"[1,2]", true}, {"[[],[[]],{}]", true}, {`[1,"a",null]`, true},
	{"[", false}, {"[1", false}, {"[1,", false}, {"[1,]", false}, {"[,1]", false}, {"[,]", false}, {"[1,,2]", false},
	{"[1 2]", false}, {"[1}", false}, {"[}", false}, {"[:]", false}, {"[1:2]", false}, {`["a":1]`, false},
	{"[[1]", false}, {"[1]]", false}, {"[[]]]", false}, {"[\"\"", false}, {"[[[[[[[[[[]]]]]]]]]]", true},
	// 6: numbers
	{"0", true}, {"-0", true}, {"1", true}, {"-1", true}, {"10", true}, {"1.0", true}, {"0.5", true}, {"-0.5", true},
	{"1e1", true}, {"1E1", true}, {"1e+1", true}, {"1e-1", true}, {"1.5e01", true}, {"0e0", true}, {"-0.0e-0", true},
	{"1e400", true}, {"-1e400", true}, {"1e-400", true}, {"123456789012345678901234567890", true},
	{"00", false}, {"01", false}, {"-01", false}, {"-", false}, {"--1", false}, {"+1", false}, {".5", false},
	{"1.", false}, {"-.5", false}, {"1.e1", false}, {"1e", false}, {"1e+", false}, {"1e1.5", false}, {"1e1e1", false},
	{"0x1", false}, {"1_0", false}, {"1a", false}, {"1.2.3", false}, {"-a", false}, {"- 1", false}, {"１", false},
	{"[1.]", false}, {"[-]", false}, {"[0,-0]", true}, {"[01]", false}, {"[1e]", false}, {"1+1", false},
	// 7: strings
	{`""`, true}, {`"a"`, true}, {`"\"\\\/\b\f\n\r\t"`, true}, {`"\u0000\uAbCd\uffff"`, true},
	{`"\ud83d\ude00"`, true}, {`"\ud83d"`, true}, {`"\ude00\ud83d"`, true}, {`"\ud83dx"`, true},
	{`"`, false}, {`"a`, false}, {`"\"`, false}, {`"\`, false}, {`"\u"`, false}, {`"\u123"`, false}, {`"\u123`, false},
	{`"\u12g4"`, false}, {`"\u 123"`, false}, {`"\U0041"`, false}, {`"\x41"`, false}, {`"\a"`, false}, {`"\'"`, false},
	{`"\0"`, false}, {`"\1"`, false}, {`"\ "`, false}, {"\"\\\n\"", false}, {"\"\\\u00e9\"", false}, {`'a'`, false},
	{"\"\n\"", false}, {"\"\t\"", false}, {"\"\x00\"", false}, {"\"\x1f\"", false}, {"\"\x20\x7f\u0080\"", true},
	{"\"\u2028\u2029\ufeff\U0010ffff\"", true}, {`"a"b"`, false}, {`"""`, false}, {`"a" "b"`, false}, {`\u0022a"`, false},
	{`"01234567"`, true}, {`"0123456"`, true}, {"\"0123456\x1f\"", false}, {"\"01234567\x01\"", false}, {`"0123456\"`, false},
	{"\"!!!!!!!!~~~~~~~~\"", true}, {"\"        \x7f\x7f\x7f\x7f\x7f\x7f\x7f\x7f\"", true},
	// 8.1, as encoding/json has it
	{"\"\xff\"", true}, {"\"\xc0\xaf\"", true}, {"\"\xed\xa0\x80\"", true}, {"\"\xe2\x82\"", true}, {"{\"\xff\":1}", true},
	{"\xff", false}, {"[\xff]", false},
}

func TestGrammar(t *testing.T) {
	paths := []Path{{}, mustParse(t, "a"), mustParse(t, "a.#"), mustParse(t, "#.#"), mustParse(t, "0.a")}
	for _, test := range grammar {
		doc := []byte(test.doc)
		if got := Valid(doc); got != test.valid {
			t.Errorf("%q: %v, want %v", test.doc, got, test.valid)
		}
		checkWalk(t, doc, nil)
		checkWalk(t, doc, paths)
	}
}

// Any place in which a control character, quotation mark or backslash may be in
// relation to the eight bytes that are looked at together, beside any byte.
func TestStringBytes(t *testing.T) {
	for c := range 256 {
		for at := range 18 {
			doc := []byte(`"` + strings.Repeat("a", 18) + `"`)
			doc[1+at] = byte(c)
			if got, want := Valid(doc), json.Valid(doc); got != want {
				t.Errorf("%q: %v, want %v", doc, got, want)
			}
			doc[2+(at+1)%18] = byte(c + 1)
			if got, want := Valid(doc), json.Valid(doc); got != want {
				t.Errorf("%q: %v, want %v", doc, got, want)
			}
		}
	}
}

// Every document that is cut short, or has one byte too many or another one.
func TestSpoilt(t *testing.T) {
	doc := `{"a":[1,-2.5e+3,{"b\u0041":"\n"},[]],"c":{"d":true},"e":null}`
	paths := []Path{mustParse(t, "a.#.bA"), mustParse(t, "a.3"), mustParse(t, "c.d"), mustParse(t, "e")}
	for i := range doc {
		checkWalk(t, []byte(doc[:i]), paths)
		checkWalk(t, []byte(doc[:i]+doc[i+1:]), paths)
		for _, c := range "{}[],:\"\\0e-. tn\x00\x1f\xff" {
			checkWalk(t, []byte(doc[:i]+string(c)+doc[i:]), paths)
			checkWalk(t, []byte(doc[:i]+string(c)+doc[i+1:]), paths)
		}
	}
}
