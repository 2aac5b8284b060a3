package policy

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
)

// An Error is one mistake in a policy file. Its message says what was found and
// what was expected; text of the file is quoted, with control characters escaped.
type Error struct {
	File         string
	Line, Column int // from 1, in characters; 0 if the file as a whole is meant
	Message      string
}

func (e *Error) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("%s: %s", e.File, e.Message)
	}
	return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, e.Message)
}

// join returns all mistakes as one error, in the order of the files.
func join(list []*Error, files []source) error {
	if len(list) == 0 {
		return nil
	}
	order := map[string]int{}
	for i, f := range files {
		order[f.name] = i
	}
	slices.SortStableFunc(list, func(a, b *Error) int {
		return cmp.Or(
			cmp.Compare(order[a.File], order[b.File]),
			cmp.Compare(a.Line, b.Line),
			cmp.Compare(a.Column, b.Column))
	})
	errs := make([]error, len(list))
	for i, e := range list {
		errs[i] = e
	}
	return errors.Join(errs...)
}
