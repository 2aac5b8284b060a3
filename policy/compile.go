package policy

import (
	"math"
	"slices"
	"strings"

	"framegate/frames"
)

// A compiler turns files into a policy and collects the mistakes of all.
type compiler struct {
	policy Policy
	names  []string
	ids    map[string]*Error // where each id is written
	def    *Error            // where the default is written
	json   jsonTests
	errors []*Error

	shadow   bool // the files are on trial
	warnings []Warning
}

func (c *compiler) file(f source) {
	doc := &document{name: f.name, text: string(f.data), errors: &c.errors}
	t := doc.read()
	if t == nil {
		return
	}
	if head := t.table("policy", "[policy]"); head != nil {
		c.head(head)
	}
	for _, t := range t.tables("connection", "[[connection]]") {
		c.connection(t)
	}
	for _, t := range t.tables("rule", "[[rule]]") {
		c.rule(t)
	}
	t.close()
}

// head reads [policy]. Several files may have one, but there is one default.
func (c *compiler) head(t *table) {
	if name, ok := t.text("name"); ok && name.string != "" {
		c.names = append(c.names, name.string)
	}
	// A word that is wrong has been reported, and says nothing of the others.
	if word := t.word("default", "", "allow", "drop", "close"); word != "" {
		at := t.sub("default").value
		def := parseAction(word)
		switch {
		case c.shadow:
			c.warnings = append(c.warnings, t.doc.at(at, "").warning("default", "is not tried: only rules have a shadow mode"))
		case c.def == nil:
			c.policy.def, c.def = def, t.doc.at(at, "")
		case def != c.policy.def:
			t.errorf(at, "default: got %q, expected %q as at %s:%d", word, c.policy.def, c.def.File, c.def.Line)
		}
	}
	t.close()
}

// id reads an id. Rules and connections share one namespace, since a record
// names either by its id alone.
func (c *compiler) id(t *table) string {
	id, ok := t.text("id")
	if !ok {
		if !t.has("id") {
			t.errorf(t.node.key, "%s has no id, expected id = \"some-name\"", t.name)
		}
		return ""
	}
	if id.string == "" || strings.ContainsFunc(id.string, notInID) {
		t.mismatch(id.at, "id", id.string, "letters, digits and any of - _ . : /")
		return ""
	}
	if first := c.ids[id.string]; first != nil {
		t.errorf(id.at, "id: got %q, which is taken at %s:%d, expected one that is not", id.string, first.File, first.Line)
		return ""
	}
	c.ids[id.string] = t.doc.at(id.at, "")
	return id.string
}

// notInID keeps ids to what needs no quoting in logs, on a command line and in
// a metric.
func notInID(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("-_.:/", r)
}

func (c *compiler) connection(t *table) {
	conn := connection{
		id:     c.id(t),
		host:   parseAll(t, "host", t.some("host"), parseHost),
		client: parseAll(t, "client", t.some("client"), parseCIDR),
		server: parseAll(t, "server", t.some("server"), parseCIDR),
		at:     *t.doc.at(t.node.key, ""),
	}
	if !t.has("decision") {
		t.errorf(t.node.key, "%s has no decision, expected %s", t.name, oneOf(connActionNames[:]))
	}
	conn.action = ConnAction(slices.Index(connActionNames[:], t.word("decision", "inspect", connActionNames[:]...)))
	conn.openECH = t.word("ech", "bypass", "bypass", "inspect") == "inspect"
	conn.fronting = t.word("fronting", "block", "block", "allow") == "allow"
	switch decided := t.values["decision"] == conn.action.String(); {
	case !decided: // a mistake that was reported, and says nothing of the others
	case t.has("ech") && (conn.action != Bypass || !t.has("host")):
		t.errorf(t.sub("ech").value, `ech: has no meaning here, expected it beside decision = "bypass" and host only`)
	case t.has("fronting") && conn.action != Inspect:
		t.errorf(t.sub("fronting").value, `fronting: has no meaning here, expected it beside decision = "inspect" only`)
	}
	t.close()
	if c.shadow {
		c.warnings = append(c.warnings, conn.at.warning(conn.id, "is not tried: only rules have a shadow mode"))
		return
	}
	c.policy.connections = append(c.policy.connections, conn)
}

// parseAll parses each member of a list and reports those that are wrong.
func parseAll[T any](t *table, key string, list []text, parse func(string) (T, error)) []T {
	var all []T
	for _, s := range list {
		v, err := parse(s.string)
		if err != nil {
			t.errorf(s.at, "%s: got %s, %v", key, describe(s.string), err)
			continue
		}
		all = append(all, v)
	}
	return all
}

func (c *compiler) rule(t *table) {
	r := &rule{at: *t.doc.at(t.node.key, "")}
	r.ID = c.id(t)
	description, _ := t.text("description")
	r.Description = description.string
	r.Severity = t.word("severity", "", "info", "low", "medium", "high", "critical")
	tags, _ := t.texts("tags")
	for _, tag := range tags {
		r.Tags = append(r.Tags, tag.string)
	}
	r.Shadow = t.word("mode", "enforce", "enforce", "shadow") == "shadow" || c.shadow
	known := c.action(t, r)

	r.scope = scopeOf(t.table("scope", "[rule.scope]"))
	match := t.table("match", "[rule.match]")
	r.match = c.condition(match, dataMessages)
	if v := t.table("value", "[rule.value]"); v != nil {
		r.match.value = c.value(v, &r.match)
	}
	if except := t.table("except", "[rule.except]"); except != nil {
		if len(except.values) == 0 {
			t.errorf(except.node.key, "[rule.except] is empty, which would except every message, expected a condition")
		}
		cond := c.condition(except, anyOpcode)
		r.except = &cond
	}
	c.redaction(t, match, r, known)
	if rate := t.table("rate", "[rule.rate]"); rate != nil {
		r.rate = c.rate(rate, r)
	}
	for _, test := range t.tables("test", "[[rule.test]]") {
		r.tests = append(r.tests, testOf(test, r, known))
	}
	t.close()
	r.Scope, r.Match = r.scope.brief(), c.brief(r)
	c.policy.rules = append(c.policy.rules, r)
}

// action reads what a rule does, and what it says when it closes. It reports
// whether there is such an action.
func (c *compiler) action(t *table, r *rule) (known bool) {
	words := []string{"allow", "log", "redact", "drop", "close"}
	action, ok := t.text("action")
	known = slices.Contains(words, action.string)
	switch {
	case !t.has("action"):
		t.errorf(t.node.key, "[[rule]] has no action, expected %s", oneOf(words))
	case ok && !known:
		t.mismatch(action.at, "action", action.string, oneOf(words)+didYouMean(action.string, words))
	}
	r.Action = parseAction(action.string)

	if r.Action == Close {
		r.Code, r.Reason = defaultCode, defaultReason
	}
	if v, ok := t.get("code"); ok {
		n, isInt := v.(int64)
		at := t.sub("code").value
		// "1005 is a reserved value and MUST NOT be set as a status code in a Close
		// control frame" (RFC 6455, Section 7.4.1); so are 1006 and 1015, and
		// others mean nothing to a peer.
		switch {
		case !isInt || n < 0 || n > math.MaxUint16 || !frames.Code(n).Valid():
			t.mismatch(at, "code", v, "a close code that may be sent, such as 1008 or one from 3000 to 4999")
		case r.Action != Close:
			t.errorf(at, `code: has no meaning here, expected it beside action = "close" only`)
		default:
			r.Code = frames.Code(n)
		}
	}
	if reason, ok := t.text("reason"); ok {
		switch {
		// A control frame carries 125 bytes at most (Section 5.5), two are the code.
		case len(reason.string) > 123:
			t.errorf(reason.at, "reason: got %d bytes, expected 123 at most", len(reason.string))
		case r.Action != Close:
			t.errorf(reason.at, `reason: has no meaning here, expected it beside action = "close" only`)
		default:
			r.Reason = reason.string
		}
	}
	return known
}

func scopeOf(t *table) scope {
	s := scope{direction: [2]bool{true, true}}
	if t == nil {
		return s
	}
	s.direction = directions(t.word("direction", "both", "to-server", "to-client", "both"))
	list := func(key string) []text { all, _ := t.texts(key); return all }
	s.host = parseAll(t, "host", list("host"), parseHost)
	s.path = parseAll(t, "path", list("path"), parsePath)
	s.origin = parseAll(t, "origin", list("origin"), parseOrigin)
	s.subprotocol = parseAll(t, "subprotocol", list("subprotocol"), func(s string) (string, error) { return s, nil })
	s.client = parseAll(t, "client", list("client"), parseCIDR)
	t.close()
	return s
}

func directions(word string) [2]bool {
	return [2]bool{frames.ToServer: word != "to-client", frames.ToClient: word != "to-server"}
}
