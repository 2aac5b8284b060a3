package audit

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// A testWitness cosigns whatever it is given.
type testWitness struct {
	key ed25519.PrivateKey
	id  []byte
	*Witness
}

func newTestWitness(t *testing.T, name string) *testWitness {
	t.Helper()
	seed := sha256.Sum256([]byte(name))
	key := ed25519.NewKeyFromSeed(seed[:])
	data := append([]byte{4}, key.Public().(ed25519.PublicKey)...)
	id := sha256.Sum256(append([]byte(name+"\n"), data...))
	w, err := ParseWitness(fmt.Sprintf("%s+%x+%s", name, id[:4], base64.StdEncoding.EncodeToString(data)))
	if err != nil {
		t.Fatal(err)
	}
	return &testWitness{key, id[:4], w}
}

// vkey is the key as it is given on a command line.
func (w *Witness) vkey() string {
	data := append([]byte{algCosignature}, w.public...)
	return fmt.Sprintf("%s+%08x+%s", w.name, w.hash, base64.StdEncoding.EncodeToString(data))
}

func (w *testWitness) cosign(msg []byte, at int64) []byte {
	text, _, _ := bytes.Cut(msg, []byte("\n\n"))
	sig := binary.BigEndian.AppendUint64(bytes.Clone(w.id), uint64(at))
	sig = append(sig, ed25519.Sign(w.key, fmt.Appendf(nil, "cosignature/v1\ntime %d\n%s\n", at, text))...)
	return fmt.Appendf(bytes.Clone(msg), "— %s %s\n", w.Name(), base64.StdEncoding.EncodeToString(sig))
}

// witnessedLog makes a log of three blocks, and returns its first checkpoint with
// blocks in it and its last.
func witnessedLog(t *testing.T) (dir string, early, last []byte) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "log")
	for range 3 {
		l, err := Open(Options{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Record(Event{Event: ConnOpen}); err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if last = read(t, dir, checkpointFile); early == nil {
			early = last
		}
	}
	return dir, early, last
}

func TestVerifyWitnesses(t *testing.T) {
	dir, early, last := witnessedLog(t)
	a, b := newTestWitness(t, "a.example/x"), newTestWitness(t, "b.example")
	syslog := func(msg []byte) []byte {
		text, _ := json.Marshal(string(msg))
		return fmt.Appendf(nil, "Nov 23 gw framegate: <x> {\"checkpoint\":%s}\nsomething else\n", strings.ReplaceAll(string(text), "—", `\u2014`))
	}
	both := b.cosign(a.cosign(last, 1e9), 2e9)
	bad := a.cosign(last, 1e9)
	bad[len(bad)-10] ^= 1 // within the signature
	moved := append(bytes.Clone(early), bytes.TrimPrefix(a.cosign(last, 1e9), last)...)
	for name, tt := range map[string]struct {
		old       [][]byte
		witnesses []*Witness
		fault     Fault
		want      string // of the report
	}{
		"none asked":        {[][]byte{both}, nil, "", "[]"},
		"one":               {[][]byte{a.cosign(last, 1e9)}, []*Witness{a.Witness}, "", "[a.example/x 3 1000000000]"},
		"both":              {[][]byte{both}, []*Witness{a.Witness, b.Witness}, "", "[a.example/x 3 1000000000][b.example 3 2000000000]"},
		"one each":          {[][]byte{a.cosign(early, 1e9), b.cosign(last, 2e9)}, []*Witness{a.Witness, b.Witness}, "", "[a.example/x 1 1000000000][b.example 3 2000000000]"},
		"a file of them":    {[][]byte{append(append(a.cosign(early, 1), '\n'), append(a.cosign(last, 2), '\n')...)}, []*Witness{a.Witness}, "", "[a.example/x 3 2]"},
		"syslog":            {[][]byte{append(syslog(early), syslog(both)...)}, []*Witness{a.Witness}, "", "[a.example/x 3 1000000000]"},
		"not cosigned":      {[][]byte{last}, []*Witness{a.Witness}, Unsigned, ""},
		"one of two":        {[][]byte{a.cosign(last, 1)}, []*Witness{a.Witness, b.Witness}, Unsigned, "[a.example/x 3 1]"},
		"bad signature":     {[][]byte{bad, both}, []*Witness{a.Witness}, Unsigned, "[a.example/x 3 1000000000]"},
		"of another":        {[][]byte{moved}, []*Witness{a.Witness}, Unsigned, ""},
		"a broken line":     {[][]byte{[]byte("gw framegate: {\"checkpoint\":\"fra\n")}, nil, Unsigned, ""},
		"an empty file":     {[][]byte{{}}, nil, Unsigned, ""},
		"no checkpoints":    {[][]byte{[]byte("Nov 23 gw sshd: hello\n")}, nil, Unsigned, ""},
		"a time after 9999": {[][]byte{a.cosign(last, 1<<40)}, []*Witness{a.Witness}, Unsigned, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := Verify(dir, VerifyOptions{Old: tt.old, Witnesses: tt.witnesses})
			if err != nil || r.Fault() != tt.fault {
				t.Fatalf("%v, %q: %+v", err, r.Fault(), r.Findings)
			}
			args := []string{dir}
			for i, old := range tt.old {
				name := filepath.Join(t.TempDir(), fmt.Sprint(i))
				write(t, old, name)
				args = append(args, "--checkpoint", name)
			}
			for _, w := range tt.witnesses {
				args = append(args, "--witness-key", w.vkey())
			}
			if got, out := pythonFault(t, args...); got != tt.fault {
				t.Errorf("Python says %q: %s", got, out)
			}
			var got strings.Builder
			for _, w := range r.Witnessed {
				fmt.Fprintf(&got, "[%s %d %d]", w.Witness, w.Size, w.Time.Unix())
			}
			if tt.want != "[]" && got.String() != tt.want {
				t.Errorf("witnessed %s, want %s", &got, tt.want)
			}
		})
	}
}

func TestParseWitness(t *testing.T) {
	good := newTestWitness(t, "w.example/1").vkey()
	name, rest, _ := strings.Cut(good, "+")
	digits, data, _ := strings.Cut(rest, "+")
	dir, _, _ := witnessedLog(t)
	log := strings.TrimSpace(string(read(t, dir, pubKeyFile)))
	for _, s := range []string{
		"", "x", good + " ", " " + good, "+" + rest, name + "+" + strings.ToUpper(digits) + "+" + data, name + "+0" + digits + "+" + data,
		"x" + good, name + "+" + digits, name + "+" + digits + "+" + data[:len(data)-1], log,
	} {
		if _, err := ParseWitness(s); err == nil {
			t.Errorf("%q is a key", s)
		}
	}
	if _, err := ParseWitness(log); err == nil || !strings.Contains(err.Error(), "the key of a log") {
		t.Errorf("the key of a log: %v", err)
	}
}

// The name of a witness is no path.
func TestWriteCosigned(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"w.example/x", "../../escape", "..", "a%2fb", "/", "\x1b[2J"} {
		w := newTestWitness(t, name)
		if err := WriteCosigned(dir, w.Witness, []byte(name)); err != nil {
			t.Errorf("%q: %v", name, err)
		}
		if b, err := ReadCosigned(dir, w.Witness); err != nil || string(b) != name {
			t.Errorf("%q: %q, %v", name, b, err)
		}
	}
	entries, err := os.ReadDir(filepath.Join(dir, witnessDir))
	if err != nil || len(entries) != 6 {
		t.Errorf("%v, %v", entries, err)
	}
}

// Every proof from every size is one, and gives no other root.
func TestProveConsistency(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	var all []Checkpoint
	for range 9 {
		l, err := Open(Options{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		l.Record(Event{Event: ConnOpen})
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		c, err := ParseCheckpoint(read(t, dir, checkpointFile))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
	}
	for i, old := range all {
		for _, c := range all[i+1:] {
			proof, err := ProveConsistency(dir, c, old.Size)
			if err != nil {
				t.Fatal(err)
			}
			if err := tlog.CheckTree(proof, int64(c.Size), c.Root, int64(old.Size), old.Root); err != nil {
				t.Errorf("from %d to %d: %v", old.Size, c.Size, err)
			}
		}
	}
	forged := all[8]
	forged.Root[0] ^= 1
	if _, err := ProveConsistency(dir, forged, 5); err == nil {
		t.Error("a proof for another root")
	}
}

// A follower hears of each record once, in order, behind its write, and of the
// current checkpoint first.
type follower struct {
	t           *testing.T
	next        uint64
	records     int
	checkpoints [][]byte
	kept        int
}

func (f *follower) Block(seq uint64, count int, records []byte) {
	if f.next == 0 {
		f.next = seq
	}
	if seq != f.next || bytes.Count(records, []byte("\n")) != count || !bytes.HasPrefix(records, fmt.Appendf(nil, `{"seq":%d,`, seq)) {
		f.t.Errorf("block of seq %d, %d records; expected seq %d", seq, count, f.next)
	}
	f.next += uint64(count)
	f.records += count
}

func (f *follower) Checkpoint(msg []byte, keep bool) {
	f.checkpoints = append(f.checkpoints, msg)
	if keep {
		f.kept++
	}
}

func TestFollower(t *testing.T) {
	dir, _, last := witnessedLog(t)
	f := &follower{t: t}
	l, err := Open(Options{Dir: dir, Follower: f})
	if err != nil {
		t.Fatal(err)
	}
	for range 5000 {
		l.Record(Event{Event: ConnOpen, Time: time.Now()})
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if f.records != 5000 || f.next != 5004 || f.kept < 2 {
		t.Errorf("%d records, up to seq %d, %d checkpoints to keep", f.records, f.next, f.kept)
	}
	if n := len(f.checkpoints); n < 2 || !bytes.Equal(f.checkpoints[0], last) || !bytes.Equal(f.checkpoints[n-1], read(t, dir, checkpointFile)) {
		t.Errorf("%d checkpoints, not from the first to the last", n)
	}
	if l.Origin() != newVerifierOf(t, dir) {
		t.Errorf("origin %q", l.Origin())
	}
}

func newVerifierOf(t *testing.T, dir string) string {
	t.Helper()
	name, _, _ := strings.Cut(string(read(t, dir, pubKeyFile)), "+")
	return name
}
