package capture

import (
	"bytes"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A console keeps what a Ring logs.
type console struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (c *console) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.buf.Write(b)
}

func (c *console) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.buf.String()
}

func openRing(t *testing.T, dir string, most int64) (*Ring, *console) {
	t.Helper()
	c := new(console)
	r, err := OpenRing(RingOptions{Dir: dir, MaxSize: most, Application: "framegate", Log: slog.New(slog.NewTextHandler(c, nil))})
	must(t, err)
	return r, c
}

func ringPaths(t *testing.T, dir string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*"))
	must(t, err)
	return paths
}

// readRing returns what the files of a ring have, one after the other.
func readRing(t *testing.T, dir string) (tr trace, stats []Stats) {
	t.Helper()
	for _, path := range ringPaths(t, dir) {
		b, err := os.ReadFile(path)
		must(t, err)
		checkPackets(t, withoutHoles(b))
		s, err := ReadPackets(bytes.NewReader(b), tr.open(t))
		if err != nil {
			t.Errorf("%s: %v", path, err)
		}
		stats = append(stats, s)
	}
	return tr, stats
}

// withoutHoles is the file if nothing was dropped: what checkPackets can follow.
func withoutHoles(b []byte) []byte {
	if bytes.Contains(b, []byte("lost=")) {
		return nil
	}
	return b
}

const (
	testRequest = "GET /ws HTTP/1.1\r\nHost: chat.example\r\n\r\n"
	testAnswer  = "HTTP/1.1 101 Switching Protocols\r\n\r\n"
)

func TestRing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "pcap")
	r, log := openRing(t, dir, MinRing)
	s := r.Open("c-1", alice, bob, []byte(testRequest), []byte(testAnswer))
	b := []byte("one")
	s.Bytes(true, epoch, b, true)
	copy(b, "XXX") // is the caller's again
	s.Bytes(false, epoch.Add(time.Second), []byte("two"), true)
	for n := 0; ; n++ { // it can be read while it is written
		if tr, _ := readRing(t, dir); len(tr.logs) > 0 && strings.HasSuffix(string(tr.logs[0].data[0]), "two") {
			break
		}
		if n > 1000 {
			t.Fatal("what was sent does not get into the file")
		}
		time.Sleep(10 * time.Millisecond)
	}
	s.Close()
	must(t, r.Close())
	for path, want := range map[string]fs.FileMode{dir: 0o700, ringPaths(t, dir)[0]: 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
	tr, _ := readRing(t, dir)
	if l := tr.logs[0]; len(tr.logs) != 1 || string(l.data[1]) != testRequest+"one" || string(l.data[0]) != testAnswer+"two" || l.gaps != 0 {
		t.Error(tr.text())
	}
	if l := tr.logs[0]; !l.times[len(l.times)-1].Equal(epoch.Add(time.Second)) {
		t.Error(l.times)
	}
	file, err := os.ReadFile(ringPaths(t, dir)[0])
	if must(t, err); bytes.Count(file, []byte("framegate conn=c-1")) < 8 {
		t.Error("not each packet has the id")
	}
	if strings.Contains(log.String(), "WARN") || strings.Contains(log.String(), "ERROR") {
		t.Error(log)
	}
	s.Bytes(true, epoch, b, true) // too late, and no harm
	s.Close()
	if r.Open("c-2", alice, bob, nil, nil) != nil {
		t.Error("a closed ring takes connections")
	}
}

// put waits until there is room, as no caller would.
func sure(r *Ring, s *RingStream, toServer bool, b []byte, aligned bool) {
	for {
		r.mu.Lock()
		room := r.waiting+int64(len(b))+queueCost <= maxQueue
		r.mu.Unlock()
		if room {
			s.Bytes(toServer, epoch, b, aligned)
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// A ring that is full loses its oldest files, keeps to its size, and goes on
// with live connections in each file from their heads on.
func TestRingRotates(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Chmod(dir, 0o700))
	must(t, os.WriteFile(filepath.Join(dir, "mine.pcapng"), []byte("not of the ring"), 0o600))
	old := filepath.Join(dir, "framegate-20200101T000000.000000000Z.pcapng")
	must(t, os.WriteFile(old, bytes.Repeat([]byte{0}, 12<<20), 0o600))
	r, log := openRing(t, dir, MinRing)
	if _, err := os.Stat(old); err == nil {
		t.Error("a file of an earlier ring is not the first to go")
	}
	a := r.Open("c-a", alice, bob, []byte(testRequest), []byte(testAnswer))
	carol := netip.MustParseAddrPort("[2001:db8::2]:40000")
	b := r.Open("c-b", carol, netip.MustParseAddrPort("[2001:db8::7]:443"), []byte(testRequest), []byte(testAnswer))
	chunk := bytes.Repeat([]byte("x"), 60_000)
	const chunks = 600
	for i := range chunks {
		copy(chunk, fmt.Sprintf("%06d", i))
		sure(r, a, i%2 == 0, chunk, true)
		sure(r, b, true, []byte("half of a frame, "), true)
		sure(r, b, true, []byte("and the rest."), false)
	}
	a.Close()
	b.Close()
	must(t, r.Close())
	var total int64
	for _, path := range ringPaths(t, dir) {
		info, err := os.Stat(path)
		must(t, err)
		total += info.Size()
		if info.Size() > 2*MinRing/10 {
			t.Errorf("%s has %d bytes", path, info.Size())
		}
	}
	if total > MinRing {
		t.Errorf("%d bytes in all", total)
	}
	must(t, os.Remove(filepath.Join(dir, "mine.pcapng"))) // and it is still there
	if n := len(ringPaths(t, dir)); n < 5 {
		t.Errorf("%d files", n)
	}
	tr, stats := readRing(t, dir)
	for i, s := range stats {
		if s.Missing != 0 || s.Connections != 2 || s.Stray != 0 {
			t.Errorf("file %d: %+v", i, s)
		}
	}
	next := 0
	for i, l := range tr.logs {
		up, ok1 := bytes.CutPrefix(l.data[1], []byte(testRequest))
		down, ok2 := bytes.CutPrefix(l.data[0], []byte(testAnswer))
		if !ok1 || !ok2 {
			t.Fatalf("stream %d begins with %.60q, %.60q", i, l.data[1], l.data[0])
		}
		if tr.conns[i].Client == carol {
			if rest := strings.ReplaceAll(string(up), "half of a frame, and the rest.", ""); rest != "" {
				t.Errorf("a frame was cut: %.60q", rest)
			}
			continue
		}
		for n := 0; len(up)+len(down) > 0; n++ {
			from := &up
			if len(up) == 0 || len(down) > 0 && string(down[:6]) < string(up[:6]) {
				from = &down
			}
			var number int
			fmt.Sscanf(string((*from)[:6]), "%06d", &number)
			if number != next && next != 0 {
				t.Fatalf("chunk %d after %d", number, next-1)
			}
			next, *from = number+1, (*from)[len(chunk):]
		}
	}
	if next != chunks {
		t.Errorf("the last chunk is %d", next-1)
	}
	if strings.Contains(log.String(), "WARN") || strings.Contains(log.String(), "ERROR") {
		t.Error(log)
	}
}

// What finds no room is dropped and told, and the stream goes on with a whole
// frame.
func TestRingDrops(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "pcap")
	r, log := openRing(t, dir, 10*MinRing)
	s := r.Open("c-1", alice, bob, []byte(testRequest), []byte(testAnswer))
	r.mu.Lock()
	r.waiting += maxQueue // as if the disk stood still
	r.mu.Unlock()
	if r.Open("c-2", alice, bob, nil, nil) != nil {
		t.Error("a full queue took a connection")
	}
	s.Bytes(true, epoch, []byte("begins,"), true)
	r.mu.Lock()
	r.waiting -= maxQueue
	r.mu.Unlock()
	s.Bytes(true, epoch, []byte("ends."), false)
	s.Bytes(true, epoch, []byte("whole"), true)
	s.Close()
	must(t, r.Close())
	tr, stats := readRing(t, dir)
	if want := "10.0.0.2:40000 > 192.0.2.7:80\n> " + testRequest + "\n< " + testAnswer + "\n> gap 12\n> whole\n"; stats[0].Missing != 12 || tr.text() != want {
		t.Errorf("%+v, %q", stats, tr.text())
	}
	if !strings.Contains(log.String(), "bytes were dropped") || !strings.Contains(log.String(), "bytes=12 ") {
		t.Error(log)
	}
	file, err := os.ReadFile(ringPaths(t, dir)[0])
	must(t, err)
	if !bytes.Contains(file, []byte("lost=12")) {
		t.Error("no packet tells of the loss")
	}
	// Interface statistics: three chunks and the connection that was refused came, three were dropped.
	if !bytes.Contains(file, []byte("\x04\x00\x08\x00\x04\x00\x00\x00\x00\x00\x00\x00\x05\x00\x08\x00\x03\x00\x00\x00\x00\x00\x00\x00")) {
		t.Error("the statistics do not tell of the loss")
	}
}

// A disk that takes no more is no reason to fail anything, and what is there
// stays readable. The kernel's limit on the size of files is what fails here.
func TestRingFullDisk(t *testing.T) {
	signal.Ignore(syscall.SIGXFSZ)
	defer signal.Reset(syscall.SIGXFSZ)
	var before syscall.Rlimit
	must(t, syscall.Getrlimit(syscall.RLIMIT_FSIZE, &before))
	restore := func() { must(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &before)) }
	defer restore()

	dir := filepath.Join(t.TempDir(), "pcap")
	r, log := openRing(t, dir, MinRing)
	s := r.Open("c-1", alice, bob, []byte(testRequest), []byte(testAnswer))
	must(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 300_000, Max: before.Max}))
	for range 200 {
		sure(r, s, true, bytes.Repeat([]byte("a"), 10_000), true)
	}
	for !strings.Contains(log.String(), "cannot write") {
		time.Sleep(time.Millisecond)
	}
	restore()
	for n := 0; strings.Count(log.String(), "packets: writing") < 1; n++ {
		if n > 200 {
			t.Fatal("it does not begin again: ", log)
		}
		s.Bytes(true, epoch, []byte("the rest of a frame"), false)
		time.Sleep(50 * time.Millisecond)
	}
	s.Bytes(true, epoch, []byte("the end"), true)
	s.Close()
	must(t, r.Close())
	tr, stats := readRing(t, dir)
	if len(stats) < 2 {
		t.Fatalf("%d files", len(stats))
	}
	last := tr.logs[len(tr.logs)-1]
	if string(last.data[1]) != testRequest+"the end" || stats[len(stats)-1].Missing != 0 {
		t.Errorf("%.60q, %+v", last.data[1], stats)
	}
	if n := strings.Count(log.String(), "cannot write"); n != 1 || !strings.Contains(log.String(), "bytes were dropped") {
		t.Errorf("told %d times: %s", n, log)
	}
}

func TestRingRefuses(t *testing.T) {
	open := t.TempDir() // mode 0755 or so
	must(t, os.Chmod(open, 0o755))
	file := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(file, nil, 0o600))
	for name, o := range map[string]RingOptions{
		"too small":         {Dir: filepath.Join(t.TempDir(), "new"), MaxSize: MinRing - 1},
		"others may read":   {Dir: open, MaxSize: MinRing},
		"not a directory":   {Dir: file, MaxSize: MinRing},
		"below no such one": {Dir: filepath.Join(file, "x"), MaxSize: MinRing},
	} {
		if r, err := OpenRing(o); err == nil {
			r.Close()
			t.Errorf("%s: opened", name)
		}
	}
}

// Both directions and many connections at once, for the race detector.
func TestRingConcurrent(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "pcap")
	r, _ := openRing(t, dir, MinRing)
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			s := r.Open(fmt.Sprint("c-", i), netip.AddrPortFrom(alice.Addr(), uint16(40000+i)), bob, []byte(testRequest), []byte(testAnswer))
			var both sync.WaitGroup
			for _, toServer := range []bool{true, false} {
				both.Go(func() {
					for range 50 {
						s.Bytes(toServer, epoch, []byte("hello"), true)
					}
				})
			}
			both.Wait()
			s.Close()
		})
	}
	all.Wait()
	must(t, r.Close())
	tr, _ := readRing(t, dir)
	for i, l := range tr.logs {
		if len(l.data[0]) != len(testAnswer)+250 || len(l.data[1]) != len(testRequest)+250 {
			t.Errorf("stream %d: %d and %d bytes", i, len(l.data[0]), len(l.data[1]))
		}
	}
}
