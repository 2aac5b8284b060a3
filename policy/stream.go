package policy

import (
	"bytes"
	"math/bits"
	"strings"
	"sync"
	"unicode/utf8"

	"framegate/frames"
)

const (
	// streamOverlap is how far back a window of a [Stream] reaches into the one
	// before: 4 KiB, which is the longest match that is found wherever the
	// pieces are cut, and what has to be seen on either side of it.
	streamOverlap = 4<<10 + 2*detectMargin
	streamWindow  = 64 << 10
)

// A Stream judges one message that comes in pieces, in constant memory. It finds
// what [Scope.Message] finds in the whole, as long as a match is no longer than
// 4 KiB, and so is the line of it where a rule excepts by lines.
//
// A part of such a message leaves before the rest is known, so it can neither be
// dropped nor redacted any more: where a rule asks for that, the connection is to
// be closed. Nor can a json condition be answered. It counts as one that holds,
// unless the rule allows or excepts by it: so a message is not let pass because it
// is large.
type Stream struct {
	scope *Scope
	dir   frames.Direction
	op    frames.Opcode
	size  int64 // of the message so far

	window  *[streamWindow]byte // nil while nothing comes
	n       int                 // bytes in window
	tail    []byte              // what was in window then
	new     bool                // window has bytes that were not judged
	started bool                // window[0] is not the beginning of the message
	begun   bool                // something but white space has come
	json    bool                // and begins as JSON does

	found bitset    // slots, in any window
	held  [4]bitset // rules: regex and detect of match, regex and detect of except
}

var streamWindows = sync.Pool{New: func() any { return new([streamWindow]byte) }}

// Stream begins a message. End has to be called for it, or Discard.
func (s *Scope) Stream(dir frames.Direction, op frames.Opcode) *Stream {
	m := s.policy.matcher
	st := &Stream{scope: s, dir: dir, op: op, found: newBitset(m.slots)}
	for i := range st.held {
		st.held[i] = newBitset(len(m.rules))
	}
	return st
}

// Write takes the next piece. If it reports false, then what has come so far must
// not pass; the verdict says why, and its Action is [Close]. Otherwise it says
// nothing yet: Check does.
func (s *Stream) Write(data []byte) (v Verdict, pass bool) {
	s.open()
	for len(data) > 0 {
		if s.n == len(s.window) {
			if v, pass := s.judge(); !pass {
				return v, false
			}
			s.slide()
		}
		n := copy(s.window[s.n:], data)
		data = data[n:]
		s.n += n
		s.new = true
		if !s.begun {
			s.begun = bytes.ContainsFunc(s.window[:s.n], notBlank)
			s.json = looksJSON(s.window[:s.n])
		}
		s.size += int64(n)
	}
	return Verdict{}, true
}

// Check reports whether what has come so far may pass, as Write does. It costs as
// much as some thousand bytes do, so that it is best called once for many pieces.
func (s *Stream) Check() (v Verdict, pass bool) {
	if !s.new {
		return Verdict{}, true
	}
	if v, pass = s.judge(); pass {
		s.slide()
		s.tail = append(s.tail[:0], s.window[:s.n]...)
		s.Discard()
	}
	return v, pass
}

func (s *Stream) judge() (v Verdict, pass bool) {
	s.new = false
	if t := s.look(false); t.v.Action > Log {
		return t.closing(), false
	}
	return Verdict{}, true
}

// notBlank is for what is neither white space of JSON nor part of a byte order
// mark, of which the window may have an incomplete one.
func notBlank(r rune) bool { return !strings.ContainsRune(" \t\r\n\ufeff\ufffd", r) }

// open gets the window back.
func (s *Stream) open() {
	if s.window == nil {
		s.window = streamWindows.Get().(*[streamWindow]byte)
		s.n = copy(s.window[:], s.tail)
	}
}

// slide keeps of the window only what the next one has to overlap with, from the
// beginning of a character.
func (s *Stream) slide() {
	start := max(0, s.n-streamOverlap)
	for range utf8.UTFMax - 1 {
		if start > 0 && !utf8.RuneStart(s.window[start]) {
			start--
		}
	}
	if s.json {
		start = insideEscape(s.window[:], start)
	}
	s.started = s.started || start > 0
	s.n = copy(s.window[:], s.window[start:s.n])
}

// End ends the message and returns the verdict on all of it. The last byte must
// not have left before. The Stream is not to be used any more.
func (s *Stream) End() Verdict {
	s.open()
	t := s.look(true)
	s.Discard()
	v := t.verdict(s.scope.policy, s.op)
	if v.Action > Log {
		return t.closing()
	}
	return v
}

// Discard gives up a message of which the rest will not come.
func (s *Stream) Discard() {
	if s.window != nil {
		streamWindows.Put(s.window)
		s.window = nil
	}
}

// look judges the window. Before the end it tells only of rules that match
// whatever is still to come.
func (s *Stream) look(last bool) tally {
	m := s.scope.policy.matcher
	window := m.subject(s.op, s.window[:s.n])
	defer m.done(window)
	m.scan(window, s.json)
	if !last { // regexes read characters
		window.data = window.data[:s.n-partialRune(window.data)]
		if cut := s.window[insideEscape(s.window[:], s.n):s.n]; window.text != nil {
			// What is cut stands at the end of the text as it is.
			n := len(cut)
			if surrogate(cut, "89ab") {
				n -= len(`\ud800`) - len("\ufffd")
			}
			window.text = window.text[:len(window.text)-max(n, partialRune(window.text))]
		}
	}
	for w := range s.found {
		s.found[w] |= window.found[w]
	}

	in, about := s.scope.rules[s.dir&1], m.about[bits.TrailingZeros8(uint8(window.op))]
	var t tally
	for w := range in {
		todo := in[w] & about[w]
		if !last {
			todo &= window.rules[w] | m.loose[w]
		}
		for ; todo != 0; todo &= todo - 1 {
			i := w*64 + bits.TrailingZeros64(todo)
			r := m.rules[i]
			s.note(i, 0, &r.match, window, !last)
			if r.except != nil {
				s.note(i, 2, r.except, window, !last)
			}
			if s.hits(r, i, window.op, last) && s.scope.overRate(r, s.size, last) {
				t.hit(r)
			}
		}
	}
	return t
}

// note keeps what is found in the window for condition c of rule i.
func (s *Stream) note(i, k int, c *condition, window *subject, cutAfter bool) {
	if !s.held[k].has(i) && c.matches(window, s.started, cutAfter) {
		s.held[k].set(i)
	}
	if !s.held[k+1].has(i) && c.detects(window, s.started, cutAfter) {
		s.held[k+1].set(i)
	}
}

// insideEscape returns where the escape of JSON begins that goes on at data[i], or
// may; i if there is none.
func insideEscape(data []byte, i int) int {
	for back := 1; back <= min(i, len(`\u123`)); back++ {
		if data[i-back] != '\\' {
			continue
		}
		row := 1
		for back+row <= i && data[i-back-row] == '\\' {
			row++
		}
		// In a row of backslashes, every other one is escaped.
		if row%2 != 0 && (back == 1 || data[i-back+1] == 'u') {
			i -= back
		}
		break
	}
	if i >= 6 && surrogate(data[i-6:i], "89ab") {
		i -= 6
	}
	return i
}

// partialRune returns how many bytes at the end of data may begin a character.
func partialRune(data []byte) int {
	for back := 1; back <= min(len(data), utf8.UTFMax-1); back++ {
		if end := data[len(data)-back:]; utf8.RuneStart(end[0]) {
			if !utf8.FullRune(end) {
				return back
			}
			break
		}
	}
	return 0
}

// hits reports whether rule i matches the message, of which this is all, if last
// is set, or the beginning.
func (s *Stream) hits(r *rule, i int, op opcodes, last bool) bool {
	if !last && (r.except != nil || r.match.max != maxSize) {
		return false
	}
	return s.holds(&r.match, i, 0, op, r.Action > Log) &&
		(r.except == nil || !s.holds(r.except, i, 2, op, false))
}

func (s *Stream) holds(c *condition, i, k int, op opcodes, json bool) bool {
	return c.fits(op, s.size) && c.contains.holds(s.found) && c.keywords.holds(s.found) &&
		s.held[k].has(i) && s.held[k+1].has(i) &&
		(c.json == nil && c.jsonAll == nil || json && s.json)
}
