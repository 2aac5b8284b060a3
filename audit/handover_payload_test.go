package audit

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// sealedEvent is the record of a message that key has sealed.
func sealedEvent(key *PayloadKey, conn, text string) Event {
	e := messageOf(conn, []byte(text))
	e.Time = time.Now()
	e.Msg.Sealed = key.Seal(nil, e.Msg, []byte(text), e.Time)
	return e
}

// A connection of the old process goes on sealing while the new one has the log.
// Its payloads open, until they are erased: then neither what it has sealed nor
// what it seals afterwards does.
func TestEraseOfForwarded(t *testing.T) {
	recipient, identity := reader(t)
	dir := t.TempDir()
	o := Options{Dir: dir, Recipients: recipientsOf(t, recipient)}
	old := mustOpen(t, o)
	keys := map[string]*PayloadKey{}
	say := func(conn, text string) {
		t.Helper()
		if keys[conn] == nil {
			key, err := old.PayloadKey(conn)
			if err != nil {
				t.Fatal(err)
			}
			keys[conn] = key
		}
		if err := old.Record(sealedEvent(keys[conn], conn, text)); err != nil {
			t.Fatal(err)
		}
	}
	say("a-1", "before")
	say("a-2", "before")
	if err := old.Yield(); err != nil {
		t.Fatal(err)
	}
	young := mustOpen(t, o)
	a, b := socketPair(t)
	accepted := accept(young, b)
	if err := old.Forward(a); err != nil {
		t.Fatal(err)
	}
	say("a-1", "forwarded")
	say("a-3", "of a connection that began meanwhile")
	done, err := Erase(dir, Erasure{Conn: "a-1", By: "user test"})
	if err != nil || done.Keys != 1 || done.Spooled == "" {
		t.Fatalf("%+v, %v", done, err)
	}
	say("a-1", "after")
	say("a-2", "after")
	young.writer.Load().intake.end() // and its own look is over
	young.writer.Load().intake.take()
	if _, err := os.Lstat(done.Spooled); !os.IsNotExist(err) {
		t.Errorf("the new process has not taken the record in: %v", err)
	}
	mustClose(t, old)
	if err := <-accepted; err != nil {
		t.Error(err)
	}
	mustClose(t, young)

	texts, errs := opened(t, dir, "a-1", identity)
	if len(errs) != 3 {
		t.Errorf("%d messages: %q", len(errs), texts)
	}
	for i, err := range errs {
		if err != ErrErased {
			t.Errorf("message %d of the erased connection: %q, %v", i, texts[i], err)
		}
	}
	for conn, n := range map[string]int{"a-2": 2, "a-3": 1} {
		if texts, errs := opened(t, dir, conn, identity); len(errs) != n || errs[0] != nil || errs[n-1] != nil {
			t.Errorf("%s: %q, %v", conn, texts, errs)
		}
	}
	if r := mustRecords(t, dir, Filter{Event: AdminErase}); len(r) != 1 {
		t.Errorf("%d records of the erasure", len(r))
	}
}

// In another directory a connection gets another key with its next message. In the
// same one it keeps its key, and a log without recipients gives no reason for one.
func TestReopenPayloadKeys(t *testing.T) {
	recipient, identity := reader(t)
	other, otherIdentity := reader(t)
	dir, next := t.TempDir(), t.TempDir()
	l := mustOpen(t, Options{Dir: dir, Recipients: recipientsOf(t, recipient)})
	key, err := l.PayloadKey("a-1")
	if err != nil {
		t.Fatal(err)
	}
	say := func(text string) {
		t.Helper()
		if err := l.Record(sealedEvent(key, "a-1", text)); err != nil {
			t.Fatal(err)
		}
	}
	again := func(o Options) {
		t.Helper()
		o.Logger = quiet()
		if err := l.Reopen(o); err != nil {
			t.Fatal(err)
		}
	}
	file := func(dir string) []byte {
		b, _ := os.ReadFile(filepath.Join(dir, keysDir, dayName(dayOf(time.Now())), "a-1"))
		return b
	}
	say("one")
	first := file(dir)
	again(Options{Dir: dir, Recipients: recipientsOf(t, other)})
	say("two")
	again(Options{Dir: dir})
	if _, err := l.PayloadKey("a-2"); err == nil {
		t.Error("a key without recipients")
	}
	say("three")
	if !bytes.Equal(file(dir), first) {
		t.Error("the key was stored again")
	}
	again(Options{Dir: next, Recipients: recipientsOf(t, other)})
	say("four")
	say("five")
	mustClose(t, l)
	for _, tt := range []struct {
		dir, identity string
		n             int
	}{{dir, identity, 3}, {next, otherIdentity, 2}} {
		texts, errs := opened(t, tt.dir, "a-1", tt.identity)
		if len(texts) != tt.n {
			t.Errorf("%d messages: %q", len(texts), texts)
		}
		for i, err := range errs {
			if err != nil {
				t.Errorf("%q: %v", texts[i], err)
			}
		}
	}
}

// While another process has the log, the old one follows a reload that has sent it
// to another directory: what it seals opens there, and there it goes on if that
// process ends.
func TestReopenForwarder(t *testing.T) {
	recipient, identity := reader(t)
	dir, next := t.TempDir(), t.TempDir()
	o := Options{Dir: dir, Level: Connections, OnFailure: "gap", Logger: quiet()}
	old := mustOpen(t, o)
	if err := old.Yield(); err != nil {
		t.Fatal(err)
	}
	young := mustOpen(t, o)
	a, b := socketPair(t)
	accepted := accept(young, b)
	if err := old.Forward(a); err != nil {
		t.Fatal(err)
	}
	if err := old.Record(messageOf("a-1", []byte("not wanted"))); err != nil {
		t.Fatal(err)
	}
	o = Options{Dir: next, Recipients: recipientsOf(t, recipient), Logger: quiet()}
	if err := old.Reopen(o); err == nil {
		t.Error("a directory that no other process has a log in")
	}
	for _, l := range []*Log{young, old} {
		if err := l.Reopen(o); err != nil {
			t.Fatal(err)
		}
	}
	if old.Origin() != young.Origin() {
		t.Errorf("one log is %s, the other %s", old.Origin(), young.Origin())
	}
	key, err := old.PayloadKey("a-1")
	if err != nil {
		t.Fatal(err)
	}
	if err := old.Record(sealedEvent(key, "a-1", "forwarded")); err != nil {
		t.Fatal(err)
	}
	mustClose(t, young)
	if err := <-accepted; !errors.Is(err, ErrClosed) {
		t.Errorf("Accept: %v", err)
	}
	if err := old.Record(sealedEvent(key, "a-1", "taken back")); err != nil {
		t.Fatal(err)
	}
	mustClose(t, old)
	if n := len(mustRecords(t, dir, Filter{})); n > 0 {
		t.Errorf("%d records in the directory before", n)
	}
	texts, errs := opened(t, next, "a-1", identity)
	if len(texts) != 2 || errs[0] != nil || errs[1] != nil || texts[0] != "forwarded" || texts[1] != "taken back" {
		t.Errorf("%q, %v", texts, errs)
	}
	if r := mustVerify(t, next, VerifyOptions{}); r.Verdict != "intact" {
		t.Errorf("%+v", r)
	}
}
