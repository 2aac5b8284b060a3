package policy

import (
	"encoding/json"
	"math"
	"regexp"

	"framegate/policy/jsonpath"
)

// A jsonTest is one value of a json condition: what is asked of the values at a
// path. One value for which all of it holds is enough.
type jsonTest struct {
	path   jsonpath.Path
	absent bool             // exists = false: there must be no value, and nothing else is asked
	every  bool             // one value for which it does not hold is enough for the test not to hold
	equals []jsonpath.Value // any
	re     *regexp.Regexp
	gt, lt *float64
	text   string // for people
}

func (t *jsonTest) holds(v jsonpath.Value) bool {
	if t.equals != nil && !t.equal(v) {
		return false
	}
	if t.re != nil {
		var room [256]byte
		if !t.re.Match(v.Text(room[:0])) {
			return false
		}
	}
	if t.gt == nil && t.lt == nil {
		return true
	}
	n, ok := v.Number()
	return ok && (t.gt == nil || n > *t.gt) && (t.lt == nil || n < *t.lt)
}

func (t *jsonTest) equal(v jsonpath.Value) bool {
	for _, w := range t.equals {
		if v.Equal(w) {
			return true
		}
	}
	return false
}

// jsonValue makes JSON of a value of a policy file.
func jsonValue(v any) (jsonpath.Value, bool) {
	kind := jsonpath.Number
	switch n := v.(type) {
	case string:
		kind = jsonpath.String
	case bool:
		kind = jsonpath.Bool
	case int64:
	case float64:
		if math.IsNaN(n) || math.IsInf(n, 0) {
			return jsonpath.Value{}, false
		}
	default:
		return jsonpath.Value{}, false
	}
	raw, err := json.Marshal(v)
	return jsonpath.Value{Kind: kind, Raw: raw}, err == nil
}

// jsonTests are all tests of a policy, to be made in one pass over a message.
type jsonTests struct {
	tests []jsonTest
	set   *jsonpath.Set
}

// compile is called once all tests are there.
func (j *jsonTests) compile() {
	paths := make([]jsonpath.Path, len(j.tests))
	for i := range j.tests {
		paths[i] = j.tests[i].path
	}
	j.set = jsonpath.NewSet(paths)
}

// newHeld returns the set that run works with: the tests that hold, and behind
// them those with a value for which they do not.
func (j *jsonTests) newHeld() bitset { return newBitset(2 * len(j.tests)) }

// run sets in held the tests that hold for data. It reports whether data is JSON.
func (j *jsonTests) run(data []byte, held bitset) bool {
	n := len(j.tests)
	clear(held)
	for i := range j.tests {
		if j.tests[i].absent {
			held.set(i)
		}
	}
	valid := j.set.Walk(data, func(i int, v jsonpath.Value) bool {
		t := &j.tests[i]
		switch {
		case t.absent:
			held.unset(i)
		case !t.every && held.has(i):
		case t.holds(v):
			held.set(i)
		case t.every:
			held.set(n + i)
		}
		return true
	})
	for i := range j.tests {
		if held.has(n + i) {
			held.unset(i)
		}
	}
	if !valid {
		clear(held)
	}
	return valid
}

// looksJSON reports whether data begins as JSON with strings in it does. What
// does not may be sent without escapes.
func looksJSON(data []byte) bool {
	for _, c := range data {
		switch c {
		case ' ', '\t', '\r', '\n', 0xef, 0xbb, 0xbf: // and a byte order mark
		case '{', '[', '"':
			return true
		default:
			return false
		}
	}
	return false
}
