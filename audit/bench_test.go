package audit

import (
	"crypto/sha256"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
)

// benchEvent is what an ordinary message leaves: a record of about 450 bytes
// whose hash does not compress.
func benchEvent(i int) Event {
	m := &Message{Dir: "to-server", Opcode: "text", Size: 1024, WireSize: 1032, Frames: 1}
	m.SHA256 = sha256.Sum256(strconv.AppendInt(nil, int64(i), 10))
	return Event{
		Time: time.Unix(1773014523, int64(i)*1000), Event: WSMessage, Conn: "c" + strconv.Itoa(i%100000), Msg: m,
		Action: "allow", Policy: "5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef",
		Client: netip.MustParseAddrPort("10.1.2.3:51000"), Server: netip.MustParseAddrPort("203.0.113.7:443"),
		SNI: "chat.example.com", Host: "chat.example.com", Path: "/ws/room/42",
	}
}

// Encoding, hand-over, compression, hash and write, all of it: with -cpu 1 the
// records/s are those of one core.
func BenchmarkRecord(b *testing.B) {
	for _, size := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("batch=%d", size), func(b *testing.B) {
			l, err := Open(Options{Dir: b.TempDir()})
			if err != nil {
				b.Fatal(err)
			}
			batches := make([][]Event, 8192/size) // more than any block holds, so that none repeats itself
			for i := range batches {
				for j := range size {
					batches[i] = append(batches[i], benchEvent(i*size+j))
				}
			}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				if err := l.Record(batches[i%len(batches)]...); err != nil {
					b.Fatal(err)
				}
				i++
			}
			if err := l.Close(); err != nil {
				b.Fatal(err)
			}
			records := float64(i * size)
			b.ReportMetric(records/b.Elapsed().Seconds(), "records/s")
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/records, "ns/record")
		})
	}
}

// What the tree adds to a block of the writer: the root over its records, in
// another goroutine, and its leaf.
func BenchmarkBlock(b *testing.B) {
	var blk block
	for i := 0; ; i++ {
		e := benchEvent(i)
		line := append(e.appendFields(nil, e.Time), '\n')
		if !blk.fits(len(line)) {
			break
		}
		blk.add(uint64(i+1), line, 0)
	}
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(maxRaw))
	if err != nil {
		b.Fatal(err)
	}
	var out []byte
	run := func(name string, f func()) {
		b.Run(name, func(b *testing.B) {
			n := 0
			for b.Loop() {
				f()
				n++
			}
			b.ReportMetric(float64(n)*float64(blk.count)/b.Elapsed().Seconds(), "records/s")
		})
	}
	run("without", func() {
		out = enc.EncodeAll(blk.raw, append(out[:0], make([]byte, headerFrame)...))
		h := header{Stored: sha256.Sum256(out[headerFrame:])}
		h.append(out[:0])
	})
	var t tree
	run("with", func() {
		out = blk.encode(out[:0], enc, logID{}, 1)
		t.grow([][]byte{out[8:headerFrame]})
	})
	run("root", func() { recordsRoot(blk.raw) })
}

// Verify reads, hashes and inflates everything, on all cores.
func BenchmarkVerify(b *testing.B) {
	dir := b.TempDir()
	l, err := Open(Options{Dir: dir})
	if err != nil {
		b.Fatal(err)
	}
	const records = 200_000
	batch := make([]Event, 50)
	for i := range records / len(batch) {
		for j := range batch {
			batch[j] = benchEvent(i*len(batch) + j)
		}
		if err := l.Record(batch...); err != nil {
			b.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		b.Fatal(err)
	}
	paths, err := filepath.Glob(filepath.Join(dir, segmentDir, "*"))
	if err != nil {
		b.Fatal(err)
	}
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(info.Size())
	}
	n := 0
	for b.Loop() {
		if r, err := Verify(dir, VerifyOptions{}); err != nil || r.Verdict != "intact" || r.Intact.Records != records {
			b.Fatalf("%v %+v", err, r)
		}
		n++
	}
	b.ReportMetric(float64(n*records)/b.Elapsed().Seconds(), "records/s")
}

func BenchmarkAppendJSON(b *testing.B) {
	e := benchEvent(1)
	buf := make([]byte, 0, 1024)
	b.ReportAllocs()
	for b.Loop() {
		buf = e.AppendJSON(buf[:0], 123456)
	}
	b.SetBytes(int64(len(buf)))
}
