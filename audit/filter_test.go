package audit

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// A text is found as it was before it was escaped, and only so.
func TestText(t *testing.T) {
	dir := t.TempDir()
	reasons := []string{
		"plain words",
		"line one\nline two",
		`a "quoted" word`,
		`C:\new\table`,
		"\u202etxt.exe",
		"smile 😀 end",
		"tag \U000e0041 end", // a tag character: two surrogates
		"bad \xff byte",
		`\\n`,
	}
	var events []Event
	for i, reason := range reasons {
		events = append(events, Event{Time: at(i), Event: "e", Reason: reason})
	}
	writeEvents(t, Options{Dir: dir}, events)
	tests := []struct {
		text string
		want []int // indexes of reasons
	}{
		{"plain", []int{0}},
		{"one\nline", []int{1}},
		{"\n", []int{1}},
		{"nline two", nil}, // the n of the escape
		{"\u202e", []int{4}},
		{"202e", nil},
		{"u202e", nil},
		{"e0041", nil},
		{"\U000e0041", []int{6}},
		{"dc41 end", nil}, // the end of a surrogate
		{`"quoted"`, []int{2}},
		{`\`, []int{3, 8}},
		{`\new`, []int{3}},
		{"new", []int{3}},
		{"table", []int{3}},
		{`\n`, []int{3, 8}},
		{`\\n`, []int{8}},
		{"😀", []int{5}},
		{"bad \xff", []int{7}},
		{"fffd", nil},
		{"�", nil}, // the record says \ufffd: it was another byte
		{`"reason":`, nil},
		{"not there", nil},
		{"end", []int{5, 6}},
	}
	for _, tt := range tests {
		var got []int
		for _, r := range mustRead(t, dir, Filter{Text: tt.text}) {
			got = append(got, int(r.Seq)-1)
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%q: got %v, want %v", tt.text, got, tt.want)
		}
	}
}

// What is in the string is in its escaped form, unless it cuts a character in
// two; what is not is not.
func FuzzContainsText(f *testing.F) {
	for _, s := range []string{"a\nb", `\n`, "\u202e", "\U000e0041x", `\\\`, "\xff", "u000a", "\\u000a\n"} {
		f.Add(s, "n")
		f.Add(s, s)
		f.Add(s, "000a")
		f.Add(s, `\`)
	}
	f.Fuzz(func(t *testing.T, s, text string) {
		s, text = strings.ToValidUTF8(s, "x"), strings.ToValidUTF8(text, "x")
		if text == "" {
			return
		}
		quoted := appendString(nil, text)
		line := appendString(nil, s)
		line = line[1 : len(line)-1]
		if got, want := containsText(line, quoted[1:len(quoted)-1]), strings.Contains(s, text); got != want {
			t.Errorf("%q in %q: got %v, want %v", text, s, got, want)
		}
	})
}

func TestInsideEscape(t *testing.T) {
	for line, want := range map[string]string{
		`ab`:           "..",
		`\n`:           ".x",
		`\\n`:          ".x.",
		`\\\n`:         ".x.x",
		`\u000anc`:     ".xxxxx..",
		`\ud83d\ude00`: ".xxxxx.xxxxx",
		`\"\u2028`:     ".x.xxxxx",
		`\\u000a`:      ".x.....",
	} {
		var got strings.Builder
		for i := range line {
			fmt.Fprintf(&got, "%c", ".x"[b2i(insideEscape([]byte(line), i))])
		}
		if got.String() != want {
			t.Errorf("%s: got %s, want %s", line, got.String(), want)
		}
	}
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}
