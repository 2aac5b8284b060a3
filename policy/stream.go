package policy

import (
	"math"
	"math/bits"
	"regexp"
	"sync"
	"unicode/utf8"

	"framegate/frames"
)

const (
	// streamOverlap is how far back a window of a [Stream] reaches into the one
	// before: 4 KiB, which is the longest match that is found wherever the
	// pieces are cut, and what has to be seen on either side of it.
	streamOverlap = 4<<10 + 2*utf8.UTFMax
	streamWindow  = 64 << 10
)

// A Stream judges one message that comes in pieces, in constant memory. It finds
// what [Scope.Message] finds in the whole, as long as a match is no longer than
// 4 KiB.
//
// A part of such a message leaves before the rest is known, so it can neither be
// dropped nor redacted any more: where a rule asks for that, the connection is to
// be closed.
type Stream struct {
	scope *Scope
	dir   frames.Direction
	op    frames.Opcode
	size  int64 // of the message so far

	window  *[streamWindow]byte
	n       int  // bytes in window
	started bool // window[0] is not the beginning of the message

	found   bitset    // slots, in any window
	matched [2]bitset // rules of which a regex has matched: of match, and of except
}

var streamWindows = sync.Pool{New: func() any { return new([streamWindow]byte) }}

// Stream begins a message. End has to be called for it, or Discard.
func (s *Scope) Stream(dir frames.Direction, op frames.Opcode) *Stream {
	m := s.policy.matcher
	return &Stream{
		scope: s, dir: dir, op: op,
		window:  streamWindows.Get().(*[streamWindow]byte),
		found:   newBitset(m.slots),
		matched: [2]bitset{newBitset(len(m.rules)), newBitset(len(m.rules))},
	}
}

// Write takes the next piece. It reports whether what has come so far may pass;
// if not, then the verdict says why, and its Action is [Close].
func (s *Stream) Write(data []byte) (v Verdict, pass bool) {
	for len(data) > 0 {
		n := copy(s.window[s.n:], data)
		data = data[n:]
		s.n += n
		s.size += int64(n)
		if t := s.look(false); t.v.Action > Log {
			return t.closing(), false
		}
		s.slide()
	}
	return Verdict{}, true
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
	s.started = s.started || start > 0
	s.n = copy(s.window[:], s.window[start:s.n])
}

// End ends the message and returns the verdict on all of it. The last byte must
// not have left before. The Stream is not to be used any more.
func (s *Stream) End() Verdict {
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
	data := s.window[:s.n]
	if !last {
		data = data[:s.n-partialRune(data)]
	}
	marks := m.marks.Get().(*marks)
	defer m.marks.Put(marks)
	clear(marks.found)
	clear(marks.rules)
	m.automaton.scan(data, marks)
	for w := range s.found {
		s.found[w] |= marks.found[w]
	}

	op := opcodeSet(s.op)
	in, about := s.scope.rules[s.dir&1], m.about[bits.TrailingZeros8(uint8(op))]
	var t tally
	for w := range in {
		todo := in[w] & about[w]
		if !last {
			todo &= marks.rules[w] | m.loose[w]
		}
		for ; todo != 0; todo &= todo - 1 {
			i := w*64 + bits.TrailingZeros64(todo)
			r := m.rules[i]
			for k, c := range []*condition{&r.match, r.except} {
				if c != nil && !s.matched[k].has(i) && c.matchAny(data, marks.found, s.started, !last) {
					s.matched[k].set(i)
				}
			}
			if s.hits(r, i, op, last) {
				t.hit(r)
			}
		}
	}
	return t
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
	if !last && (r.except != nil || r.match.max != math.MaxInt64) {
		return false
	}
	return s.holds(&r.match, s.matched[0].has(i), op) &&
		(r.except == nil || !s.holds(r.except, s.matched[1].has(i), op))
}

func (s *Stream) holds(c *condition, matched bool, op opcodes) bool {
	return c.fits(op, s.size) &&
		(len(c.contains) == 0 || s.found.has(c.slot)) &&
		(len(c.regex) == 0 || matched)
}

// matchAny reports whether a regex of c matches in a window. cutBefore and
// cutAfter tell that the message has more than the window.
func (c *condition) matchAny(data []byte, found bitset, cutBefore, cutAfter bool) bool {
	for i := range c.regex {
		re := &c.regex[i]
		if (re.literals == nil || found.has(re.slot)) && re.match(data) && re.open.match(data, cutBefore, cutAfter) {
			return true
		}
	}
	return false
}

// An openRegex is a regex for a window of a message. To match at an edge that is
// not an end of the message, a regex would have to see what is on the other side;
// so it has to match within, and sees one character on either side of the match.
type openRegex struct {
	once  sync.Once
	text  string
	cases [4]*regexp.Regexp // bit 0: cut before, bit 1: cut after
}

func (o *openRegex) match(data []byte, cutBefore, cutAfter bool) bool {
	if !cutBefore && !cutAfter {
		return true // that is the whole, which has matched
	}
	o.once.Do(func() {
		for i := range o.cases {
			before, after := "", ""
			if i&1 != 0 {
				before = `\A(?s:.+?)`
			}
			if i&2 != 0 {
				after = `(?s:.)`
			}
			o.cases[i] = regexp.MustCompile(before + "(?:" + o.text + ")" + after)
		}
	})
	i := 0
	if cutBefore {
		i |= 1
	}
	if cutAfter {
		i |= 2
	}
	return o.cases[i].Match(data)
}
