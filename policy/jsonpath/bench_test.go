package jsonpath

import (
	"encoding/json"
	"fmt"
	"testing"

	"framegate/examples/traffic"
	"framegate/frames"
)

// samples are messages of real connections, by what is peculiar to them.
func samples(tb testing.TB) map[string][]byte {
	return map[string][]byte{
		"slack":    message(tb, "slack-socket-mode", 500, 4000), // many short strings
		"coinbase": message(tb, "feed-coinbase", 5000, 10000),   // an array of names
		"cdp":      message(tb, "cdp-events", 980, 1600),
		"firebase": message(tb, "firebase-hn", 500, 20000), // numbers
	}
}

// message returns the first text message of a set that has from least to most bytes.
func message(tb testing.TB, set string, least, most int) []byte {
	messages, err := traffic.Load(set)
	if err != nil {
		tb.Fatal(err)
	}
	for _, m := range messages {
		if m.Opcode == frames.Text && least <= len(m.Payload) && len(m.Payload) <= most {
			return m.Payload
		}
	}
	tb.Fatalf("no message of %d to %d bytes in %s", least, most, set)
	return nil
}

func BenchmarkValid(b *testing.B) {
	for name, doc := range samples(b) {
		for by, valid := range map[string]func([]byte) bool{"jsonpath": Valid, "encoding-json": json.Valid} {
			b.Run(fmt.Sprintf("%s-%d/%s", name, len(doc), by), func(b *testing.B) {
				b.SetBytes(int64(len(doc)))
				b.ReportAllocs()
				for b.Loop() {
					if !valid(doc) {
						b.Fatal("not valid")
					}
				}
			})
		}
	}
}

func BenchmarkWalk(b *testing.B) {
	for name, doc := range samples(b) {
		for _, n := range []int{1, 100} {
			var paths []Path
			for i := range n {
				paths = append(paths, mustParse(b, fmt.Sprintf("user.role%d", i)), mustParse(b, fmt.Sprintf("payload.#.field%d", i)),
					mustParse(b, fmt.Sprintf("kind%d", i)))
			}
			set := NewSet(paths)
			b.Run(fmt.Sprintf("%s-%d/paths=%d", name, len(doc), len(paths)), func(b *testing.B) {
				b.SetBytes(int64(len(doc)))
				b.ReportAllocs()
				for b.Loop() {
					if !set.Walk(doc, func(int, Value) bool { return true }) {
						b.Fatal("not valid")
					}
				}
			})
		}
	}
}

func BenchmarkUnescape(b *testing.B) {
	for name, doc := range samples(b) {
		b.Run(fmt.Sprintf("%s-%d", name, len(doc)), func(b *testing.B) {
			quoted, err := json.Marshal(string(doc)) // an escape for each quotation mark
			if err != nil {
				b.Fatal(err)
			}
			var u Unescaped
			b.SetBytes(int64(len(quoted)))
			b.ReportAllocs()
			for b.Loop() {
				u.Reset(quoted)
			}
		})
	}
}

func mustParse(tb testing.TB, s string) Path {
	tb.Helper()
	p, err := Parse(s)
	if err != nil {
		tb.Fatalf("%s: %v", s, err)
	}
	return p
}
