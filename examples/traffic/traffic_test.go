package traffic

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"

	"framegate/frames"
)

// violations are sets whose peers broke the protocol.
var violations = []string{"zeek-oversized-close-frame"}

// Every set comes out of a frames.Reader as it went in.
func TestSetsSurviveTheWire(t *testing.T) {
	if len(Sets()) == 0 {
		t.Fatal("no sets")
	}
	for _, set := range Sets() {
		messages, err := Load(set)
		if err != nil {
			t.Error(err)
			continue
		}
		if err := roundTrip(messages); slices.Contains(violations, set) != (err != nil) {
			t.Errorf("%s: %v", set, err)
		}
	}
}

func roundTrip(messages []Message) error {
	for _, dir := range []frames.Direction{frames.ToServer, frames.ToClient} {
		r := frames.NewReader(dir, 1<<20)
		for _, want := range messages {
			if want.Direction != dir {
				continue
			}
			var mask func() [4]byte
			if dir == frames.ToServer {
				mask = func() [4]byte { return [4]byte{1, 2, 3, 4} }
			}
			wire := want.Append(nil, mask)
			var got frames.Message
			for len(wire) > 0 {
				m, n, err := r.Next(wire)
				if err != nil {
					return err
				}
				if n == 0 {
					return errors.New("incomplete")
				}
				got, wire = m, wire[n:]
			}
			if got.Opcode != want.Opcode || !bytes.Equal(got.Data, want.Payload) || got.Frames != max(len(want.Fragments), 1) {
				return errors.New("differs")
			}
		}
	}
	return nil
}

// The README tells of every file where it comes from.
func TestSetsHaveAnOrigin(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, set := range Sets() {
		if !strings.Contains(string(readme), "| `"+set+".jsonl` |") {
			t.Errorf("README.md has no row for %s", set)
		}
	}
}

func TestRead(t *testing.T) {
	const good = `{"dir":"c2s","opcode":"text","payload":"a","t":null}` + "\n"
	for _, test := range []struct{ name, in, want string }{
		{"unknown direction", `{"dir":"up","opcode":"text"}`, `line 1: dir "up" is neither c2s nor s2c`},
		{"unknown opcode", good + `{"dir":"s2c","opcode":"pang"}`, `line 2: unknown opcode "pang"`},
		{"not JSON", good + good + `nonsense`, `line 3: invalid character`},
		{"bad base64", `{"dir":"s2c","opcode":"binary","payload_b64":"*"}`, `line 1: illegal base64`},
		{"fragments", `{"dir":"s2c","opcode":"text","payload":"abc","frames":[1,1]}`, `line 1: fragments of 2 bytes make a payload of 3`},
		{"negative fragment", `{"dir":"s2c","opcode":"text","payload":"abc","frames":[4,-1]}`, `line 1: fragment of -1 bytes`},
		{"code out of range", `{"dir":"s2c","opcode":"close","code":70000}`, `line 1: json: cannot unmarshal number`},
		{"good", good, ""},
		{"empty", "", ""},
	} {
		_, err := Read(strings.NewReader(test.in))
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.HasPrefix(err.Error(), test.want)) {
			t.Errorf("%s: got %v, want %s", test.name, err, test.want)
		}
	}
	if _, err := Load("none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("unknown set: %v", err)
	}
}

func TestCloseCarriesItsCode(t *testing.T) {
	messages, err := Read(strings.NewReader(`{"dir":"c2s","opcode":"close","code":1000,"payload":"bye","t":1.5}`))
	if err != nil {
		t.Fatal(err)
	}
	code, reason, err := frames.ParseClose(messages[0].Payload)
	if code != frames.NormalClosure || reason != "bye" || err != nil || messages[0].Time.Seconds() != 1.5 {
		t.Errorf("got %d %q (%v) after %v", code, reason, err, messages[0].Time)
	}
}
