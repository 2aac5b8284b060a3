package policy

import "framegate/frames"

// An Action is what becomes of a message, from the mildest to the strictest.
type Action uint8

// The actions, in the order in which they prevail.
const (
	Allow  Action = iota
	Log           // forwarded, and recorded as a hit
	Redact        // forwarded with the match replaced, see [Verdict.Redact]
	Drop          // not forwarded
	Close         // not forwarded, and the connection ends
)

var actionNames = [...]string{"allow", "log", "redact", "drop", "close"}

// String returns the word that rules use.
func (a Action) String() string {
	if int(a) < len(actionNames) {
		return actionNames[a]
	}
	return "unknown"
}

// parseAction is for words that have been checked already.
func parseAction(word string) Action {
	for i, name := range actionNames {
		if name == word {
			return Action(i)
		}
	}
	return Allow
}

// A Verdict is what the rules say about one message.
type Verdict struct {
	Action Action
	// Rules are the ids of the enforced rules that matched, in the order of the
	// files. If it is empty, then Action is the default of the policy.
	Rules []string
	// Shadow are the ids of the rules in shadow mode that matched. They have no
	// part in Action.
	Shadow []string
	// Code and Reason are for the sender of the message, those of the first
	// matching rule that closes. Zero unless Action is Close.
	Code   frames.Code
	Reason string

	redact  []*rule // those of Rules that redact
	matcher *matcher
}

// What a closed sender is told if the rule does not say. 1008 "indicates that
// an endpoint is terminating the connection because it has received a message
// that violates its policy" (RFC 6455, Section 7.4.1).
const (
	defaultCode   = frames.PolicyViolation
	defaultReason = "policy violation"
)

// A tally is a verdict in the making.
type tally struct {
	v        Verdict
	enforced bool
}

// hit counts a rule that matches. They come in the order of the files.
func (t *tally) hit(r *rule) {
	v := &t.v
	if r.Shadow {
		v.Shadow = append(v.Shadow, r.ID)
		return
	}
	v.Rules = append(v.Rules, r.ID)
	if r.Action == Redact {
		v.redact = append(v.redact, r)
	}
	if !t.enforced || r.Action > v.Action {
		v.Action, v.Code, v.Reason = r.Action, r.Code, r.Reason
	}
	t.enforced = true
}

// verdict is the one on a message that no further rule matches.
func (t *tally) verdict(p *Policy, op frames.Opcode) Verdict {
	if t.v.redact != nil {
		t.v.matcher = p.matcher
	}
	if !t.enforced && !op.IsControl() && p.def != Allow {
		t.v.Action = p.def
		if p.def == Close {
			t.v.Code, t.v.Reason = defaultCode, defaultReason
		}
	}
	return t.v
}

// closing is the verdict on a message of which a part has left.
func (t *tally) closing() Verdict {
	v := t.v
	if v.Action != Close {
		v.Action, v.Code, v.Reason = Close, defaultCode, defaultReason
	}
	v.redact, v.matcher = nil, nil
	return v
}
