package audit

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// A gateway is killed before each single step of each write, on a new log and on
// one that is about to fill its first tile: the next start brings the tree in
// step, and takes back nothing that was signed.
func TestKillAtEveryStep(t *testing.T) {
	for _, blocks := range []int{0, 253} {
		t.Run(fmt.Sprintf("%d blocks", blocks), func(t *testing.T) {
			t.Parallel()
			base := t.TempDir()
			if blocks > 0 {
				l := mustOpen(t, Options{Dir: base})
				for range blocks {
					if err := l.Record(Event{Event: PolicyLoad}); err != nil {
						t.Fatal(err)
					}
				}
				mustClose(t, l)
				for _, level := range []int{entryLevel, 0} { // hundreds of files to copy
					for w := range blocks {
						remove(t, filepath.Join(base, tilePath(level, 0, w)))
					}
				}
			}
			steps := 0
			for killed := true; killed; steps++ {
				dir := t.TempDir()
				if err := os.CopyFS(dir, os.DirFS(base)); err != nil {
					t.Fatal(err)
				}
				if blocks > 0 {
					if err := os.Chmod(filepath.Join(dir, keyFile), 0o600); err != nil {
						t.Fatal(err)
					}
				}
				killed = runSteps(t, dir, steps)
				checkRestart(t, dir, blocks, steps)
			}
			if steps < 50 {
				t.Errorf("only %d steps", steps)
			}
		})
	}
}

func runSteps(t *testing.T, dir string, steps int) (killed bool) {
	t.Helper()
	cmd := exec.Command(os.Args[0], dir)
	cmd.Env = append(os.Environ(), "AUDIT_TEST_CHILD=steps", "AUDIT_TEST_STEPS="+strconv.Itoa(steps))
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL {
		return true
	}
	if err != nil {
		t.Fatalf("%d steps: %v\n%s", steps, err, out)
	}
	return false
}

func checkRestart(t *testing.T, dir string, blocks, steps int) {
	t.Helper()
	var old [][]byte
	if b, err := os.ReadFile(filepath.Join(dir, checkpointFile)); err == nil {
		old = append(old, b)
		if r := mustVerify(t, dir, VerifyOptions{}); r.Verdict != "intact" || r.Intact.Blocks < uint64(blocks) {
			t.Fatalf("%d steps, killed: %+v", steps, r)
		}
	}
	before := []Record(nil)
	if _, err := os.Stat(filepath.Join(dir, logIDFile)); err == nil {
		before = mustRead(t, dir, Filter{})
	}
	l := mustOpen(t, Options{Dir: dir})
	if err := l.Record(Event{Event: GatewayStop}); err != nil {
		t.Fatal(err)
	}
	mustClose(t, l)
	after := mustRead(t, dir, Filter{})
	for i, rec := range before {
		if !bytes.Equal(rec.Raw, after[i].Raw) {
			t.Fatalf("%d steps: record %d has changed", steps, i+1)
		}
	}
	r := mustVerify(t, dir, VerifyOptions{Old: old})
	if r.Verdict != "intact" || r.Intact.Records != uint64(len(after)) {
		t.Fatalf("%d steps, started again: %+v", steps, r)
	}
	for _, loss := range r.Losses {
		if strings.Contains(loss.Reason, "gone") {
			t.Fatalf("%d steps: %+v", steps, loss)
		}
	}
}

// stepsChild writes five blocks, with the directory given up and taken back
// between them, and dies before the given step.
func stepsChild(dir string) int {
	left, err := strconv.ParseInt(os.Getenv("AUDIT_TEST_STEPS"), 10, 64)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	var n atomic.Int64
	n.Store(left)
	step := func(string, string) error {
		if n.Add(-1) < 0 {
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
		return nil
	}
	l, err := Open(Options{Dir: dir, SegmentSize: 1200, Logger: quiet(), step: step,
		openSegment: func(path string) (file, error) {
			step("open", path)
			f, err := openSegment(path)
			return steppedFile{f, step}, err
		}})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	for i := range 5 {
		if err := l.Record(benchEvent(i), Event{Event: PolicyLoad}); err != nil {
			fmt.Println(err)
			return 1
		}
		if i == 2 {
			if err := errors.Join(l.Yield(), l.Retake()); err != nil {
				fmt.Println(err)
				return 1
			}
		}
	}
	if err := l.Close(); err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

// A steppedFile writes in two halves.
type steppedFile struct {
	file
	step stepFunc
}

func (f steppedFile) Write(b []byte) (int, error) {
	f.step("write", "")
	n, err := f.file.Write(b[:len(b)/2])
	if err != nil {
		return n, err
	}
	f.step("write", "")
	m, err := f.file.Write(b[n:])
	return n + m, err
}

func (f steppedFile) Sync() error {
	f.step("sync", "")
	return f.file.Sync()
}

// What cannot be signed cannot be recorded: on_failure applies, and all is well
// once there is room again.
func TestUnwritableTree(t *testing.T) {
	tests := []struct{ step, file string }{
		{"create", "tile/0/"}, {"sync", "tile/0/"}, {"rename", "tile/entries/"}, {"syncdir", "tile/entries/"},
		{"create", checkpointFile}, {"sync", checkpointFile}, {"rename", checkpointFile}, {"syncdir", checkpointFile},
		{"append", historyFile}, {"sync", historyFile},
	}
	for _, tt := range tests {
		t.Run(tt.step+" "+filepath.Base(tt.file), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir := filepath.Join(t.TempDir(), "log")
				var full atomic.Bool
				l := mustOpen(t, Options{Dir: dir, step: func(step, path string) error {
					if full.Load() && step == tt.step && strings.HasPrefix(path, filepath.Join(dir, tt.file)) {
						return &os.PathError{Op: step, Path: path, Err: syscall.ENOSPC}
					}
					return nil
				}})
				record := func(want error) {
					t.Helper()
					if err := l.Record(Event{Event: PolicyLoad}); !errors.Is(err, want) {
						t.Fatalf("got %v, want %v", err, want)
					}
					time.Sleep(100 * time.Millisecond)
					synctest.Wait()
				}
				record(nil)
				full.Store(true)
				record(nil) // accepted, and then not signed
				record(ErrUnwritable)
				time.Sleep(3 * time.Second)
				record(syscall.ENOSPC)
				full.Store(false)
				time.Sleep(2 * time.Second)
				synctest.Wait()
				if err := l.Failed(); err != nil {
					t.Fatal(err)
				}
				record(nil)
				mustClose(t, l)
				r := mustVerify(t, dir, VerifyOptions{})
				if r.Verdict != "intact" || r.Intact.Records != 4 || len(r.Losses) != 1 || r.Losses[0].Count != 2 {
					t.Errorf("%+v", r)
				}
			})
		})
	}
}

// A checkpoint comes each second while the log grows, and none after; the
// history has one an hour.
func TestCheckpointEachSecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		signed := 0
		l := mustOpen(t, Options{Dir: dir, step: func(step, path string) error {
			if step == "rename" && filepath.Base(path) == checkpointFile {
				signed++
			}
			return nil
		}})
		record := func(n int, every time.Duration) (checkpoints int) {
			before := signed
			for range n {
				if err := l.Record(Event{Event: ConnOpen}); err != nil {
					t.Fatal(err)
				}
				time.Sleep(every)
			}
			time.Sleep(5 * time.Second)
			synctest.Wait()
			return signed - before
		}
		if n := record(100, 100*time.Millisecond); n < 8 || n > 11 {
			t.Errorf("%d checkpoints in ten seconds", n)
		}
		if n := record(150, time.Minute); n != 150 {
			t.Errorf("%d checkpoints for a record each minute", n)
		}
		r := mustVerify(t, dir, VerifyOptions{})
		if r.Uncovered.Blocks > 0 || r.Compared != 3 { // start, and two hours
			t.Errorf("%+v", r)
		}
		before := signed
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		if signed != before {
			t.Error("an idle log is signed again")
		}
		mustClose(t, l)
	})
}

// The history stays bounded, its beginning and its end stay in it.
func TestHistoryIsThinned(t *testing.T) {
	dir := smallLog(t, 2)
	id, err := readLogID(dir)
	if err != nil {
		t.Fatal(err)
	}
	signer, _, err := readKey(dir, id)
	if err != nil {
		t.Fatal(err)
	}
	var all bytes.Buffer
	for i := range maxHistory {
		msg, err := signCheckpoint(Checkpoint{Origin: id.origin(), Size: uint64(i)}, signer)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&all, "%s\n", msg)
	}
	write(t, all.Bytes(), dir, historyFile)
	n := &notary{dir: dir, tree: &tree{size: maxHistory}, history: maxHistory}
	if err := n.remember(); err != nil {
		t.Fatal(err)
	}
	notes, rest := splitHistory(read(t, dir, historyFile))
	if len(notes) != n.history || rest != "" || n.history > maxHistory*3/4+1 ||
		!strings.Contains(notes[0], "\n0\n") || !bytes.Equal([]byte(notes[len(notes)-1]), read(t, dir, checkpointFile)) {
		t.Errorf("%d in the history, %d said", len(notes), n.history)
	}
}

// countingFile counts blocks as they are written and synced.
type countingFile struct {
	file
	written, synced *atomic.Uint64
}

func (f countingFile) Write(b []byte) (int, error) {
	n, err := f.file.Write(b)
	f.written.Add(1)
	return n, err
}

func (f countingFile) Sync() error {
	n := f.written.Load()
	err := f.file.Sync()
	f.synced.Store(n)
	return err
}

// No checkpoint covers a block that no fdatasync has brought to the disk.
func TestSignedIsSynced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		var written, synced atomic.Uint64
		checkpoints := 0
		l := mustOpen(t, Options{
			Dir: dir, SegmentSize: 3000,
			openSegment: func(path string) (file, error) {
				f, err := openSegment(path)
				return countingFile{f, &written, &synced}, err
			},
			step: func(step, path string) error {
				if step == "rename" && filepath.Base(path) == checkpointFile {
					checkpoints++
					size, err := strconv.ParseUint(strings.Split(string(read(t, dir, tempFile)), "\n")[1], 10, 64)
					if err != nil || size > synced.Load() {
						t.Errorf("a checkpoint over %d blocks, %d of %d are synced, %v", size, synced.Load(), written.Load(), err)
					}
				}
				return nil
			},
		})
		for i := range 100 {
			e := benchEvent(i)
			if i%17 == 0 {
				e = Event{Event: PolicyLoad}
			}
			if err := l.Record(e); err != nil {
				t.Fatal(err)
			}
			time.Sleep(60 * time.Millisecond)
		}
		mustClose(t, l)
		if checkpoints < 10 || written.Load() != 100 || synced.Load() != 100 {
			t.Errorf("%d checkpoints, %d blocks, %d synced", checkpoints, written.Load(), synced.Load())
		}
	})
}
