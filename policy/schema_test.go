package policy

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"framegate/policy/detect"
)

// A schema is an object of JSON Schema.
type schema map[string]any

func loadSchema(t testing.TB) schema {
	t.Helper()
	var root schema
	if err := json.Unmarshal(Schema, &root); err != nil {
		t.Fatal(err)
	}
	return root
}

// of returns what a reference of root stands for, or s itself.
func (s schema) of(root schema) schema {
	ref, ok := s["$ref"].(string)
	if !ok {
		return s
	}
	return root["definitions"].(map[string]any)[strings.TrimPrefix(ref, "#/definitions/")].(map[string]any)
}

// at goes down by the names of properties, into the items of arrays.
func (s schema) at(root schema, names ...string) schema {
	for _, name := range names {
		sub, ok := s.of(root)["properties"].(map[string]any)[name].(map[string]any)
		if !ok {
			return nil
		}
		s = schema(sub).of(root)
		if items, ok := s["items"].(map[string]any); ok {
			s = schema(items).of(root)
		}
	}
	return s
}

// TestSchemaKeys holds the schema to the keys that the compiler knows, table by
// table, as its messages about an unknown one say them.
func TestSchemaKeys(t *testing.T) {
	root := loadSchema(t)
	for table, c := range map[string]struct {
		text  string
		names []string
	}{
		"a policy file":           {"zzz = 1", nil},
		"[policy]":                {"policy.zzz = 1", []string{"policy"}},
		"[[connection]]":          {"[[connection]]\nzzz = 1", []string{"connection"}},
		"[[rule]]":                {"[[rule]]\nzzz = 1", []string{"rule"}},
		"[rule.scope]":            {"[[rule]]\nscope.zzz = 1", []string{"rule", "scope"}},
		"[rule.match]":            {"[[rule]]\nmatch.zzz = 1", []string{"rule", "match"}},
		"[rule.except]":           {"[[rule]]\nexcept.zzz = 1", []string{"rule", "except"}},
		"[rule.value]":            {"[[rule]]\nvalue.zzz = 1", []string{"rule", "value"}},
		"[rule.value.except]":     {"[[rule]]\nvalue.except.zzz = 1", []string{"rule", "value", "except"}},
		"[rule.rate]":             {"[[rule]]\nrate.zzz = 1", []string{"rule", "rate"}},
		"[[rule.test]]":           {"[[rule]]\n[[rule.test]]\nzzz = 1", []string{"rule", "test"}},
		"json = [{ path = ... }]": {"[[rule]]\nmatch.json = [{ zzz = 1 }]", []string{"rule", "match", "json"}},
		"json_all = [{ path = ... }]": {
			"[[rule]]\nexcept.json_all = [{ zzz = 1 }]", []string{"rule", "except", "json_all"}},
	} {
		says := regexp.MustCompile(`unknown key "zzz" in ` + regexp.QuoteMeta(table) + `, expected (.*)`)
		_, err := Parse("a.toml", []byte(c.text))
		said := says.FindStringSubmatch(fmt.Sprint(err))
		if said == nil {
			t.Errorf("%s: got %v, want a mistake about zzz", table, err)
			continue
		}
		known := strings.Split(said[1], ", ")
		s := root.at(root, c.names...)
		if s["additionalProperties"] != false {
			t.Errorf("%s: the schema accepts unknown keys", table)
		}
		properties, _ := s["properties"].(map[string]any)
		if got := slices.Sorted(maps.Keys(properties)); !slices.Equal(got, known) {
			t.Errorf("%s: the schema has\n%v, the compiler\n%v", table, got, known)
		}
		for key, p := range properties {
			if schema(p.(map[string]any)).of(root)["description"] == nil && key != "rule" && len(c.names) > 0 {
				t.Errorf("%s: the schema does not describe %s", table, key)
			}
		}
	}
}

// TestSchemaWords holds the schema to the words that the compiler knows.
func TestSchemaWords(t *testing.T) {
	root := loadSchema(t)
	var detectors []string
	for _, d := range detect.All() {
		detectors = append(detectors, d.Name)
	}
	for _, c := range []struct {
		text  string // where zzz is to be a word
		names []string
		want  []string // nil: those that the message quotes
	}{
		{`policy.default = "zzz"`, []string{"policy", "default"}, nil},
		{"[[connection]]\ndecision = \"zzz\"", []string{"connection", "decision"}, nil},
		{"[[connection]]\nech = \"zzz\"", []string{"connection", "ech"}, nil},
		{"[[connection]]\nfronting = \"zzz\"", []string{"connection", "fronting"}, nil},
		{"[[rule]]\naction = \"zzz\"", []string{"rule", "action"}, nil},
		{"[[rule]]\nseverity = \"zzz\"", []string{"rule", "severity"}, nil},
		{"[[rule]]\nmode = \"zzz\"", []string{"rule", "mode"}, nil},
		{"[[rule]]\nscope.direction = \"zzz\"", []string{"rule", "scope", "direction"}, nil},
		{"[[rule]]\nrate.per = \"zzz\"", []string{"rule", "rate", "per"}, nil},
		{"[[rule]]\nmatch.opcode = [\"zzz\"]", []string{"rule", "match", "opcode"}, nil},
		{"[[rule]]\n[[rule.test]]\ndirection = \"zzz\"", []string{"rule", "test", "direction"}, nil},
		{"[[rule]]\n[[rule.test]]\nopcode = \"zzz\"", []string{"rule", "test", "opcode"}, nil},
		{"[[rule]]\nmatch.detect = [\"zzz\"]", []string{"rule", "match", "detect"}, detectors},
		{"[[rule]]\naction = \"zzz\"", []string{"rule", "test", "expect"}, append(slices.Clone(actionNames[:]), None)},
	} {
		_, err := Parse("a.toml", []byte(c.text))
		line := regexp.MustCompile(`got "zzz", expected (.*)`).FindStringSubmatch(fmt.Sprint(err))
		if line == nil {
			t.Errorf("%v: got %v, want a mistake about zzz", c.names, err)
			continue
		}
		if c.want == nil {
			for _, word := range regexp.MustCompile(`"(.*?)"`).FindAllStringSubmatch(line[1], -1) {
				c.want = append(c.want, word[1])
			}
		}
		var got []string
		words, _ := root.at(root, c.names...)["enum"].([]any)
		for _, w := range words {
			got = append(got, w.(string))
		}
		if !slices.Equal(slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(c.want))) {
			t.Errorf("%v: the schema has %q, the compiler %q", c.names, got, c.want)
		}
	}
}

// TestSchemaAccepts shows that the schema has nothing against any policy that
// the compiler takes.
func TestSchemaAccepts(t *testing.T) {
	root := loadSchema(t)
	files, err := filepath.Glob(filepath.Join(examples, "*.toml"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	texts := map[string]string{"unusual": `
policy = {}
[[connection]]
id = "c"
decision = "inspect"
[[rule]]
id = "a:1/b.c_d"
action = "close"
code = 4999
reason = ""
scope.host = []
scope.origin = ["null"]
match = { regex = ['(a)(b)?'], min_size = 0, max_size = "1 MiB", json_all = [{ path = "@", in = [1, 1.5, true, "x"], gt = -1, lt = 1e3 }] }
value = { group = "first", entropy = 0.5, except = { words = ["x"], line = ['y'] } }
rate = { bytes = "10", messages = 1, window = "1h0m0.5s" }
`}
	for _, f := range files {
		texts[f] = string(readExample(t, filepath.Base(f)))
	}
	manual, err := os.ReadFile("../docs/POLICY.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range tomlBlocks(string(manual)) {
		if !b.cases() {
			texts[fmt.Sprintf("POLICY.md:%d", b.line)] = b.text
		}
	}
	for name, text := range texts {
		if _, err := Parse(name, []byte(text)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := root.validateTOML(text); err != nil {
			t.Errorf("%s: the schema refuses it: %v", name, err)
		}
	}
}

// TestSchemaRefuses shows what an editor underlines.
func TestSchemaRefuses(t *testing.T) {
	root := loadSchema(t)
	for _, text := range []string{
		"rules = []",
		"[rule]\nid = \"a\"",
		"[[rule]]\nid = \"a\"",
		"[[rule]]\nid = \"a b\"\naction = \"log\"",
		"[[connection]]\nid = \"a\"",
		ruleA + "severity = \"hi\"",
		ruleA + "match.contains = \"x\"",
		ruleA + "match.contains = []",
		ruleA + "match.regex = [\"\"]",
		ruleA + "match.detect = [\"payment-cart\"]",
		ruleA + "match.max_size = \"1 mb\"",
		ruleA + "match.max_size = -1",
		ruleA + "match.json = [{ path = \"a\" }]",
		ruleA + "match.json = [{ equals = 1 }]",
		ruleA + "match.json = [{ path = \"a\", equals = [1] }]",
		ruleA + "except = {}",
		ruleA + "value.group = \"last\"",
		ruleA + "rate.messages = 1",
		ruleA + "rate.window = \"1s\"",
		ruleA + "rate = { messages = 0, window = \"1s\" }",
		ruleA + "rate = { messages = 1, window = \"1\" }",
		ruleA + "code = \"1008\"",
		ruleA + "scope.path = [\"ws\"]",
		ruleA + "[[rule.test]]\npayload = \"x\"",
		ruleA + "[[rule.test]]\npayload = \"x\"\nexpect = \"hit\"",
	} {
		if _, err := Parse("a.toml", []byte(text)); err == nil {
			t.Errorf("the compiler accepts\n%s", text)
		}
		if root.validateTOML(text) == nil {
			t.Errorf("the schema accepts\n%s", text)
		}
	}
}
