package audit

import (
	"bytes"
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const verifyPy = "../examples/verify/verify.py"

// pythonFault runs the independent verifier and returns its fault.
func pythonFault(t *testing.T, args ...string) (Fault, string) {
	t.Helper()
	out, err := exec.Command("python3", append([]string{verifyPy}, args...)...).CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	code := 0
	if exit != nil {
		code = exit.ExitCode()
	}
	faults := map[int]Fault{0: "", 10: Altered, 11: Truncated, 12: Missing, 13: Unsigned}
	f, ok := faults[code]
	if !ok {
		t.Fatalf("%v: exit %d\n%s", args, code, out)
	}
	return f, string(out)
}

// Two verifiers that share no code say the same of the same logs.
func TestPythonVerifier(t *testing.T) {
	t.Parallel()
	sound := smallLog(t, 7)
	key := filepath.Join(sound, pubKeyFile)
	agree := func(t *testing.T, dir string, old []byte, want Fault) {
		t.Helper()
		args, o := []string{dir}, VerifyOptions{}
		if old != nil {
			name := filepath.Join(t.TempDir(), "old")
			write(t, old, name)
			args, o.Old = append(args, "--checkpoint", name), [][]byte{old}
		}
		r := mustVerify(t, dir, o)
		got, out := pythonFault(t, args...)
		if got != want || r.Fault() != want {
			t.Errorf("Python says %q, Go %q, want %q\n%s\n%+v", got, r.Fault(), want, out, r)
		}
		if got == "" && !strings.Contains(out, "intact: ") {
			t.Errorf("%s", out)
		}
	}
	agree(t, sound, read(t, sound, historyFile), "")
	for _, tt := range mutations {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := copyLog(t, sound)
			tt.do(t, dir)
			agree(t, dir, nil, tt.fault)
		})
	}
	t.Run("fork", func(t *testing.T) {
		a, b := copyLog(t, sound), copyLog(t, sound)
		growLog(t, a, 1)
		l := mustOpen(t, Options{Dir: b})
		if err := l.Record(Event{Event: WSOpen}); err != nil {
			t.Fatal(err)
		}
		mustClose(t, l)
		agree(t, a, read(t, b, checkpointFile), Altered)
		agree(t, sound, read(t, b, checkpointFile), Truncated)
	})
	t.Run("older than the tree", func(t *testing.T) {
		dir := oldLog(t)
		agree(t, dir, nil, Unsigned)
		growLog(t, dir, 1)
		agree(t, dir, nil, "")
	})
	t.Run("covered blocks gone", func(t *testing.T) {
		dir := copyLog(t, sound)
		remove(t, segmentPaths(t, dir)[3])
		growLog(t, dir, 1)
		agree(t, dir, nil, Missing)
	})
	t.Run("wrong key", func(t *testing.T) {
		if got, out := pythonFault(t, sound, "--key", filepath.Join(smallLog(t, 1), pubKeyFile)); got != Unsigned {
			t.Errorf("%q\n%s", got, out)
		}
	})
	t.Run("bytes", func(t *testing.T) {
		dir := copyLog(t, sound)
		for _, path := range append(segmentPaths(t, dir)[2:], filepath.Join(dir, tilePath(0, 0, 7)), filepath.Join(dir, checkpointFile)) {
			b := read(t, path)
			for i := 0; i < len(b); i += 1 + len(b)/7 {
				changed := bytes.Clone(b)
				changed[i] ^= 4
				write(t, changed, path)
				want := Altered
				if filepath.Base(path) == checkpointFile {
					want = Unsigned
				}
				agree(t, dir, nil, want)
			}
			write(t, b, path)
		}
	})
	t.Run("proof", func(t *testing.T) {
		for _, seq := range []uint64{1, 11, 21} {
			p, err := Prove(sound, seq)
			if err != nil {
				t.Fatal(err)
			}
			name := filepath.Join(t.TempDir(), "proof")
			write(t, p.Text(), name)
			if got, out := pythonFault(t, "--proof", name, "--key", key); got != "" || out != string(p.Record)+"\n" {
				t.Errorf("%q\n%s", got, out)
			}
			write(t, bytes.Replace(p.Text(), []byte(`"event":"`), []byte(`"event":"x`), 1), name)
			if got, out := pythonFault(t, "--proof", name, "--key", key); got != Altered {
				t.Errorf("%q\n%s", got, out)
			}
		}
	})
}

// A tree of more than one tile, and a gateway that was killed.
func TestPythonVerifierTiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := mustOpen(t, Options{Dir: dir})
	for range 257 {
		if err := l.Record(Event{Event: ConnOpen, Reason: strings.Repeat("x", maxRaw)}); err != nil {
			t.Fatal(err)
		}
	}
	mustClose(t, l)
	write(t, nil, dir, openFile)
	path := segmentPaths(t, dir)[0]
	b := read(t, path)
	write(t, append(b, b[:100]...), path)
	if r := mustVerify(t, dir, VerifyOptions{}); r.Verdict != "intact" || len(r.Notes) != 2 {
		t.Errorf("%+v", r)
	}
	if got, out := pythonFault(t, dir); got != "" || !strings.Contains(out, "intact: 257 blocks") || !strings.Contains(out, "was when the gateway was killed") {
		t.Errorf("%q\n%s", got, out)
	}
	tile := tilePath(1, 0, 1)
	hash := read(t, dir, tile)
	hash[0] ^= 1
	write(t, hash, dir, tile)
	if got, out := pythonFault(t, dir); got != Altered || !strings.Contains(out, "altered: "+tile) {
		t.Errorf("%q\n%s", got, out)
	}
}
