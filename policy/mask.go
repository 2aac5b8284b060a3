package policy

import (
	"bytes"
	"slices"
)

// Mask returns data, a message that v is the verdict on, without what the rules
// of v found in it, in a slice of its own: each that does more than allow,
// whatever its action and its mode, replaces what it found as a redact rule
// would. If no such rule matched, it returns data itself.
//
// It reports false if that cannot be done, since a rule matched by something
// that is no place in the message, such as its size, its opcode, its rate or a
// key of JSON that is absent, or by nothing that can be replaced, such as a true.
func (s *Scope) Mask(data []byte, v *Verdict) (masked []byte, ok bool) {
	m := s.policy.matcher
	var all []span
	hits := 0
	for _, r := range m.rules {
		ids := v.Rules
		if r.Shadow {
			ids = v.Shadow
		}
		if r.Action == Allow || !slices.Contains(ids, r.ID) {
			continue
		}
		found := m.find(nil, r, data)
		all = append(all, found...)
		if masked = replaceAll(data, found); bytes.Equal(masked, data) {
			return nil, false
		}
		hits++
	}
	switch hits {
	case 0:
		return data, true
	case 1:
		return masked, true
	}
	return replaceAll(data, all), true
}
