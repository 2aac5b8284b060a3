package endtoend

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"framegate/audit"
)

// A ledger is the records of one connection.
type ledger []record

// all returns the records of an event.
func (l ledger) all(event string) ledger {
	var found ledger
	for _, r := range l {
		if r.Event == event {
			found = append(found, r)
		}
	}
	return found
}

// one returns the only record of an event.
func (l ledger) one(t *testing.T, event string) record {
	t.Helper()
	found := l.all(event)
	if len(found) != 1 {
		t.Fatalf("%d records of %s, expected one:\n%s", len(found), event, lines(l))
	}
	return found[0]
}

// ended checks how the connection ended.
func (l ledger) ended(t *testing.T, state string, rules ...string) record {
	t.Helper()
	r := l.one(t, audit.ConnClose)
	if r.State != state || strings.Join(r.Rules, " ") != strings.Join(rules, " ") {
		t.Errorf("ended as %s by %q, expected %s by %q:\n%s", r.State, r.Rules, state, rules, lines(l))
	}
	return r
}

// messages returns the data messages of one direction.
func (l ledger) messages(dir string) ledger {
	var found ledger
	for _, r := range l.all(audit.WSMessage) {
		if r.Dir == dir {
			found = append(found, r)
		}
	}
	return found
}

// check checks what holds for each closed connection: it is opened and closed
// once, each record says whose and by which policy, and the totals agree with
// the messages.
func (l ledger) check(t *testing.T) {
	t.Helper()
	open, end := l.one(t, audit.ConnOpen), l.one(t, audit.ConnClose)
	if l[0].Seq != open.Seq || l[len(l)-1].Seq != end.Seq {
		t.Errorf("records outside of open and close:\n%s", lines(l))
	}
	for _, r := range l {
		if r.Client != open.Client || r.Policy == "" || r.Server == "" {
			t.Errorf("client, server or policy: %s", r)
		}
	}
	if len(l.all(audit.WSOpen)) == 0 {
		return
	}
	for dir, got := range map[string]tally{"to-server": end.Totals.ToServer, "to-client": end.Totals.ToClient} {
		if want := l.messages(dir).total(t); got != want {
			t.Errorf("totals %s: %+v, the messages make %+v:\n%s", dir, got, want, lines(l))
		}
	}
}

// total adds messages up as the log's format says.
func (l ledger) total(t *testing.T) tally {
	t.Helper()
	var sum tally
	var rolling [sha256.Size]byte
	for _, r := range l {
		digest, err := hex.DecodeString(r.SHA256)
		if err != nil || len(digest) != sha256.Size {
			t.Errorf("digest: %s", r)
		}
		sum.Messages++
		sum.Bytes += r.Size
		rolling = sha256.Sum256(append(rolling[:], digest...))
	}
	if sum.Messages > 0 {
		sum.SHA256 = hex.EncodeToString(rolling[:])
	}
	return sum
}

func lines(l ledger) string {
	var b strings.Builder
	for _, r := range l {
		fmt.Fprintln(&b, r)
	}
	return b.String()
}
