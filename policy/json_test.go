package policy

import (
	"testing"

	"framegate/frames"
)

// every = true: one value that is not as it is asked is enough.
func TestJSONEvery(t *testing.T) {
	s := mustParse(t, ruleA+`match.json = [{ path = "type", in = ["a", "b"], every = true }, { path = "n.#", gt = 0, every = true }]`+"\n").Scope(Upgrade{})
	for message, want := range map[string]bool{
		`{"type":"a"}`:                      true,
		`{"type":"c"}`:                      false,
		`{"type":"a","type":"b"}`:           true,
		`{"type":"a","type":"c"}`:           false,
		`{"type":"c","type":"a"}`:           false,
		`{"type":"a","t\u0079pe":"c"}`:      false,
		`{"type":["a"]}`:                    false,
		`{}`:                                false,
		`{"n":[]}`:                          false,
		`{"n":[1,2]}`:                       true,
		`{"n":[1,0]}`:                       false,
		`{"n":[1],"n":[0]}`:                 false,
		`{"type":"c","n":[1]}`:              true,
		`{"type":"a"} {"type":"c"}`:         false,
		`{"type":"a","x":{"type":"other"}}`: true,
	} {
		if got := s.Message(frames.ToServer, frames.Text, []byte(message)).Action == Log; got != want {
			t.Errorf("%s: got %v", message, got)
		}
	}
}
