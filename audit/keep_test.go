package audit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// oneDay is what the tests take for one: a log that is simulated polls for
// things each second.
const oneDay = 10 * time.Minute

// fillDays writes a record four times a day, for days.
func fillDays(t *testing.T, l *Log, days int) {
	t.Helper()
	for range 4 * days {
		if err := l.Record(benchNow()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(oneDay / 4)
		synctest.Wait()
	}
}

// benchNow is an ordinary event of this moment.
func benchNow() Event {
	e := benchEvent(1)
	e.Time = time.Now()
	return e
}

// expiredLog is the log of forty days that keeps eight of them.
func expiredLog(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "log")
	synctest.Test(t, func(t *testing.T) {
		l := mustOpen(t, Options{Dir: dir, Keep: 8 * oneDay})
		fillDays(t, l, 40)
		mustClose(t, l)
	})
	return dir
}

// What is older than keep goes, and nothing else; the log says so, verify finds
// it so, and what is left can be read, proved and indexed.
func TestKeep(t *testing.T) {
	dir := expiredLog(t)
	r := mustVerify(t, dir, VerifyOptions{})
	if r.Verdict != "intact" || r.ExpiredBlocks == 0 || r.Intact.FirstBlock != r.ExpiredBlocks ||
		r.Intact.FirstSeq != r.ExpiredSeq+1 || len(r.Expired) == 0 || r.Present != nil || len(r.Notes) != 1 {
		t.Fatalf("%+v", r)
	}
	if age := r.Intact.To.Sub(*r.Intact.From); age < 8*oneDay || age > 10*oneDay {
		t.Errorf("records of %v are left", age)
	}
	last := r.Expired[len(r.Expired)-1]
	if last.By != ByKeep || last.Reason != "older than 1h20m0s" || last.Missing != 0 || last.Count == 0 ||
		last.LastSeq-last.FirstSeq+1 != last.Count || last.LastSeq != r.ExpiredSeq || last.Time.Sub(last.To) < 8*oneDay {
		t.Errorf("%+v", last)
	}
	for i, e := range r.Expired[1:] { // the records that are left are of one piece
		if before := r.Expired[i]; e.FirstBlock != before.LastBlock+1 || e.FirstSeq != before.LastSeq+1 {
			t.Errorf("%+v behind %+v", e, before)
		}
	}

	var seqs []uint64
	for rec, err := range mustReader(t, dir).Records() {
		if err != nil {
			t.Fatal(err)
		}
		seqs = append(seqs, rec.Seq)
	}
	if seqs[0] != r.ExpiredSeq+1 || seqs[len(seqs)-1] != r.Intact.LastSeq || uint64(len(seqs)) != r.Intact.Records {
		t.Errorf("%d records from %d to %d", len(seqs), seqs[0], seqs[len(seqs)-1])
	}
	proved := mustReader(t, dir)
	if _, err := proved.Prove(""); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, err := range proved.Records() {
		if err != nil {
			t.Error(err)
		}
		n++
	}
	if n != len(seqs) {
		t.Errorf("%d of %d records are proved", n, len(seqs))
	}
	if lasts, err := mustReader(t, dir).Last(1000); err != nil || len(lasts) != len(seqs) {
		t.Errorf("the last thousand are %d, %v", len(lasts), err)
	}
	for s, err := range Index(dir, false) {
		if err != nil || s.Damage != nil {
			t.Error(s, err)
		}
	}
	if b, err := Begins(dir, ""); err != nil || b.Seq != seqs[0] || b.Block != r.ExpiredBlocks || b.Removal == nil || b.Removal.Seq != last.Seq {
		t.Errorf("%+v, %v", b, err)
	}
	if b, err := Begins(smallLog(t, 2), ""); b != nil || err != nil {
		t.Errorf("a whole log begins at %+v, %v", b, err)
	}

	for _, seq := range []uint64{seqs[0], seqs[len(seqs)/2], seqs[len(seqs)-1]} {
		if p, err := Prove(dir, seq); err != nil || !bytes.HasPrefix(p.Record, fmt.Appendf(nil, `{"seq":%d,`, seq)) {
			t.Errorf("%d: %v", seq, err)
		}
	}
	for seq, want := range map[uint64]string{
		last.LastSeq:          fmt.Sprintf("record %d was removed at %s (older than 1h20m0s), as record %d says", last.LastSeq, last.Time.Format(time.RFC3339), last.Seq),
		1:                     fmt.Sprintf("record 1 was removed before %s, as record %d says", last.Time.Format(time.RFC3339), last.Seq),
		seqs[len(seqs)-1] + 1: fmt.Sprintf("the log has no record %d", seqs[len(seqs)-1]+1),
	} {
		if _, err := Prove(dir, seq); err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// A writer goes on with a log from which something was removed, whatever it
// keeps itself; and with one whose tiles are gone, as long as the entries are there.
func TestOpenExpired(t *testing.T) {
	dir := expiredLog(t)
	sound := mustVerify(t, dir, VerifyOptions{})
	last := segmentPaths(t, dir)[len(segmentPaths(t, dir))-1]
	for name, do := range map[string]func(t *testing.T, dir string){
		"as it is":            func(t *testing.T, dir string) {},
		"no expired":          func(t *testing.T, dir string) { remove(t, filepath.Join(dir, expiredFile)) },
		"expired altered":     func(t *testing.T, dir string) { write(t, []byte("x"), dir, expiredFile) },
		"no tiles":            func(t *testing.T, dir string) { remove(t, filepath.Join(dir, tileDir, "0")) },
		"no older checkpoint": func(t *testing.T, dir string) { remove(t, filepath.Join(dir, historyFile)) },
		"an empty segment behind": func(t *testing.T, dir string) {
			write(t, nil, dir, segmentDir, segmentName(sound.Checkpoint.Size))
		},
		"only the last segment left, and nothing of it": func(t *testing.T, dir string) {
			for _, path := range segmentPaths(t, dir) {
				remove(t, path)
			}
			write(t, nil, dir, segmentDir, filepath.Base(last))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := copyLog(t, dir)
			do(t, dir)
			growLog(t, dir, 2)
			r := mustVerify(t, dir, VerifyOptions{})
			switch name {
			case "expired altered":
				if r.Fault() != Altered || len(r.Findings) != 1 || r.Findings[0].Place != expiredFile || r.ExpiredBlocks != sound.ExpiredBlocks {
					t.Errorf("%+v", r)
				}
			case "only the last segment left, and nothing of it":
				if r.Fault() != Missing || r.Findings[0].Block != sound.ExpiredBlocks || len(r.Findings) != 1 ||
					len(r.Losses) != 1 || !strings.Contains(r.Losses[0].Reason, fmt.Sprintf("blocks %d to %d, which a checkpoint covers, are gone", sound.ExpiredBlocks, sound.Checkpoint.Size-1)) {
					t.Errorf("%+v", r)
				}
			default:
				if r.Verdict != "intact" || r.ExpiredBlocks != sound.ExpiredBlocks || r.Intact.Blocks != sound.Intact.Blocks+2 {
					t.Errorf("%+v", r)
				}
			}
		})
	}
	t.Run("no entries of what is removed", func(t *testing.T) {
		dir := copyLog(t, dir)
		remove(t, filepath.Join(dir, tileDir))
		_, err := Open(Options{Dir: dir, Logger: quiet()})
		want := fmt.Sprintf("the tree of blocks 0 to %d, which are removed, is lost and cannot be made again", sound.ExpiredBlocks-1)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v", err)
		}
	})
}

// max_size is kept to, also while segments are small and blocks large.
func TestMaxSize(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "log")
		const most = 64 << 10
		l := mustOpen(t, Options{Dir: dir, MaxSize: most})
		for i := range 600 {
			if err := l.Record(benchNow(), Event{Event: PolicyLoad, Reason: strings.Repeat(strconv.Itoa(i), 100)}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(5 * time.Second)
			synctest.Wait()
			var size int64
			for _, path := range segmentPaths(t, dir) {
				size += int64(len(read(t, path)))
			}
			if size > most+most/8 {
				t.Fatalf("%d bytes", size)
			}
		}
		mustClose(t, l)
		r := mustVerify(t, dir, VerifyOptions{})
		if r.Verdict != "intact" || r.ExpiredBlocks < 100 || len(r.Expired) == 0 ||
			r.Expired[0].By != ByMaxSize || r.Expired[0].Reason != "the log is larger than 65536 bytes" {
			t.Errorf("%+v", r)
		}
	})
}

// A clock that is set does not make records old.
func TestKeepClock(t *testing.T) {
	at := func(days float64) int64 { return int64(days * float64(oneDay)) }
	// Each segment has a block a oneDay for ten days, each with records of that oneDay.
	build := func(days ...float64) (l ledger) {
		l = newLedger("", 40*oneDay, nil)
		for i := 0; i < len(days); i += 10 {
			s := l.behind()
			for _, d := range days[i:min(i+10, len(days))] {
				if !s.known {
					s.known, s.first, s.last = true, at(d), at(d)
				}
				s.first, s.last = min(s.first, at(d)), max(s.last, at(d))
				s.passed += min(since(s.end, at(d)), l.longest)
				s.end = at(d)
				s.to++
			}
			l.whole = append(l.whole, s)
		}
		l.tail = l.whole[len(l.whole)-1]
		l.whole = l.whole[:len(l.whole)-1]
		return l
	}
	steady := make([]float64, 60)
	for i := range steady {
		steady[i] = float64(i)
	}
	jumps := func(change func(i int, d float64) float64) []float64 {
		days := slices.Clone(steady)
		for i := range days {
			days[i] = change(i, days[i])
		}
		return days
	}
	const far = 73 * 365
	for _, tt := range []struct {
		name string
		days []float64
		now  float64
		want int
	}{
		{"as it should be", steady, 59, 2},            // days 0 to 9 and 10 to 19
		{"a moment before", steady, 58.9, 1},          // 19 to 58.9
		{"the clock jumps ahead now", steady, far, 2}, // by a step of five days at most
		{"and the log with it", jumps(func(i int, d float64) float64 {
			if i >= 30 {
				d += far
			}
			return d
		}), 59 + far, 2},
		{"ahead for ten days, and back", jumps(func(i int, d float64) float64 {
			if i >= 30 && i < 40 {
				d += far
			}
			return d
		}), 59, 2},
		{"back to the beginning of time, and never right again", jumps(func(i int, d float64) float64 {
			if i >= 30 {
				d -= 29
			}
			return d
		}), 30, 0},
		{"back and forth by a day, all the time", jumps(func(i int, d float64) float64 { return d + float64(i%2) }), 59, 1},
		{"ahead by an hour each night", steady[:30], 29, 0},
		{"a clock at the end of time", steady, math.MaxInt64 / float64(oneDay), 2},
		{"an hour after a holiday of three weeks", steady[:30], 50, 0},
		{"and much later", append(slices.Clone(steady[:30]), func() (more []float64) {
			for i := range 40 {
				more = append(more, 50+float64(i))
			}
			return more
		}()...), 90, 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := build(tt.days...)
			if got := l.older(time.Unix(0, at(tt.now)), 40*oneDay); got != tt.want {
				t.Errorf("%d segments go, want %d", got, tt.want)
			}
		})
	}
}

// Files are not what decides: one that is taken away, or added, makes nothing go
// that is not due.
func TestKeepIsNotFooled(t *testing.T) {
	sound := filepath.Join(t.TempDir(), "log")
	synctest.Test(t, func(t *testing.T) {
		l := mustOpen(t, Options{Dir: sound, Keep: 80 * oneDay, SegmentSize: 1200})
		fillDays(t, l, 20)
		mustClose(t, l)
	})
	before := mustVerify(t, sound, VerifyOptions{})
	if before.Verdict != "intact" || before.ExpiredBlocks > 0 || len(segmentFiles(t, sound)) < 15 {
		t.Fatalf("%+v", before)
	}
	for name, do := range map[string]func(t *testing.T, dir string){
		"segments in the middle deleted": func(t *testing.T, dir string) {
			paths := segmentPaths(t, dir)
			for _, path := range paths[1 : len(paths)-1] {
				remove(t, path)
			}
		},
		"a large file added": func(t *testing.T, dir string) {
			if err := os.WriteFile(filepath.Join(dir, segmentDir, segmentName(1)), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Truncate(filepath.Join(dir, segmentDir, segmentName(1)), 64<<20); err != nil {
				t.Fatal(err)
			}
		},
		"entries made old": func(t *testing.T, dir string) {
			path := filepath.Join(dir, tilePath(entryLevel, 0, int(before.Checkpoint.Size)))
			b := read(t, path)
			for i := range b {
				b[i] ^= 1
			}
			write(t, b, path)
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := copyLog(t, sound)
			do(t, dir)
			synctest.Test(t, func(t *testing.T) {
				l, err := Open(Options{Dir: dir, Keep: 80 * oneDay, MaxSize: 64 << 10, Logger: quiet()})
				if err != nil {
					return // also well
				}
				time.Sleep(time.Hour)
				mustClose(t, l)
			})
			if r := mustVerify(t, dir, VerifyOptions{}); r.ExpiredBlocks > 0 || r.Verdict == "intact" && name != "entries made old" { // which Open makes good
				t.Errorf("%+v", r)
			}
		})
	}
}

// A removal that fails is told, once, and made good.
func TestRemovalFails(t *testing.T) {
	for _, failing := range []string{"unlink", "rename"} {
		t.Run(failing, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir := filepath.Join(t.TempDir(), "log")
				var broken atomic.Bool
				var said bytes.Buffer
				l := mustOpen(t, Options{Dir: dir, Keep: 8 * oneDay, Logger: slog.New(slog.NewTextHandler(io.Writer(&said), nil)), step: func(step, path string) error {
					if broken.Load() && step == failing && (step == "unlink" || filepath.Base(path) == expiredFile) {
						return &os.PathError{Op: step, Path: path, Err: syscall.EIO}
					}
					return nil
				}})
				broken.Store(true)
				fillDays(t, l, 14)
				n := len(segmentFiles(t, dir))
				if n < 12 || !strings.Contains(said.String(), "input/output error") || strings.Count(said.String(), "level=ERROR") != 1 {
					t.Errorf("%d segments\n%s", n, said.String())
				}
				if r := mustVerify(t, dir, VerifyOptions{}); r.Verdict != "intact" || (failing == "unlink") != (r.Present != nil) {
					t.Errorf("%+v", r)
				}
				broken.Store(false)
				fillDays(t, l, 1)
				if got := len(segmentFiles(t, dir)); got >= n {
					t.Errorf("%d segments", got)
				}
				mustClose(t, l)
				if r := mustVerify(t, dir, VerifyOptions{}); r.Verdict != "intact" || r.Present != nil || r.ExpiredBlocks == 0 {
					t.Errorf("%+v", r)
				}
			})
		})
	}
}

// A gateway is killed before each step of a removal: what was recorded once is
// removed once, and what was not is kept.
func TestKillWhileRemoving(t *testing.T) {
	base := filepath.Join(t.TempDir(), "log")
	for i := range 30 { // of thirty days, written today: the times are those of the events
		l := mustOpen(t, Options{Dir: base, SegmentSize: 1})
		e := benchEvent(i)
		e.Time = time.Now().Add(time.Duration(i-30) * 24 * time.Hour)
		if err := l.Record(e); err != nil {
			t.Fatal(err)
		}
		mustClose(t, l)
	}
	for s, err := range Index(base, false) {
		if err != nil {
			t.Fatal(s, err)
		}
	}
	t.Parallel()
	steps, repeated := 0, 0
	for killed := true; killed; steps++ {
		dir := copyLog(t, base)
		cmd := exec.Command(os.Args[0], dir)
		cmd.Env = append(os.Environ(), "AUDIT_TEST_CHILD=keep", "AUDIT_TEST_STEPS="+strconv.Itoa(steps))
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		killed = errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL
		if err != nil && !killed {
			t.Fatalf("%d steps: %v\n%s", steps, err, out)
		}
		r := mustVerify(t, dir, VerifyOptions{})
		if r.Verdict != "intact" {
			t.Fatalf("%d steps, killed: %+v", steps, r)
		}
		if code := keepUntilDone(dir, nil); code != 0 {
			t.Fatalf("%d steps: not finished", steps)
		}
		r = mustVerify(t, dir, VerifyOptions{})
		if r.Verdict != "intact" || r.ExpiredBlocks != 23 || r.Present != nil || len(r.Expired) != 1 ||
			r.Expired[0].FirstBlock != 0 || r.Expired[0].Count != 23 || r.Expired[0].Missing != 0 {
			t.Fatalf("%d steps, started again: %+v", steps, r)
		}
		n := len(segmentFiles(t, dir))
		index, err := os.ReadDir(filepath.Join(dir, indexDir))
		if err != nil || len(index) != 7 || n > 11 {
			t.Fatalf("%d steps: %d segments, %d indexes, %v", steps, n, len(index), err)
		}
		records := 0
		for rec, err := range mustReader(t, dir).Records() {
			if err != nil {
				t.Fatal(err)
			}
			if rec.Event == AuditExpire {
				records++
			}
		}
		if records > 2 {
			t.Fatalf("%d steps: %d records of one removal", steps, records)
		}
		repeated += records - 1
	}
	if steps < 60 || repeated == 0 {
		t.Errorf("%d steps, %d times repeated", steps, repeated)
	}
	t.Logf("%d steps, %d times repeated", steps, repeated)
}

// keepChild removes what is old and dies before the given step.
func keepChild(dir string) int {
	left, err := strconv.ParseInt(os.Getenv("AUDIT_TEST_STEPS"), 10, 64)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	var n atomic.Int64
	n.Store(left)
	return keepUntilDone(dir, func(string, string) error {
		if n.Add(-1) < 0 {
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
		return nil
	})
}

// keepUntilDone opens the log until what is older than a week is gone.
func keepUntilDone(dir string, step stepFunc) int {
	l, err := Open(Options{Dir: dir, Keep: 8*24*time.Hour - time.Hour, SegmentSize: 1, Logger: quiet(), step: step,
		openSegment: func(path string) (file, error) {
			step.before("open", path)
			f, err := openSegment(path)
			return steppedFile{f, func(s, p string) error { return step.before(s, p) }}, err
		}})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	for range 500 {
		if names, err := segments(dir); err == nil && firstBlock(names[0]) >= 23 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err := l.Close(); err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

// The keys of a oneDay go with its last record.
func TestRemoveKeys(t *testing.T) {
	dir := t.TempDir()
	before := time.Date(2026, 5, 3, 0, 0, 0, 0, time.UTC)
	if err := removeKeys(dir, before); err != nil {
		t.Fatal("without keys:", err)
	}
	for _, name := range []string{"2026-04-30", "2026-05-02", "2026-05-03", "2099-01-01", "other"} {
		if err := os.MkdirAll(filepath.Join(dir, keysDir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, []byte("key"), dir, keysDir, name, "conn")
	}
	if err := removeKeys(dir, before); err != nil {
		t.Fatal(err)
	}
	var left []string
	entries, err := os.ReadDir(filepath.Join(dir, keysDir))
	for _, e := range entries {
		left = append(left, e.Name())
	}
	if want := []string{"2026-05-03", "2099-01-01", "other"}; err != nil || !slices.Equal(left, want) {
		t.Errorf("%q, %v", left, err)
	}
}
