package policy

import (
	"fmt"
	"math/bits"
	"regexp"
	"regexp/syntax"
	"sync"

	"framegate/frames"
)

// A matcher judges messages by all rules of a policy together.
type matcher struct {
	rules     []*rule
	automaton *automaton
	about     [5]bitset // rules by opcode, in the order of opcodeNames
	asking    bitset    // rules that need to know what the automaton finds
	always    bitset    // rules that may match whatever it finds
	loose     bitset    // rules with a regex that may match whatever it finds
	slots     int
	marks     sync.Pool // *marks
}

// marks are what the automaton found in one message.
type marks struct {
	found bitset // slots
	rules bitset // rules that have one of those slots
}

// A regex is one value of a regex condition.
type regex struct {
	re       *regexp.Regexp
	literals literals // unless nil, every match contains one of them
	run      *run     // unless nil, every match lies in such a run
	slot     int      // where the automaton reports the literals
	least    int      // bytes that each match has at least
	at       Error    // where it is written
	open     *openRegex
}

func newRegex(re *regexp.Regexp, at Error) regex {
	r := regex{re: re, at: at, open: &openRegex{text: re.String()}}
	// The flags are those of regexp.Compile, which has accepted the text.
	if tree, err := syntax.Parse(re.String(), syntax.Perl); err == nil {
		r.literals, r.run, r.least = required(tree), longRun(tree), new(run).add(tree)
	}
	return r
}

func (r *regex) match(data []byte) bool {
	if r.run != nil {
		return r.run.match(r.re, data)
	}
	return r.re.Match(data)
}

func newMatcher(rules []*rule) (*matcher, []SlowRule) {
	m := &matcher{rules: rules, asking: newBitset(len(rules)), always: newBitset(len(rules)), loose: newBitset(len(rules))}
	for op := range m.about {
		m.about[op] = newBitset(len(rules))
	}
	var needles []needle
	var slow []SlowRule
	for i, r := range rules {
		for op := range m.about {
			if r.match.opcodes>>op&1 != 0 {
				m.about[op].set(i)
			}
		}
		// One string that must be there is enough to leave the rule alone where
		// it is not.
		free := len(r.match.contains) == 0
		anchored := len(r.match.regex) > 0
		for _, re := range r.match.regex {
			anchored = anchored && re.literals != nil
		}
		if free && !anchored {
			m.always.set(i)
		}
		for _, c := range []*condition{&r.match, r.except} {
			if c == nil {
				continue
			}
			for _, re := range c.regex {
				if re.literals == nil {
					m.loose.set(i)
				}
			}
			start := len(needles)
			needles = m.assign(c, i, needles)
			if len(needles) > start {
				m.asking.set(i)
			}
		}
		if free {
			slow = append(slow, slowRegexes(r)...)
		}
	}
	m.automaton = newAutomaton(needles)
	m.marks.New = func() any {
		return &marks{newBitset(m.slots), newBitset(len(rules))}
	}
	return m, slow
}

// assign gives the parts of a condition their slots, and appends what has to
// be found for them.
func (m *matcher) assign(c *condition, rule int, needles []needle) []needle {
	if len(c.contains) > 0 {
		c.slot = m.slots
		m.slots++
		for _, s := range c.contains {
			needles = append(needles, needle{literal{s, false}, c.slot, rule})
		}
	}
	for i := range c.regex {
		re := &c.regex[i]
		if re.literals == nil {
			continue
		}
		re.slot = m.slots
		m.slots++
		for _, l := range re.literals {
			needles = append(needles, needle{l, re.slot, rule})
		}
	}
	return needles
}

// slowRegexes names what nothing but the scope and the size keeps from running.
func slowRegexes(r *rule) (slow []SlowRule) {
	for _, re := range r.match.regex {
		if re.literals == nil && re.run == nil {
			slow = append(slow, SlowRule{
				Rule: r.ID, File: re.at.File, Line: re.at.Line, Column: re.at.Column,
				Reason: fmt.Sprintf("regex %s has to run on every message: no fixed text is part of all that it matches", describe(re.re.String())),
			})
		}
	}
	return slow
}

// match calls hit for each rule of in that matches, in ascending order.
func (m *matcher) match(in bitset, opcode frames.Opcode, data []byte, hit func(*rule)) {
	op := opcodeSet(opcode)
	about := m.about[bits.TrailingZeros8(uint8(op))]
	var all, ask uint64
	for w := range in {
		all |= in[w] & about[w]
		ask |= in[w] & about[w] & m.asking[w]
	}
	if all == 0 {
		return
	}
	marks := m.marks.Get().(*marks)
	defer m.marks.Put(marks)
	clear(marks.found)
	clear(marks.rules)
	if ask != 0 {
		m.automaton.scan(data, marks)
	}
	for w := range in {
		todo := in[w] & about[w] & (m.always[w] | marks.rules[w])
		for ; todo != 0; todo &= todo - 1 {
			r := m.rules[w*64+bits.TrailingZeros64(todo)]
			if r.hits(op, data, marks.found) {
				hit(r)
			}
		}
	}
}
