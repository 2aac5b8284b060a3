package ship

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"framegate/audit"
)

// The file gets each checkpoint of the history, and the log verifies against it.
func TestCheckpointFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "worm", "checkpoints")
	f := start(t, Config{Checkpoints: []Target{checkpoint(t, "file://"+file)}})
	f.wait("word of the missing directory", func() bool { return strings.Contains(f.console.String(), "no such file or directory") })
	for range 3 {
		f.record(events(1)...)
		f.record(audit.Event{Event: audit.PolicyLoad, Policy: "p"}) // has one kept
		time.Sleep(30 * time.Millisecond)
	}
	check(t, os.Mkdir(filepath.Dir(file), 0o700))
	f.stop(20 * time.Second)
	text := readFile(t, file)
	history := readFile(t, filepath.Join(f.dir, "checkpoints"))
	for c := range strings.SplitSeq(strings.TrimSuffix(history, "\n\n"), "\n\nframegate/") {
		if _, rest, _ := strings.Cut(c, "\n"); !strings.Contains(text, rest) {
			t.Errorf("not in the file: %s", c)
		}
	}
	if !strings.HasSuffix(text, readFile(t, filepath.Join(f.dir, "checkpoint"))+"\n") {
		t.Error("the last checkpoint is not the last in the file")
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if n := strings.Count(f.console.String(), "do not reach"); n != 1 || !strings.Contains(f.console.String(), "reach the target again") {
		t.Errorf("told %d times:\n%s", n, f.console)
	}
	if r := f.verify(audit.VerifyOptions{Old: [][]byte{[]byte(text)}}); r.Compared < 8 {
		t.Errorf("compared with %d checkpoints", r.Compared)
	}

	// A crash in the middle of one, anywhere: the next start cuts it off.
	for _, cut := range []int{1, 5, 20, 60, 120, 180, len(history)} {
		torn := text + history[:min(cut, strings.Index(history, "\n\nframegate/"))]
		check(t, os.WriteFile(file, []byte(torn), 0o600))
		if _, err := filePusher(file).push(t.Context(), [][]byte{[]byte(readFile(t, filepath.Join(f.dir, "checkpoint")))}); err != nil {
			t.Fatal(err)
		}
		f.verify(audit.VerifyOptions{Old: [][]byte{[]byte(readFile(t, file))}})
	}
}

// Only a file of checkpoints is added to.
func TestCheckpointFileForeign(t *testing.T) {
	dir := t.TempDir()
	foreign := filepath.Join(dir, "foreign")
	check(t, os.WriteFile(foreign, []byte("root:x:0:0\n"), 0o600))
	for _, path := range []string{foreign, "/dev/full", filepath.Join(foreign, "below")} {
		if _, err := filePusher(path).push(t.Context(), [][]byte{[]byte("x")}); err == nil {
			t.Errorf("%s was written", path)
		}
	}
	if s := readFile(t, foreign); s != "root:x:0:0\n" {
		t.Errorf("it has %q now", s)
	}
}
