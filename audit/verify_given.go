package audit

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// syslogCheckpoint is how a checkpoint begins that was sent by syslog.
const syslogCheckpoint = `{"checkpoint":`

// givenCheckpoints takes apart what a caller brings: each a checkpoint, a file
// to which they were appended, or lines of a syslog with checkpoints in them.
func givenCheckpoints(old [][]byte) (msgs [][]byte) {
	for _, b := range old {
		if bytes.Contains(b, []byte(syslogCheckpoint)) {
			msgs = append(msgs, syslogCheckpoints(b)...)
			continue
		}
		notes, rest := splitHistory(b)
		for _, msg := range notes {
			msgs = append(msgs, []byte(msg))
		}
		if rest != "" || len(notes) == 0 {
			msgs = append(msgs, []byte(rest))
		}
	}
	return msgs
}

// syslogCheckpoints returns the checkpoints of the lines that have one. One that
// cannot be read stays as it is, to be told.
func syslogCheckpoints(b []byte) (msgs [][]byte) {
	for line := range bytes.Lines(b) {
		i := bytes.Index(line, []byte(syslogCheckpoint))
		if i < 0 {
			continue
		}
		var sent struct{ Checkpoint string }
		if err := json.NewDecoder(bytes.NewReader(line[i:])).Decode(&sent); err != nil {
			msgs = append(msgs, line)
			continue
		}
		msgs = append(msgs, []byte(sent.Checkpoint))
	}
	return msgs
}

func givenPlace(i int) string { return fmt.Sprintf("given checkpoint %d", i+1) }

// checkWitnesses looks for the cosignatures of the witnesses, each of which must
// have signed one of the checkpoints at least, and none badly.
func (v *verification) checkWitnesses(o VerifyOptions) {
	msgs := givenCheckpoints(o.Old)
	for _, w := range o.Witnesses {
		seen, found := Witnessed{Witness: w.Name()}, false
		for i, msg := range msgs {
			at, err := w.Cosigned(msg)
			if err == errNoCosignature {
				continue
			}
			c, parseErr := ParseCheckpoint(msg)
			switch {
			case err != nil:
				v.find(Unsigned, givenPlace(i), 0, "cosignature of %s: %v", w.Name(), err)
			case parseErr == nil && (!found || c.Size > seen.Size):
				seen.Size, seen.Time, found = c.Size, at, true
			}
		}
		if found {
			v.report.Witnessed = append(v.report.Witnessed, seen)
		} else {
			v.find(Unsigned, "witness "+w.Name(), 0, "no checkpoint that was given bears its cosignature")
		}
	}
}
