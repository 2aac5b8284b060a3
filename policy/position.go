package policy

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// A node says where one key of a TOML document and its value are written.
// Package toml reports positions only for what it refuses itself, but most
// mistakes in a rule are found later: an unknown key, a bad regex, a bad CIDR.
type node struct {
	key, value int // byte offsets into the document
	keys       map[string]*node
	items      []*node // of an array, and of an array of tables
}

// child returns the node of a key, made if need be.
func (n *node) child(name string, at int) *node {
	if c := n.keys[name]; c != nil {
		return c
	}
	if n.keys == nil {
		n.keys = map[string]*node{}
	}
	c := &node{key: at, value: at}
	n.keys[name] = c
	return c
}

// last returns the table that a header such as [a.b] means by a: the latest
// one if a is an array of tables.
func (n *node) last() *node {
	if len(n.items) > 0 {
		return n.items[len(n.items)-1]
	}
	return n
}

// locate returns the nodes of a document that package toml has accepted.
// On any other text it still ends, with nodes that mean little.
func locate(text string) *node {
	s := scanner{text: text}
	root := &node{}
	current := root
	for s.blank(); s.i < len(s.text); s.blank() {
		if s.text[s.i] == '[' {
			current = s.header(root)
		} else {
			s.pair(current)
		}
	}
	return root
}

// Position returns the line and the column of a value of a TOML document that
// package toml has accepted, for the readers of other formats than a policy's.
// The path consists of keys and of the numbers of items. Where it leads beyond
// what is written, the last part that is there counts.
func Position(text string, path ...any) (line, column int) {
	n := locate(text)
	for _, part := range path {
		var next *node
		switch part := part.(type) {
		case string:
			next = n.keys[part]
		case int:
			if part < len(n.items) {
				next = n.items[part]
			}
		}
		if next == nil {
			break
		}
		n = next
	}
	return lineColumn(text, n.value)
}

type scanner struct {
	text string
	i    int
}

// peek returns the next byte, or 0 at the end: TOML has no NUL.
func (s *scanner) peek() byte {
	if s.i < len(s.text) {
		return s.text[s.i]
	}
	return 0
}

func (s *scanner) accept(c byte) bool {
	if s.peek() != c {
		return false
	}
	s.i++
	return true
}

// blank skips white space, line ends, comments and the commas of lists.
func (s *scanner) blank() {
	for s.i < len(s.text) {
		switch s.text[s.i] {
		case ' ', '\t', '\r', '\n', ',':
			s.i++
		case '#':
			s.until("\n")
		default:
			return
		}
	}
}

func (s *scanner) spaces() {
	for s.peek() == ' ' || s.peek() == '\t' {
		s.i++
	}
}

// until moves to the next of the given bytes.
func (s *scanner) until(stop string) {
	if n := strings.IndexAny(s.text[s.i:], stop); n >= 0 {
		s.i += n
	} else {
		s.i = len(s.text)
	}
}

// header reads [a.b] or [[a.b]] and returns the node of that table.
func (s *scanner) header(root *node) *node {
	at := s.i
	s.i++
	array := s.accept('[')
	n := root
	s.path(func(name string, _ int, last bool) {
		n = n.last().child(name, at)
		if last && array {
			n.items = append(n.items, &node{key: at, value: at})
		}
	})
	s.spaces()
	s.accept(']')
	s.accept(']')
	return n.last()
}

// pair reads key = value into the table n.
func (s *scanner) pair(n *node) {
	s.path(func(name string, at int, _ bool) { n = n.child(name, at) })
	s.spaces()
	s.accept('=')
	s.spaces()
	s.setValue(n)
}

func (s *scanner) setValue(n *node) {
	n.value = s.i
	switch s.peek() {
	case '"', '\'':
		s.str()
	case '[':
		s.i++
		for s.blank(); s.i < len(s.text) && !s.accept(']'); s.blank() {
			item := &node{key: s.i}
			s.setValue(item)
			n.items = append(n.items, item)
		}
	case '{':
		s.i++
		for s.blank(); s.i < len(s.text) && !s.accept('}'); s.blank() {
			s.pair(n)
		}
	default:
		// A number, a bool or a date. What is not TOML must be passed, too.
		s.until(",]}#\r\n")
		if s.i == n.value {
			s.i = min(s.i+1, len(s.text))
		}
	}
}

// path reads a dotted key and hands out its parts.
func (s *scanner) path(part func(name string, at int, last bool)) {
	for {
		s.spaces()
		at := s.i
		var name string
		if c := s.peek(); c == '"' || c == '\'' {
			name = s.str()
		} else {
			s.until(" \t\r\n.=[]{},#\"'")
			name = s.text[at:s.i]
		}
		s.spaces()
		more := s.accept('.')
		part(name, at, !more)
		if !more {
			return
		}
	}
}

// str reads a string of any of the four kinds. The result is exact for those
// of one line, the only ones that may be keys.
func (s *scanner) str() string {
	quote := s.text[s.i : s.i+1]
	if triple := strings.Repeat(quote, 3); strings.HasPrefix(s.text[s.i:], triple) {
		s.i += 3
		s.find(triple, quote == `"`)
		// Up to two quotes may stand before the closing three.
		for range 2 {
			s.accept(quote[0])
		}
		return ""
	}
	s.i++
	at := s.i
	s.find(quote, quote == `"`)
	raw := s.text[at:max(at, s.i-1)]
	if name, err := strconv.Unquote(`"` + raw + `"`); quote == `"` && err == nil {
		return name
	}
	return raw
}

// find moves past end, or to the end of the text.
func (s *scanner) find(end string, escapes bool) {
	for ; s.i < len(s.text); s.i++ {
		if escapes && s.text[s.i] == '\\' {
			s.i++
		} else if strings.HasPrefix(s.text[s.i:], end) {
			s.i += len(end)
			return
		}
	}
	s.i = len(s.text)
}

// lineColumn turns a byte offset into a line and a column, both from 1. Columns
// count characters, as editors do. Package toml gives -1 for a control character
// at the very beginning.
func lineColumn(text string, offset int) (line, column int) {
	before := text[:min(max(offset, 0), len(text))]
	start := strings.LastIndexByte(before, '\n') + 1
	return strings.Count(before, "\n") + 1, utf8.RuneCountInString(before[start:]) + 1
}
