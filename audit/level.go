package audit

import "fmt"

// A Level says which events are recorded. Each level has all of the one before.
// The zero value is the default, Messages.
type Level uint8

const (
	Connections Level = iota + 1 // everything but single messages, frames and violations
	Violations                   // and violations, and messages and frames that a rule matched or that did not pass
	Messages                     // and every message
	Frames                       // and every control frame
)

var levels = [...]string{Connections: "connections", Violations: "violations", Messages: "messages", Frames: "frames"}

// ParseLevel parses the name of a level as it is in the configuration.
func ParseLevel(s string) (Level, error) {
	for l := Connections; l <= Frames; l++ {
		if levels[l] == s {
			return l, nil
		}
	}
	return 0, fmt.Errorf("unknown audit level %q: expected connections, violations, messages or frames", s)
}

func (l Level) String() string {
	switch {
	case l == 0:
		return levels[Messages]
	case int(l) < len(levels):
		return levels[l]
	}
	return fmt.Sprintf("Level(%d)", uint8(l))
}

// Wants says whether e is recorded at this level. An event that is not about a
// single message, frame or violation always is, known name or not.
func (l Level) Wants(e *Event) bool {
	if l == 0 {
		l = Messages
	}
	switch e.Event {
	case WSViolation:
		return l >= Violations
	case WSMessage:
		return l >= Messages || l >= Violations && e.notable()
	case WSControl:
		return l >= Frames || l >= Violations && e.notable()
	}
	return true
}

// notable: a rule matched, or the default of the policy did not let it pass.
func (e *Event) notable() bool {
	return len(e.Rules) > 0 || len(e.Shadow) > 0 || e.Action != "" && e.Action != "allow"
}
