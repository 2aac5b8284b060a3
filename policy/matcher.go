package policy

import (
	"fmt"
	"math/bits"
	"slices"
	"sync"

	"framegate/frames"
	"framegate/policy/detect"
)

// A matcher judges messages by all rules of a policy together.
type matcher struct {
	rules     []*rule
	automaton *automaton
	json      jsonTests
	about     [len(opcodeNames)]bitset // rules by opcode
	always    bitset                   // rules that may match whatever it finds
	loose     bitset                   // rules with a key that may hold whatever it finds
	content   bitset                   // rules that look into the message
	detectors []*detect.Detector
	slots     int
	subjects  sync.Pool // *subject
}

func newMatcher(rules []*rule, tests jsonTests) (*matcher, []Warning) {
	n := len(rules)
	m := &matcher{
		rules: rules, json: tests,
		always: newBitset(n), loose: newBitset(n), content: newBitset(n),
	}
	m.json.compile()
	for op := range m.about {
		m.about[op] = newBitset(n)
	}
	all := needles{index: map[literal]int{}}
	var slow []Warning
	for i, r := range rules {
		for op := range m.about {
			if r.match.opcodes>>op&1 != 0 {
				m.about[op].set(i)
			}
		}
		for _, c := range []*condition{&r.match, r.except} {
			if c == nil {
				continue
			}
			m.assign(c, i, &all)
			if c.loose() {
				m.loose.set(i)
			}
			if c.regex != nil || c.detect != nil || len(c.contains.texts) > 0 || len(c.keywords.texts) > 0 {
				m.content.set(i)
			}
		}
		if !r.match.anchored() {
			m.always.set(i)
			if r.match.json == nil && r.match.jsonAll == nil {
				slow = append(slow, slowRegexes(r)...)
			}
		}
	}
	m.automaton = newAutomaton(all.list)
	sizes := [...]int{len(all.list), m.slots, n, len(m.detectors), len(m.detectors)}
	words := 0
	for _, size := range sizes {
		words += len(newBitset(size))
	}
	m.subjects.New = func() any {
		s, room := &subject{held: m.json.newHeld()}, make(bitset, words)
		for i, set := range [...]*bitset{&s.needles, &s.found, &s.rules, &s.asked, &s.detected} {
			w := (sizes[i] + 63) / 64
			*set, room = room[:w:w], room[w:]
		}
		return s
	}
	return m, slow
}

// assign gives the parts of a condition their slots, and adds what has to be
// found for them.
func (m *matcher) assign(c *condition, rule int, all *needles) {
	add := func(texts literals) (slot int) {
		slot = m.slots
		m.slots++
		for _, l := range texts {
			all.add(l, slot, rule)
		}
		return slot
	}
	if len(c.contains.texts) > 0 {
		c.contains.slot = add(literalsOf(c.contains.texts, false))
	}
	if len(c.keywords.texts) > 0 {
		c.keywords.slot = add(literalsOf(c.keywords.texts, true))
	}
	for i := range c.detect {
		d := &c.detect[i]
		d.slot = -1
		if d.number = slices.Index(m.detectors, d.Detector); d.number < 0 {
			d.number = len(m.detectors)
			m.detectors = append(m.detectors, d.Detector)
		}
		if texts, fold := d.Literals(); texts != nil {
			d.slot = add(literalsOf(texts, fold))
		}
	}
	for i := range c.regex {
		if re := &c.regex[i]; re.literals != nil {
			re.slot = add(re.literals)
		}
	}
}

func literalsOf(texts []string, fold bool) literals {
	list := make(literals, len(texts))
	for i, s := range texts {
		if fold {
			s = lower(s)
		}
		list[i] = literal{s, fold}
	}
	return list
}

// anchored reports whether c holds only if the automaton finds something: one
// key that needs it is enough to leave the rule alone where nothing is.
func (c *condition) anchored() bool {
	return len(c.contains.texts) > 0 || len(c.keywords.texts) > 0 ||
		c.regex != nil && !c.looseRegex() || c.detect != nil && !c.looseDetector()
}

// loose reports whether a key of c may hold whatever the automaton finds.
func (c *condition) loose() bool { return c.looseRegex() || c.looseDetector() }

func (c *condition) looseRegex() bool {
	for i := range c.regex {
		if c.regex[i].literals == nil {
			return true
		}
	}
	return false
}

func (c *condition) looseDetector() bool {
	for _, d := range c.detect {
		if d.slot < 0 {
			return true
		}
	}
	return false
}

// slowRegexes names what nothing but the scope and the size keeps from running.
func slowRegexes(r *rule) (slow []Warning) {
	for _, re := range r.match.regex {
		if re.literals == nil && re.run == nil {
			slow = append(slow, re.at.warning(r.ID, fmt.Sprintf("is slow: regex %s has to run on every message, since no fixed text is part of all that it matches", describe(re.re.String()))))
		}
	}
	return slow
}

// match calls hit for each rule of in that matches, in ascending order.
func (m *matcher) match(in bitset, opcode frames.Opcode, data []byte, hit func(*rule)) {
	about := m.about[bits.TrailingZeros8(uint8(opcodeSet(opcode)))]
	var all, content uint64
	for w := range in {
		all |= in[w] & about[w]
		content |= in[w] & about[w] & m.content[w]
	}
	if all == 0 {
		return
	}
	s := m.subject(opcode, data)
	defer m.done(s)
	if content != 0 {
		m.scan(s, looksJSON(data))
	}
	for w := range in {
		todo := in[w] & about[w] & (m.always[w] | s.rules[w])
		for ; todo != 0; todo &= todo - 1 {
			if r := m.rules[w*64+bits.TrailingZeros64(todo)]; r.hits(m, s) {
				hit(r)
			}
		}
	}
}
