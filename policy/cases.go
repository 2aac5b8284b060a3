package policy

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"framegate/frames"
)

// A Case is one [[case]] of a file of cases: a message on some connection, and
// what the whole policy makes of it. What it does not say of the connection is
// not known, as [Scope] has it.
type Case struct {
	Name         string // "" if it has none
	File         string
	Line, Column int

	payload []byte
	upgrade Upgrade
	dir     frames.Direction
	opcode  frames.Opcode
	repeat  int // the verdict is that on the last one

	want     Action
	rules    []string // sorted; nil if the case does not say
	shadow   []string // sorted; nil if the case does not say
	redacted *string  // nil if the case does not say
}

// A CaseResult is the outcome of one [[case]].
type CaseResult struct {
	Case
	Differences []Difference // none if it passed
}

// Passed reports whether all is as the case expects.
func (r CaseResult) Passed() bool { return len(r.Differences) == 0 }

// A Difference is one key of a case of which something else came out.
type Difference struct {
	Key       string
	Want, Got string // a word, ids in brackets, or quoted text
}

// LoadCases reads the files of cases that the glob patterns name, as [Load] reads
// policies. They are for p: a rule that it does not have is a mistake.
func (p *Policy) LoadCases(patterns []string) ([]Case, error) {
	paths, mistakes := expand(patterns)
	var files []source
	var cases []Case
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			mistakes = append(mistakes, unreadable(path, err))
			continue
		}
		files = append(files, source{name: path, data: data})
		doc := &document{name: path, text: string(data), errors: &mistakes}
		t := doc.read()
		if t == nil {
			continue
		}
		t.name = "a file of cases"
		for _, t := range t.tables("case", "[[case]]") {
			cases = append(cases, p.caseOf(t))
		}
		t.close()
	}
	if err := join(mistakes, files); err != nil {
		return nil, err
	}
	return cases, nil
}

func (p *Policy) caseOf(t *table) Case {
	line, column := lineColumn(t.doc.text, t.node.key)
	c := Case{File: t.doc.name, Line: line, Column: column, payload: t.payload(), opcode: frames.Text}
	name, _ := t.text("name")
	c.Name = name.string
	c.upgrade, _ = t.upgrade()
	if t.word("direction", "to-server", "to-server", "to-client") == "to-client" {
		c.dir = frames.ToClient
	}
	if word, ok := t.text("opcode"); ok {
		for _, set := range parseAll(t, "opcode", []text{word}, parseOpcode) {
			c.opcode = firstOpcode(set)
		}
	}
	c.repeat = t.repeat()

	if !t.has("expect") {
		t.errorf(t.node.key, "[[case]] has no expect, expected %s", oneOf(actionNames[:]))
	}
	want := t.word("expect", "", actionNames[:]...)
	c.want = parseAction(want)
	c.rules, c.shadow = p.ids(t, "rules"), p.ids(t, "shadow")
	if redacted, ok := t.text("redacted"); ok {
		if want != "" && c.want != Redact { // a word that is wrong says nothing of redacted
			t.errorf(redacted.at, `redacted: has no meaning here, expected it beside expect = "redact" only`)
		}
		c.redacted = &redacted.string
	}
	t.close()
	return c
}

// payload reads the message of a case.
func (t *table) payload() []byte {
	keys := []string{"payload", "payload_file", "payload_base64"}
	given := slices.DeleteFunc(slices.Clone(keys), func(key string) bool { return !t.has(key) })
	switch {
	case len(given) == 0:
		t.errorf(t.node.key, "%s has no payload, expected one of %s", t.name, strings.Join(keys, ", "))
	case len(given) > 1:
		t.errorf(t.sub(given[1]).key, "%s: got it beside %s, expected one of them", given[1], given[0])
	}
	plain, _ := t.text("payload")
	data := []byte(plain.string)
	if file, ok := t.text("payload_file"); ok {
		path := file.string
		if !filepath.IsAbs(path) {
			path = filepath.Join(filepath.Dir(t.doc.name), path)
		}
		content, err := os.ReadFile(path)
		if err != nil {
			t.errorf(file.at, "payload_file: got %s, %s", describe(file.string), unreadable(path, err).Message)
		}
		data = content
	}
	if encoded, ok := t.text("payload_base64"); ok {
		content, err := base64.StdEncoding.DecodeString(encoded.string)
		if err != nil {
			t.mismatch(encoded.at, "payload_base64", encoded.string, "base64")
		}
		data = content
	}
	return data
}

// ids reads a list of rules of p, sorted, which may be empty; nil if it is absent.
func (p *Policy) ids(t *table, key string) (ids []string) {
	list, given := t.texts(key)
	if !given {
		return nil
	}
	var known []string
	for _, r := range p.rules {
		known = append(known, r.ID)
	}
	ids = []string{}
	for _, id := range list {
		if !slices.Contains(known, id.string) {
			t.mismatch(id.at, key, id.string, "the id of a rule"+didYouMean(id.string, known))
		}
		ids = append(ids, id.string)
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// RunCases judges the message of each case as the gateway would. No case has
// part in the counts of another.
func (p *Policy) RunCases(cases []Case) []CaseResult {
	results := make([]CaseResult, len(cases))
	for i, c := range cases {
		results[i] = CaseResult{c, p.runCase(c)}
	}
	return results
}

func (p *Policy) runCase(c Case) (differences []Difference) {
	u := c.upgrade
	u.Rates = testRates()
	s := p.Scope(u)
	var v Verdict
	for range c.repeat {
		v = s.Message(c.dir, c.opcode, c.payload)
	}
	compare := func(key, want, got string) {
		if want != got {
			differences = append(differences, Difference{key, want, got})
		}
	}
	compare("expect", c.want.String(), v.Action.String())
	for _, hits := range []struct {
		key       string
		want, got []string
	}{{"rules", c.rules, v.Rules}, {"shadow", c.shadow, v.Shadow}} {
		if hits.want != nil {
			got := slices.Sorted(slices.Values(hits.got))
			compare(hits.key, "["+strings.Join(hits.want, ", ")+"]", "["+strings.Join(got, ", ")+"]")
		}
	}
	if c.redacted != nil && v.Action == Redact {
		compare("redacted", fmt.Sprintf("%q", *c.redacted), fmt.Sprintf("%q", v.Redact(c.payload)))
	}
	return differences
}
