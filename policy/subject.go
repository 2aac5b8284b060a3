package policy

import (
	"framegate/frames"
	"framegate/policy/jsonpath"
)

// A subject is a message that is being judged, or a window of one. It is made
// ready by the matcher, which keeps them in a pool.
type subject struct {
	op   opcodes
	size int64
	data []byte
	text []byte // data without the escapes of JSON; nil if it has none

	needles  bitset // that the automaton found in data or text
	found    bitset // of these
	rules    bitset // rules that have one of these
	asked    bitset // detectors that have been asked
	detected bitset // those of them that found something

	walked bool // held is right
	held   bitset

	unescaped jsonpath.Unescaped
}

// keptText is the largest text of an unescaped message whose room is kept.
const keptText = 256 << 10

func (m *matcher) subject(op frames.Opcode, data []byte) *subject {
	s := m.subjects.Get().(*subject)
	s.op, s.size, s.data = opcodeSet(op), int64(len(data)), data
	clear(s.needles)
	clear(s.found)
	clear(s.rules)
	clear(s.asked)
	clear(s.detected)
	return s
}

// scan looks for all that the automaton knows, in data and, if it looks like
// JSON, in what data is without escapes.
func (m *matcher) scan(s *subject, looksJSON bool) {
	if len(m.automaton.needles) > 0 {
		m.automaton.scan(s.data, s)
	}
	if looksJSON && jsonpath.Escaped(s.data) {
		s.unescaped.Reset(s.data)
		s.text = s.unescaped.Text()
		m.automaton.scan(s.text, s)
	}
}

// detects reports whether d finds something. It asks d once, however many rules
// do; whether the message goes on beyond the window is the same for all of them.
func (s *subject) detects(d *detector, cutBefore, cutAfter bool) bool {
	if !s.asked.has(d.number) {
		s.asked.set(d.number)
		if d.in(s.data, cutBefore, cutAfter) || s.text != nil && d.in(s.text, cutBefore, cutAfter) {
			s.detected.set(d.number)
		}
	}
	return s.detected.has(d.number)
}

// done gives s back.
func (m *matcher) done(s *subject) {
	if len(s.text) > keptText {
		s.unescaped = jsonpath.Unescaped{}
	} else {
		s.unescaped.Reset(nil)
	}
	s.data, s.text, s.walked = nil, nil, false
	m.subjects.Put(s)
}

// jsonHeld returns the json tests that hold.
func (m *matcher) jsonHeld(s *subject) bitset {
	if !s.walked {
		m.json.run(s.data, s.held)
		s.walked = true
	}
	return s.held
}
