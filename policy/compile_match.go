package policy

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
	"time"

	"framegate/policy/detect"
	"framegate/policy/jsonpath"
)

// condition reads a [rule.match] or [rule.except]; op is what holds if it has no
// opcode.
func (c *compiler) condition(t *table, op opcodes) condition {
	cond := condition{opcodes: op, max: maxSize}
	if t == nil {
		return cond
	}
	if list := t.some("opcode"); len(list) > 0 {
		cond.opcodes = 0
		for _, s := range parseAll(t, "opcode", list, parseOpcode) {
			cond.opcodes |= s
		}
	}
	for _, s := range t.some("contains") {
		cond.contains.texts = append(cond.contains.texts, s.string)
	}
	for _, s := range t.some("keywords") {
		cond.keywords.texts = append(cond.keywords.texts, s.string)
	}
	for _, s := range t.some("regex") {
		if re := compileRegex(t, "regex", s); re != nil {
			line, column := lineColumn(t.doc.text, s.at)
			cond.regex = append(cond.regex, newRegex(re, Error{File: t.doc.name, Line: line, Column: column}))
		}
	}
	for _, d := range parseAll(t, "detect", t.some("detect"), parseDetector) {
		cond.detect = append(cond.detect, detector{Detector: d})
	}
	cond.json = c.jsonTests(t, "json")
	cond.jsonAll = c.jsonTests(t, "json_all")
	least, most := t.size("min_size", 0), t.size("max_size", maxSize)
	if least > most {
		t.errorf(t.sub("min_size").value, "min_size: got more than max_size, expected %d bytes at most", most)
	}
	cond.min, cond.max = least, most
	t.close()
	return cond
}

// maxRegex is the size of the largest program that a regex may compile to, in
// instructions: some megabytes, and a fraction of a millisecond for a message.
const maxRegex = 50_000

// compileRegex compiles one regex, or reports why not.
func compileRegex(t *table, key string, s text) *regexp.Regexp {
	re, err := CompileRegex(s.string)
	if err != nil {
		t.errorf(s.at, "%s: %v", key, err)
	}
	return re
}

// CompileRegex compiles what a policy may have as a regex. The error says what
// is wrong with any other, and quotes it.
func CompileRegex(text string) (*regexp.Regexp, error) {
	re, err := regexp.Compile(text)
	if err != nil {
		what := "got " + describe(text)
		if bad, ok := errors.AsType[*syntax.Error](err); ok {
			what = fmt.Sprintf("%v %s", bad.Code, describe(bad.Expr))
		}
		return nil, fmt.Errorf("%s, expected RE2 syntax", what)
	}
	// For a window of a large message more is put around it (openRegex), which must
	// compile as well.
	tree, err := syntax.Parse(text, syntax.Perl)
	if err == nil {
		_, err = regexp.Compile("((((" + tree.String() + "))))")
	}
	if err != nil {
		return nil, fmt.Errorf("%s nests too deeply, expected fewer levels", describe(text))
	}
	if n := instructions(text); n > maxRegex {
		return nil, fmt.Errorf("%s compiles to %d instructions, expected %d at most", describe(text), n, maxRegex)
	}
	return re, nil
}

func instructions(text string) int {
	tree, err := syntax.Parse(text, syntax.Perl)
	if err != nil {
		return 0
	}
	prog, err := syntax.Compile(tree.Simplify())
	if err != nil {
		return 0
	}
	return len(prog.Inst)
}

func parseOpcode(word string) (opcodes, error) {
	i := slices.Index(opcodeNames[:], word)
	if i < 0 {
		return 0, fmt.Errorf("expected %s%s", oneOf(opcodeNames[:]), didYouMean(word, opcodeNames[:]))
	}
	return 1 << i, nil
}

func parseDetector(name string) (*detect.Detector, error) {
	d := detect.Lookup(name)
	if d == nil {
		var names []string
		for _, d := range detect.All() {
			names = append(names, d.Name)
		}
		return nil, fmt.Errorf("expected one of %s%s", strings.Join(names, ", "), didYouMean(name, names))
	}
	return d, nil
}

// parseClient reads the one address of a test.
func parseClient(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err != nil {
		return a, fmt.Errorf("expected an address")
	}
	return a, nil
}

// jsonTests reads a json or json_all condition, and returns the numbers of its
// tests.
func (c *compiler) jsonTests(t *table, key string) (tests []int) {
	list := t.tables(key, key+" = [{ path = ... }]")
	if t.has(key) && list != nil && len(list) == 0 {
		t.errorf(t.sub(key).value, "%s: got an empty list, expected at least one value", key)
	}
	for _, j := range list {
		tests = append(tests, len(c.json.tests))
		c.json.tests = append(c.json.tests, jsonTestOf(j))
	}
	return tests
}

func jsonTestOf(t *table) jsonTest {
	var j jsonTest
	path, ok := t.text("path")
	if !ok && !t.has("path") {
		t.errorf(t.node.key, "%s has no path, expected path = \"name.name\"", t.name)
	}
	if ok {
		p, err := jsonpath.Parse(path.string)
		if bad, ok := errors.AsType[*jsonpath.SyntaxError](err); ok {
			t.errorf(path.at, "path: got %s, expected %s at column %d of it", describe(path.string), bad.Expected, bad.Column)
		}
		j.path = p
	}
	said := []string{path.string}
	if v, ok := t.get("equals"); ok {
		j.equals = t.jsonValues("equals", []any{v})
		said = append(said, "equals "+describe(v))
	}
	if v, ok := t.get("in"); ok {
		list, isList := v.([]any)
		if !isList || len(list) == 0 {
			t.mismatch(t.sub("in").value, "in", v, "a list of at least one value")
		}
		j.equals = append(j.equals, t.jsonValues("in", list)...)
		said = append(said, fmt.Sprintf("in %d values", len(list)))
	}
	if s, ok := t.text("matches"); ok {
		j.re = compileRegex(t, "matches", s)
		said = append(said, "matches "+describe(s.string))
	}
	j.gt, said = t.bound("gt", said)
	j.lt, said = t.bound("lt", said)
	if v, ok := t.get("exists"); ok {
		exists, isBool := v.(bool)
		switch {
		case !isBool:
			t.mismatch(t.sub("exists").value, "exists", v, "true or false")
		case !exists && len(said) > 1:
			t.errorf(t.sub("exists").value, "exists: got false beside other conditions, expected it alone")
		}
		j.absent = isBool && !exists
		said = append(said, fmt.Sprintf("exists %v", exists))
	}
	if v, ok := t.get("every"); ok {
		every, isBool := v.(bool)
		switch {
		case !isBool:
			t.mismatch(t.sub("every").value, "every", v, "true or false")
		case j.absent:
			t.errorf(t.sub("every").value, "every: has no meaning beside exists = false")
		}
		if j.every = every; every {
			said[0] = "every " + said[0]
		}
	}
	if len(said) == 1 && len(t.values) > 0 {
		t.errorf(t.node.key, "%s asks nothing, expected one of equals, in, matches, exists, gt, lt", t.name)
	}
	if t.has("equals") && t.has("in") {
		t.errorf(t.sub("in").value, "in: got it beside equals, expected one of them")
	}
	j.text = strings.Join(said, " ")
	t.close()
	return j
}

// jsonValues makes JSON of values of the file.
func (t *table) jsonValues(key string, list []any) (values []jsonpath.Value) {
	for i, v := range list {
		at := t.sub(key)
		if i < len(at.items) {
			at = at.items[i]
		}
		value, ok := jsonValue(v)
		if !ok {
			t.mismatch(at.value, key, v, "a string, a number or a bool")
			continue
		}
		values = append(values, value)
	}
	return values
}

// bound reads a number to compare with.
func (t *table) bound(key string, said []string) (*float64, []string) {
	v, ok := t.get(key)
	if !ok {
		return nil, said
	}
	var f float64
	switch n := v.(type) {
	case int64:
		f = float64(n)
	case float64:
		f = n
	default:
		t.mismatch(t.sub(key).value, key, v, "a number")
	}
	return &f, append(said, key+" "+describe(v))
}

// value reads [rule.value], for the regexes of a match.
func (c *compiler) value(t *table, match *condition) *value {
	if match.regex == nil {
		t.errorf(t.node.key, "[rule.value] is about what a regex matches, expected a regex in [rule.match]")
	}
	v := &value{}
	if n, ok := t.get("group"); ok && n == "first" {
		v.group = firstGroup
	} else if ok {
		group, isInt := n.(int64)
		if !isInt || group < 0 {
			t.mismatch(t.sub("group").value, "group", n, `the number of a group, 0 for the whole match, or "first" for the first with text`)
			group = 0
		}
		for _, re := range match.regex {
			if int(group) > re.re.NumSubexp() {
				t.errorf(t.sub("group").value, "group: got %d, but regex %s has %d groups", group, describe(re.re.String()), re.re.NumSubexp())
				group = 0
			}
		}
		v.group = int(group)
	}
	if f, _ := t.bound("entropy", nil); f != nil {
		v.entropy = *f
		if !(v.entropy >= 0 && v.entropy <= 21) {
			t.errorf(t.sub("entropy").value, "entropy: got %v, expected bits for each character, from 0 to 8 or so", v.entropy)
		}
	}
	if except := t.table("except", "[rule.value.except]"); except != nil {
		for _, s := range except.some("words") {
			v.words = append(v.words, strings.ToLower(s.string))
		}
		for key, list := range map[string]*[]*regexp.Regexp{"regex": &v.regex, "match": &v.match, "line": &v.line} {
			for _, s := range except.some(key) {
				if re := compileRegex(except, key, s); re != nil {
					*list = append(*list, re)
				}
			}
		}
		except.close()
	}
	t.close()
	return v
}

// rate reads [rule.rate].
func (c *compiler) rate(t *table, r *rule) *rate {
	rate := &rate{per: t.word("per", perConnection, perConnection, perClient, perHost)}
	if v, ok := t.get("messages"); ok {
		n, isInt := v.(int64)
		if !isInt || n <= 0 {
			t.mismatch(t.sub("messages").value, "messages", v, "a number above 0")
		}
		rate.messages = n
	}
	rate.bytes = t.size("bytes", 0)
	if t.values["bytes"] == int64(0) {
		t.mismatch(t.sub("bytes").value, "bytes", int64(0), "more than 0")
	}
	if !t.has("messages") && !t.has("bytes") {
		t.errorf(t.node.key, "[rule.rate] has neither messages nor bytes, expected one of them at least")
	}
	window, ok := t.text("window")
	if !ok && !t.has("window") {
		t.errorf(t.node.key, "[rule.rate] has no window, expected window = \"10s\" or the like")
	}
	if ok {
		d, err := time.ParseDuration(window.string)
		if err != nil || d < time.Second || d > 24*time.Hour {
			t.mismatch(window.at, "window", window.string, `a duration from "1s" to "24h"`)
		}
		rate.window = d
	}
	t.close()
	return rate
}

// redaction reads what a rule puts in the place of what it finds, and refuses a
// rule that may hit and find nothing: its records would speak of a redaction
// that was none. match may be nil.
func (c *compiler) redaction(t, match *table, r *rule, known bool) {
	if replace, ok := t.text("replace"); ok {
		if known && r.Action != Redact {
			t.errorf(replace.at, `replace: has no meaning here, expected it beside action = "redact" only`)
		}
		r.replace = newReplacement(replace.string)
	}
	if r.Action != Redact {
		return
	}
	finders := []string{"contains", "keywords", "regex", "detect", "json", "json_all"}
	if match == nil || !slices.ContainsFunc(finders, match.has) {
		t.errorf(t.sub("action").value, `action: "redact" has nothing to replace, expected one of %s in [rule.match]`, strings.Join(finders, ", "))
		return
	}
	if found := slices.ContainsFunc(finders[:4], match.has); !found && !slices.ContainsFunc(slices.Concat(r.match.json, r.match.jsonAll), func(i int) bool { return !c.json.tests[i].absent }) {
		t.errorf(t.sub("action").value, `action: "redact" has nothing to replace where exists = false, expected another condition in [rule.match]`)
	}
	for _, re := range r.match.regex {
		if re.least == 0 {
			e := re.at
			e.Message = fmt.Sprintf(`regex: %s may match no character at all, expected at least one beside action = "redact"`, describe(re.re.String()))
			c.errors = append(c.errors, &e)
		}
	}
	// The payload of a control frame is not the application's.
	list, _ := match.values["opcode"].([]any)
	for i, v := range list {
		at := match.sub("opcode")
		if i < len(at.items) {
			at = at.items[i]
		}
		word, _ := v.(string)
		if op, err := parseOpcode(word); err == nil && op&dataMessages == 0 {
			t.errorf(at.value, `opcode: got %q, expected "text" or "binary" beside action = "redact"`, word)
		}
	}
}
