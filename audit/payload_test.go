package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
)

// reader makes somebody who may read: a recipient, and the file of the identity.
func reader(t testing.TB) (recipient, identityFile string) {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "identity")
	if err := os.WriteFile(name, []byte("# created now\n"+id.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return id.Recipient().String(), name
}

func recipientsOf(t testing.TB, list ...string) *Recipients {
	t.Helper()
	rs, err := ParseRecipients(list)
	if err != nil {
		t.Fatal(err)
	}
	return rs
}

func messageOf(conn string, data []byte) Event {
	return Event{Event: WSMessage, Conn: conn, Action: "allow", Msg: &Message{
		Dir: "to-server", Opcode: "text", Size: int64(len(data)), WireSize: int64(len(data)) + 6, Frames: 1, SHA256: sha256.Sum256(data),
	}}
}

var sealedMessages = []string{"", "hello", "\xff\x00not text", strings.Repeat("long ", 100_000)}

// sealedLog makes a log of connections, each with a few sealed messages.
func sealedLog(t testing.TB, recipient string, conns ...string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	l, err := Open(Options{Dir: dir, Logger: quiet(), Recipients: recipientsOf(t, recipient)})
	if err != nil {
		t.Fatal(err)
	}
	for _, conn := range conns {
		k, err := l.PayloadKey(conn)
		if err != nil {
			t.Fatal(err)
		}
		for _, data := range sealedMessages {
			e := messageOf(conn, []byte(data))
			e.Msg.Sealed = k.Seal(nil, e.Msg, []byte(data), time.Now())
			if err := l.Record(e); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

// opened returns what is read of the messages of a connection, or why not.
func opened(t testing.TB, dir, conn string, identities ...string) (texts []string, errs []error) {
	t.Helper()
	p, err := OpenPayloads(dir, identities...)
	if err != nil {
		t.Fatal(err)
	}
	r, err := NewReader(dir, Filter{Conn: conn, Event: WSMessage})
	if err != nil {
		t.Fatal(err)
	}
	for rec, err := range r.Records() {
		if err != nil {
			t.Fatal(err)
		}
		b, err := p.Of(&rec)
		texts, errs = append(texts, string(b)), append(errs, err)
	}
	return texts, errs
}

// What is sealed can be read with the identity, and with nothing else; without
// its key by nobody, and the log verifies all the same, with both verifiers.
func TestSealedAndErased(t *testing.T) {
	recipient, identity := reader(t)
	_, foreign := reader(t)
	dir := sealedLog(t, recipient, "a-1", "a-2")
	expect := func(conn string, want error, identities ...string) {
		t.Helper()
		texts, errs := opened(t, dir, conn, identities...)
		if len(texts) != len(sealedMessages) {
			t.Fatalf("%d messages of %s", len(texts), conn)
		}
		for i, err := range errs {
			if !errors.Is(err, want) || want == nil && (err != nil || texts[i] != sealedMessages[i]) {
				t.Errorf("%s, message %d: %.20q, %v, want %v", conn, i, texts[i], err, want)
			}
		}
	}
	intact := func() {
		t.Helper()
		if r := mustVerify(t, dir, VerifyOptions{}); r.Fault() != "" || r.Intact.Records == 0 {
			t.Errorf("%+v", r)
		}
		if fault, out := pythonFault(t, dir); fault != "" || !strings.Contains(out, "intact: ") {
			t.Errorf("%q\n%s", fault, out)
		}
	}
	for _, conn := range []string{"a-1", "a-2"} {
		expect(conn, nil, identity)
		expect(conn, nil, foreign, identity)
		expect(conn, ErrSealed, foreign)
		expect(conn, ErrSealed)
	}
	intact()

	done, err := Erase(dir, Erasure{Conn: "a-1", By: "user test", Logger: quiet()})
	if err != nil || done.Keys != 1 || done.Spooled != "" {
		t.Fatalf("%+v, %v", done, err)
	}
	expect("a-1", ErrErased, identity)
	expect("a-1", ErrErased)
	expect("a-2", nil, identity)
	intact()
	r := mustRecords(t, dir, Filter{Event: AdminErase})
	if len(r) != 1 || r[0].Conn != "a-1" || r[0].Reason != "payloads erased by user test: the keys of the connection, 1 of them" {
		t.Errorf("%+v", r)
	}

	if done, err := Erase(dir, Erasure{Conn: "a-1", By: "user test", Logger: quiet()}); err != nil || done.Keys != 0 {
		t.Errorf("erased twice: %+v, %v", done, err)
	}
	if done, err := Erase(dir, Erasure{Before: time.Now().Add(-time.Hour), By: "user test", Logger: quiet()}); err != nil || done.Keys != 0 {
		t.Errorf("too young: %+v, %v", done, err)
	}
	if done, err := Erase(dir, Erasure{Before: time.Now().Add(time.Hour), By: "user test", Logger: quiet()}); err != nil || done.Keys != 1 {
		t.Errorf("%+v, %v", done, err)
	}
	expect("a-2", ErrErased, identity)
	intact()
}

func mustRecords(t testing.TB, dir string, f Filter) (list []Record) {
	t.Helper()
	r, err := NewReader(dir, f)
	if err != nil {
		t.Fatal(err)
	}
	for rec, err := range r.Records() {
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, rec)
	}
	return list
}

// While a gateway has the log, an erasure waits in the spool, and its record
// gets into the log; without one too, if the gateway ends before.
func TestEraseWhileOpen(t *testing.T) {
	recipient, identity := reader(t)
	for _, late := range []bool{false, true} {
		dir := sealedLog(t, recipient, "a-1", "a-2")
		l := mustOpen(t, Options{Dir: dir})
		if late {
			l.writer.Load().intake.end() // as if it had looked for the last time
		}
		done, err := Erase(dir, Erasure{Before: time.Now().Add(time.Hour), By: "user test"})
		if err != nil || done.Keys != 2 || done.Spooled == "" {
			t.Fatalf("%+v, %v", done, err)
		}
		if !late {
			l.writer.Load().intake.end() // and its own look is over
			l.writer.Load().intake.take()
		}
		mustClose(t, l)
		if late {
			l = mustOpen(t, Options{Dir: dir})
			l.writer.Load().intake.end() // which comes after one look
			l.writer.Load().attend()
			mustClose(t, l)
		}
		if r := mustRecords(t, dir, Filter{Event: AdminErase}); len(r) != 1 || !strings.HasSuffix(r[0].Reason, ", 2 of them") {
			t.Errorf("late %v: %+v", late, r)
		}
		if _, err := os.Lstat(done.Spooled); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("late %v: the spool still has it: %v", late, err)
		}
		if _, errs := opened(t, dir, "a-2", identity); errs[0] != ErrErased {
			t.Error(errs)
		}
		if r := mustVerify(t, dir, VerifyOptions{}); r.Fault() != "" {
			t.Errorf("%+v", r)
		}
	}
}

// What is in the spool and is no record of an administrator stays out.
func TestSpoolRefuses(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, Options{Dir: dir})
	if err := os.Mkdir(filepath.Join(dir, spoolDir), 0o700); err != nil {
		t.Fatal(err)
	}
	for i, s := range []string{"", "{", `{"event":"audit.gap","time":"2026-01-02T15:04:05Z"}`, `{"event":"admin.x"}`, strings.Repeat(" ", maxSpooled+1)} {
		write(t, []byte(s), dir, spoolDir, fmt.Sprint(i, spoolSuffix))
	}
	if err := os.Symlink("../log-id", filepath.Join(dir, spoolDir, "link"+spoolSuffix)); err != nil {
		t.Fatal(err)
	}
	write(t, []byte(`{"event":"admin.x","time":"2026-01-02T15:04:05Z","reason":"good"}`), dir, spoolDir, "z"+spoolSuffix)
	l.writer.Load().intake.end() // after one look
	l.writer.Load().intake.take()
	mustClose(t, l)
	if r := mustRecords(t, dir, Filter{}); len(r) != 1 || r[0].Reason != "good" {
		t.Errorf("%+v", r)
	}
}

// Every way to be given something else than what was sealed.
func TestSealedTampered(t *testing.T) {
	recipient, identity := reader(t)
	dir := sealedLog(t, recipient, "a-1", "a-2")
	var recs []Record
	for _, r := range mustRecords(t, dir, Filter{Event: WSMessage}) {
		if r.Size == 5 {
			recs = append(recs, r)
		}
	}
	edit := func(r Record, i int, change byte) string {
		b, err := base64.StdEncoding.DecodeString(r.PayloadSealed)
		if err != nil {
			t.Fatal(err)
		}
		b[i] ^= change
		return base64.StdEncoding.EncodeToString(b)
	}
	keyOf := func(conn string) string {
		paths, err := findKeys(dir, conn)
		if err != nil || len(paths) != 1 {
			t.Fatal(paths, err)
		}
		return paths[0]
	}
	good, other := recs[0], recs[1]
	for _, tt := range []struct {
		name string
		do   func(r *Record)
		want string
	}{
		{"nonce", func(r *Record) { r.PayloadSealed = edit(good, 11, 1) }, "altered"},
		{"ciphertext", func(r *Record) { r.PayloadSealed = edit(good, 12, 0x80) }, "altered"},
		{"tag", func(r *Record) { r.PayloadSealed = edit(good, 12+5+15, 1) }, "altered"},
		{"cut", func(r *Record) { r.PayloadSealed = base64.StdEncoding.EncodeToString(make([]byte, 27)) }, "cut short"},
		{"no base64", func(r *Record) { r.PayloadSealed = "*" }, "payload_sealed"},
		{"payload of another connection", func(r *Record) { r.PayloadSealed = other.PayloadSealed }, "altered"},
		{"direction", func(r *Record) { r.Dir = "to-client" }, "altered"},
		{"opcode", func(r *Record) { r.Opcode = "binary" }, "altered"},
		{"digest", func(r *Record) { r.SHA256 = strings.Repeat("0", 64) }, "altered"},
		{"no digest", func(r *Record) { r.SHA256 = "" }, "no SHA-256"},
		{"connection", func(r *Record) { r.Conn = "a-2" }, "altered"},
		{"a path for a connection", func(r *Record) { r.Conn = "../../key" }, "not the id"},
		{"key file of another connection", func(*Record) { copyFile(t, keyOf("a-2"), keyOf("a-1")) }, `the key of connection "a-2", not of "a-1"`},
		{"key file that is none", func(*Record) { os.WriteFile(keyOf("a-1"), []byte("age"), 0o600) }, "a-1: "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := good
			tt.do(&r)
			p, err := OpenPayloads(dir, identity)
			if err != nil {
				t.Fatal(err)
			}
			b, err := p.Of(&r)
			if b != nil || err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%q, %v, want %s", b, err, tt.want)
			}
		})
	}
}

func copyFile(t testing.TB, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A key is on the disk, whole and for the owner only, before anything is sealed
// with it; where the making of it ends early, there is none.
func TestKeyAtEveryStep(t *testing.T) {
	recipient, identity := reader(t)
	stop := errors.New("stop")
	for fail := 0; ; fail++ {
		dir := t.TempDir()
		steps := 0
		l := mustOpen(t, Options{Dir: dir, Recipients: recipientsOf(t, recipient), OnFailure: "gap"})
		l.keys.Load().step = func(string, string) error {
			if steps++; steps == fail {
				return stop
			}
			return nil
		}
		k, err := l.PayloadKey("a-1")
		if err != nil {
			t.Fatal(err)
		}
		e := messageOf("a-1", []byte("hello"))
		if k != nil {
			e.Msg.Sealed = k.Seal(nil, e.Msg, []byte("hello"), time.Now())
		} else {
			e.Msg.Omitted = OmittedKey
		}
		if err := l.Record(e); err != nil {
			t.Fatal(err)
		}
		mustClose(t, l)
		gaps := mustRecords(t, dir, Filter{Event: AuditGap})
		texts, errs := opened(t, dir, "a-1", identity)
		if k == nil {
			if len(gaps) != 1 || !strings.Contains(gaps[0].Reason, "payload key of connection a-1 cannot be stored: stop") || errs[0] != ErrNoPayload {
				t.Errorf("step %d: %+v %v", fail, gaps, errs)
			}
			if r := mustVerify(t, dir, VerifyOptions{}); r.Fault() != "" || len(r.Losses) != 1 {
				t.Errorf("step %d: %+v", fail, r)
			}
			continue
		}
		if len(gaps) != 0 || errs[0] != nil || texts[0] != "hello" {
			t.Errorf("step %d: %v %v", fail, texts, errs)
		}
		paths, err := findKeys(dir, "a-1")
		if err != nil || len(paths) != 1 {
			t.Fatal(paths, err)
		}
		path := paths[0]
		if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
			t.Errorf("%v, %v", info.Mode(), err)
		}
		if b, _ := os.ReadFile(path); !bytes.HasPrefix(b, []byte("age-encryption.org/v1\n")) {
			t.Errorf("%q", b)
		}
		if fail == 0 {
			continue
		}
		if fail < 4 {
			t.Errorf("only %d steps", fail)
		}
		return
	}
}

// A WebSocket that lives for days has a key for each, so that those of a day can
// be removed with its records. While none can be stored the old one serves.
func TestKeyOfTheDay(t *testing.T) {
	recipient, identity := reader(t)
	dir := t.TempDir()
	l := mustOpen(t, Options{Dir: dir, Recipients: recipientsOf(t, recipient)})
	k, err := l.PayloadKey("a-1")
	if err != nil {
		t.Fatal(err)
	}
	today := time.Now()
	failing := false
	l.keys.Load().step = func(string, string) error {
		if failing {
			return errors.New("full")
		}
		return nil
	}
	for _, m := range []struct {
		at      time.Time
		failing bool
		keys    int // there after it
	}{
		{today, false, 1},
		{today.AddDate(0, 0, 1), true, 1},                             // under the key of today
		{today.AddDate(0, 0, 1).Add(59 * time.Second), false, 1},      // likewise: not tried yet
		{today.AddDate(0, 0, 1).Add(61 * time.Second), false, 2},      //
		{today, false, 2},                                             // the clock was set back
		{today.AddDate(0, 0, 8).Add(10 * time.Millisecond), false, 3}, // a silent week
	} {
		failing = m.failing
		e := messageOf("a-1", []byte(m.at.String()))
		e.Time = m.at
		e.Msg.Sealed = k.Seal(nil, e.Msg, []byte(m.at.String()), m.at)
		if err := l.Record(e); err != nil {
			t.Fatal(err)
		}
		if paths, err := findKeys(dir, "a-1"); err != nil || len(paths) != m.keys {
			t.Errorf("%s: keys %q, %v", m.at, paths, err)
		}
	}
	mustClose(t, l)
	texts, errs := opened(t, dir, "a-1", identity)
	for i := range texts {
		if errs[i] != nil {
			t.Errorf("message %d: %v", i, errs[i])
		}
	}
	if err := removeKeys(dir, today.AddDate(0, 0, 1)); err != nil {
		t.Fatal(err)
	}
	_, errs = opened(t, dir, "a-1", identity)
	if want := []error{ErrErased, ErrErased, ErrErased, nil, nil, nil}; !slices.Equal(errs, want) {
		t.Errorf("without the key of the first day: %v", errs)
	}
}

// With on_failure "block" a key that cannot be stored is an error.
func TestKeyBlocks(t *testing.T) {
	recipient, _ := reader(t)
	dir := t.TempDir()
	l := mustOpen(t, Options{Dir: dir, Recipients: recipientsOf(t, recipient)})
	defer mustClose(t, l)
	write(t, []byte("in the way"), dir, keysDir)
	if k, err := l.PayloadKey("a-1"); k != nil || !errors.Is(err, ErrUnwritable) {
		t.Errorf("%v, %v", k, err)
	}
}

func TestParseRecipients(t *testing.T) {
	recipient, identity := reader(t)
	list := filepath.Join(t.TempDir(), "list")
	write(t, []byte("# two\n"+recipient+"\n\n"+recipient+"\n"), list)
	hybrid, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		list []string
		want string // "": good
	}{
		{[]string{recipient}, ""},
		{[]string{recipient, list}, ""},
		{[]string{hybrid.Recipient().String()}, ""},
		{nil, "no recipient"},
		{[]string{recipient[:20]}, "is not an age recipient"},
		{[]string{identity}, "unknown recipient type"},
		{[]string{list + "x"}, "no such file"},
		{[]string{recipient, hybrid.Recipient().String()}, "do not go together"},
	} {
		_, err := ParseRecipients(tt.list)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v: %v, want %q", tt.list, err, tt.want)
		}
		if err != nil && strings.Contains(err.Error(), "AGE-SECRET") {
			t.Errorf("a secret in %v", err)
		}
	}
}

// Two directions seal at the same time; no nonce comes twice.
func TestNonces(t *testing.T) {
	k := &PayloadKey{conn: "a-1", log: new(Log)}
	k.current.Store(newDataKey(make([]byte, dataKeySize), 1))
	m := messageOf("a-1", nil).Msg
	nonces := make(chan [nonceSize]byte)
	for range 2 {
		go func() {
			for range 1000 {
				nonces <- [nonceSize]byte(k.Seal(nil, m, nil, time.Unix(0, 0)))
			}
		}()
	}
	seen := map[[nonceSize]byte]bool{}
	for range 2000 {
		n := <-nonces
		if seen[n] {
			t.Fatalf("%x comes twice", n)
		}
		seen[n] = true
	}
}

func FuzzSealed(f *testing.F) {
	key := newDataKey(bytes.Repeat([]byte{9}, dataKeySize), 1)
	k := &PayloadKey{conn: "a-1", log: new(Log)}
	k.current.Store(key)
	e := messageOf("a-1", []byte("hello"))
	good := k.Seal(nil, e.Msg, []byte("hello"), time.Unix(0, 0))
	bound := appendBinding(nil, "a-1", e.Msg.Dir, e.Msg.Opcode, e.Msg.SHA256[:])
	f.Add(good, keyText("a-1", make([]byte, dataKeySize)))
	f.Add(good[:nonceSize+tagSize], []byte(keyFileMagic+"\na-1\n\n"))
	f.Add([]byte{}, []byte{})
	f.Fuzz(func(t *testing.T, sealed, text []byte) {
		if len(sealed) < nonceSize+tagSize {
			return // which unseal has seen to
		}
		if data, err := openSealed(key.aead, sealed, bound, e.Msg.SHA256[:]); err == nil && (!bytes.Equal(sealed, good) || string(data) != "hello") {
			t.Errorf("%x opens to %q", sealed, data)
		}
		if secret, err := parseKeyText(text, "a-1"); err == nil && !bytes.Equal(keyText("a-1", secret), text) {
			t.Errorf("%q is taken for a key", text)
		}
	})
}
