package policy

import "framegate/frames"

// A Rule is what people and records need to know about a [[rule]].
type Rule struct {
	ID          string
	Description string
	Severity    string // info, low, medium, high or critical, "" if not given
	Tags        []string
	Action      Action
	Shadow      bool        // only recorded, not enforced
	Code        frames.Code // of a rule that closes
	Reason      string      // of a rule that closes
	Scope       string      // in brief; "" if it is everywhere
	Match       string      // in brief what makes a hit; "" if all messages do
}

type rule struct {
	Rule
	at     Error // where it is written
	scope  scope
	match  condition
	except *condition // nil if there is none
	rate   *rate      // nil if there is none
	tests  []ruleTest

	replace *replacement // of a rule that redacts
}

// hits reports whether the rule matches, but for its rate.
func (r *rule) hits(m *matcher, s *subject) bool {
	return r.match.holds(m, s) && (r.except == nil || !r.except.holds(m, s))
}
