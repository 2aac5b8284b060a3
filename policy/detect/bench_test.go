package detect

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"testing"
)

// clean returns about n bytes of real messages in one, in the tests' traffic.
func clean(tb testing.TB, n int) []byte {
	tb.Helper()
	var data []byte
	for _, set := range []string{"feed-coinbase", "cdp-events", "firebase-hn", "slack-socket-mode"} {
		f, err := os.Open("../../examples/traffic/" + set + ".jsonl")
		if err != nil {
			tb.Fatal(err)
		}
		lines := bufio.NewScanner(f)
		lines.Buffer(nil, 1<<20)
		for part := 0; lines.Scan() && part < n/4; {
			var m struct{ Payload string }
			if err := json.Unmarshal(lines.Bytes(), &m); err != nil {
				tb.Fatal(err)
			}
			s := m.Payload[:min(len(m.Payload), n/4-part)]
			part += len(s)
			data = append(data, s...)
		}
		f.Close()
	}
	return data
}

func BenchmarkClean(b *testing.B) {
	for _, d := range All() {
		for _, size := range []int{128, 1 << 10, 16 << 10} {
			data := clean(b, size)
			b.Run(fmt.Sprintf("%s/%d", d.Name, size), func(b *testing.B) {
				b.SetBytes(int64(len(data)))
				b.ReportAllocs()
				for b.Loop() {
					for from := 0; from >= 0; {
						_, from = d.Find(data, from)
					}
				}
			})
		}
	}
}

func BenchmarkHostile(b *testing.B) {
	for _, d := range All() {
		for name, text := range hostile {
			for _, size := range []int{64 << 10, 1 << 20} {
				data := bytes.Repeat([]byte(text), size/len(text))
				b.Run(fmt.Sprintf("%s/%s/%d", d.Name, name, size), func(b *testing.B) {
					b.SetBytes(int64(len(data)))
					for b.Loop() {
						for from := 0; from >= 0; {
							_, from = d.Find(data, from)
						}
					}
				})
			}
		}
	}
}
