package audit

import (
	"crypto/sha256"
	"fmt"
	"net/netip"
	"strconv"
	"testing"
	"time"
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

func BenchmarkAppendJSON(b *testing.B) {
	e := benchEvent(1)
	buf := make([]byte, 0, 1024)
	b.ReportAllocs()
	for b.Loop() {
		buf = e.AppendJSON(buf[:0], 123456)
	}
	b.SetBytes(int64(len(buf)))
}
