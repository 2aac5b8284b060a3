package jsonpath

import (
	"fmt"
	"strconv"
	"strings"
)

// maxSteps bounds the recursion of Walk, which goes as deep as the longest path.
const maxSteps = 100

// A Path names one place of a document, or several if it has "#". The zero
// value is the whole document.
//
// A path is written as names separated by dots, each of which goes one level
// down from the whole document:
//
//	user.role     member role of member user
//	items.#.sku   member sku of each element of the array items
//	items.0.sku   member sku of the first element, or of a member named 0
//	a\.b          member a.b
//	@             the whole document
//
// "#" is every element of an array, and no member of an object. A number is an
// element of an array, counted from 0, or the member of that name; with a
// leading zero it is only a name. A backslash takes the meaning from the ".",
// "#" or "\" after it, and from an "@" that would be the whole path. A name
// cannot be empty, although one in JSON can.
type Path struct {
	steps []step
}

// A step goes one level down.
type step struct {
	any   bool   // "#"
	name  string // unless any
	index int    // the element that name may also stand for, or -1
}

// A SyntaxError says why a path was refused.
type SyntaxError struct {
	Column   int    // of the place, in bytes from 1
	Expected string // what should stand there
}

func (e *SyntaxError) Error() string {
	return fmt.Sprintf("column %d: expected %s", e.Column, e.Expected)
}

// Parse reads a path. The error is a [*SyntaxError].
func Parse(s string) (Path, error) {
	if s == "@" {
		return Path{}, nil
	}
	var p Path
	for i := 0; ; i++ { // over the dot
		if len(p.steps) == maxSteps {
			return Path{}, &SyntaxError{i + 1, fmt.Sprintf("at most %d names", maxSteps)}
		}
		one, n, err := parseStep(s, i)
		if err != nil {
			return Path{}, err
		}
		p.steps = append(p.steps, one)
		if i = n; i == len(s) {
			return p, nil
		}
	}
}

// parseStep reads the step at s[i:] and returns where it ends: at a dot, or at
// the end of s.
func parseStep(s string, i int) (step, int, error) {
	if strings.HasPrefix(s[i:], "#") {
		if i++; i < len(s) && s[i] != '.' {
			return step{}, 0, &SyntaxError{i + 1, `"." after "#", or "\#" for a name that begins with it`}
		}
		return step{any: true, index: -1}, i, nil
	}
	var name strings.Builder
	start := i
	for ; i < len(s) && s[i] != '.'; i++ {
		switch s[i] {
		case '#':
			return step{}, 0, &SyntaxError{i + 1, `"\#", as "#" stands alone between dots`}
		case '\\':
			if i++; i == len(s) || !strings.Contains(`.#\@`, s[i:i+1]) {
				return step{}, 0, &SyntaxError{i + 1, `".", "#", "\" or "@" after "\"`}
			}
		}
		name.WriteByte(s[i])
	}
	if i == start {
		return step{}, 0, &SyntaxError{i + 1, `a name, a number or "#"`}
	}
	return step{name: name.String(), index: parseIndex(name.String())}, i, nil
}

// parseIndex returns the element that a name stands for in an array, or -1.
func parseIndex(name string) int {
	if n, err := strconv.Atoi(name); err == nil && n >= 0 && strconv.Itoa(n) == name {
		return n
	}
	return -1
}

var escapeName = strings.NewReplacer(`.`, `\.`, `#`, `\#`, `\`, `\\`)

// String returns the path as Parse reads it.
func (p Path) String() string {
	switch {
	case len(p.steps) == 0:
		return "@"
	case len(p.steps) == 1 && p.steps[0].name == "@":
		return `\@`
	}
	var b strings.Builder
	for i, s := range p.steps {
		if i > 0 {
			b.WriteByte('.')
		}
		if s.any {
			b.WriteByte('#')
		} else {
			escapeName.WriteString(&b, s.name)
		}
	}
	return b.String()
}
