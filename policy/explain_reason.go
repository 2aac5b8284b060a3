package policy

import (
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"strings"
	"unicode/utf8"

	"framegate/frames"
	"framegate/policy/jsonpath"
)

// reason says why the scope does not hold for a message on u that goes in dir.
func (s *scope) reason(u *Upgrade, dir frames.Direction) string {
	if !s.direction[dir&1] {
		return fmt.Sprintf("direction: got %v, expected %v", dir, 1-dir&1)
	}
	var got string
	var want []string
	key := s.failing(u)
	switch key {
	case "host":
		got, want = u.Host, hostTexts(s.host)
	case "path":
		got, want = u.Path, pathTexts(s.path)
	case "origin":
		got, want = u.Origin, originTexts(s.origin)
	case "subprotocol":
		got, want = u.Subprotocol, s.subprotocol
	case "client":
		if u.Client.IsValid() {
			got = u.Client.String()
		}
		want = prefixTexts(s.client)
	}
	if got == "" {
		return fmt.Sprintf("%s: got none, expected %s", key, listed(want, "or"))
	}
	return fmt.Sprintf("%s: got %s, expected %s", key, describe(got), listed(want, "or"))
}

// reason says why key, the first that does not, does not hold for s.
func (c *condition) reason(key string, m *matcher, s *subject) string {
	switch key {
	case "opcode":
		return fmt.Sprintf("opcode: got %v, expected %s", s.op, strings.Join(c.opcodes.names(), " or "))
	case "min_size":
		return fmt.Sprintf("min_size: got %s, expected %d at least", counted(s.size, "byte"), c.min)
	case "max_size":
		return fmt.Sprintf("max_size: got %s, expected %d at most", counted(s.size, "byte"), c.max)
	case "contains":
		return "contains: " + missing(c.contains.texts)
	case "keywords":
		return "keywords: " + missing(c.keywords.texts)
	case "json_all":
		return m.jsonReason(key, c.jsonAll, s)
	case "json":
		return m.jsonReason(key, c.json, s)
	case "detect":
		var names []string
		for _, d := range c.detect {
			names = append(names, d.Name)
		}
		return "detect: no " + strings.Join(names, " and no ") + " is there"
	}
	return c.regexReason(s)
}

// regexReason says what is wrong with the first match of a regex, or that there
// is none.
func (c *condition) regexReason(s *subject) string {
	var texts []string
	for _, re := range c.regex {
		texts = append(texts, re.re.String())
	}
	if c.value == nil {
		return "regex: " + unmatched(texts)
	}
	views := [][]byte{s.data}
	if s.text != nil {
		views = append(views, s.text)
	}
	for i := range c.regex {
		for _, data := range views {
			at := c.regex[i].re.FindSubmatchIndex(data)
			if at == nil {
				continue
			}
			return fmt.Sprintf("regex %s: found %s, but %s", describe(texts[i]), describe(string(data[at[0]:at[1]])), c.value.reason(data, at))
		}
	}
	return "regex: " + unmatched(texts)
}

// reason says why the match with the submatches at has no value.
func (v *value) reason(data []byte, at []int) string {
	switch key, except := v.failing(data, at); key {
	case "group":
		return fmt.Sprintf("it has no group %d", v.group)
	case "entropy":
		start, end := v.place(at)
		text, of := data[start:end], "its entropy"
		if v.group == firstGroup {
			of = fmt.Sprintf("the entropy of the first group with text, %s,", describe(string(text)))
		} else if v.group > 0 {
			of = fmt.Sprintf("the entropy of group %d, %s,", v.group, describe(string(text)))
		}
		// Rounded downwards, so that what is too little never looks like enough.
		got := strconv.FormatFloat(math.Floor(entropy(text)*1000)/1000, 'f', -1, 64)
		return fmt.Sprintf("%s is %s, expected %v at least", of, got, v.entropy)
	default:
		return fmt.Sprintf("[rule.value.except] has %s %s", key, describe(except))
	}
}

// jsonReason says what stands where the tests that do not hold look.
func (m *matcher) jsonReason(key string, tests []int, s *subject) string {
	there := map[int][]string{}
	if !m.json.set.Walk(s.data, func(i int, v jsonpath.Value) bool {
		text := string(v.Raw)
		if v.Kind == jsonpath.String {
			text = describe(string(v.Text(nil)))
		}
		there[i] = append(there[i], printable(shortened(text)))
		return true
	}) {
		return key + ": the message is not JSON"
	}
	held := m.jsonHeld(s)
	var parts []string
	for _, i := range tests {
		if held.has(i) {
			continue
		}
		path := m.json.tests[i].path.String()
		if len(there[i]) == 0 {
			parts = append(parts, fmt.Sprintf("%s %s: %s is not there", key, m.json.tests[i].text, path))
		} else {
			parts = append(parts, fmt.Sprintf("%s %s: %s is %s", key, m.json.tests[i].text, path, few(there[i], "and")))
		}
	}
	return strings.Join(parts, "; ")
}

// reason says how far the counts, the message included, are from too many.
func (r *rate) reason(messages, bytes int64) string {
	var counts []string
	if r.messages > 0 {
		counts = append(counts, fmt.Sprintf("message %d", messages))
	}
	if r.bytes > 0 {
		counts = append(counts, fmt.Sprintf("byte %d", bytes))
	}
	return fmt.Sprintf("[rule.rate] would count this as %s of its %s within %v, and matches after %s",
		strings.Join(counts, " and "), r.per, r.window, r.limits())
}

// limits is what a rate allows.
func (r *rate) limits() string {
	var limits []string
	if r.messages > 0 {
		limits = append(limits, counted(r.messages, "message"))
	}
	if r.bytes > 0 {
		limits = append(limits, counted(r.bytes, "byte"))
	}
	return strings.Join(limits, " or ")
}

func missing(texts []string) string {
	if len(texts) == 1 {
		return describe(texts[0]) + " is not there"
	}
	return "none of " + listed(texts, "and") + " is there"
}

func unmatched(texts []string) string {
	if len(texts) == 1 {
		return describe(texts[0]) + " does not match"
	}
	return "none of " + listed(texts, "and") + " matches"
}

// listed lists texts of a policy or a message.
func listed(texts []string, and string) string {
	list := make([]string, len(texts))
	for i, s := range texts {
		list[i] = describe(s)
	}
	return few(list, and)
}

// few lists the first ones.
func few(list []string, and string) string {
	const most = 5
	switch n := len(list); {
	case n == 1:
		return list[0]
	case n > most+1:
		return fmt.Sprintf("%s %s %d more", strings.Join(list[:most], ", "), and, n-most)
	default:
		return strings.Join(list[:n-1], ", ") + " " + and + " " + list[n-1]
	}
}

// shortened is for text that is not quoted.
func shortened(s string) string {
	if utf8.RuneCountInString(s) > 60 {
		return string([]rune(s)[:60]) + "..."
	}
	return s
}

func counted(n int64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func hostTexts(list []hostPattern) (texts []string) {
	for _, h := range list {
		texts = append(texts, strings.Join(h, "."))
	}
	return texts
}

func pathTexts(list [][]string) (texts []string) {
	for _, p := range list {
		texts = append(texts, "/"+strings.Join(p, "/"))
	}
	return texts
}

func originTexts(list []originPattern) (texts []string) {
	for _, o := range list {
		switch {
		case o.host == nil:
			texts = append(texts, "null")
		case o.port != "":
			texts = append(texts, o.scheme+"://"+strings.Join(o.host, ".")+":"+o.port)
		default:
			texts = append(texts, o.scheme+"://"+strings.Join(o.host, "."))
		}
	}
	return texts
}

func prefixTexts(list []netip.Prefix) (texts []string) {
	for _, p := range list {
		texts = append(texts, p.String())
	}
	return texts
}
