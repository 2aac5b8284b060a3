package policy

import (
	"bytes"
	"testing"

	"framegate/examples/traffic"
	"framegate/frames"
)

// BenchmarkMessage judges clean messages, of which no rule says anything, by
// the ten rules of the default policy: "scan" as the gateway does, "one-by-one"
// as a loop over the rules with package regexp would.
//
// "text" is one message that stays in the cache. "traffic" is 256 different
// ones, cut from the real traffic in examples.
func BenchmarkMessage(b *testing.B) {
	p := loadExample(b, "default.toml")
	text := bytes.Repeat([]byte(`{"type":"message","user":"U024BE7LH","text":"Lunch at 12:30? I heard the keys are with Kim.","ts":"1610241741.000200","tags":["food","team"]}`), 200)
	for _, input := range []struct {
		name     string
		messages [][]byte
	}{
		{"text/128B", [][]byte{text[:128]}},
		{"text/1KiB", [][]byte{text[:1<<10]}},
		{"text/16KiB", [][]byte{text[:16<<10]}},
		{"traffic/128B", trafficOf(b, 128)},
		{"traffic/1KiB", trafficOf(b, 1<<10)},
		{"traffic/16KiB", trafficOf(b, 16<<10)},
	} {
		for _, m := range input.messages {
			if ids := naive(p.rules, &p.matcher.json, frames.Text, m); ids != nil {
				b.Fatalf("%s is not clean: %v", input.name, ids)
			}
		}
		size := int64(len(input.messages[0]))
		b.Run(input.name+"/scan", func(b *testing.B) {
			s := p.Scope(Upgrade{})
			b.ReportAllocs()
			b.SetBytes(size)
			for i := 0; b.Loop(); i++ {
				if v := s.Message(frames.ToServer, frames.Text, input.messages[i%len(input.messages)]); v.Action != Allow {
					b.Fatal(v)
				}
			}
		})
		b.Run(input.name+"/one-by-one", func(b *testing.B) {
			b.SetBytes(size)
			for i := 0; b.Loop(); i++ {
				if ids := naive(p.rules, &p.matcher.json, frames.Text, input.messages[i%len(input.messages)]); ids != nil {
					b.Fatal(ids)
				}
			}
		})
	}
}

// trafficOf cuts the text messages of the real traffic into pieces of one size.
func trafficOf(tb testing.TB, size int) (pieces [][]byte) {
	tb.Helper()
	var all []byte
	for _, set := range traffic.Sets() {
		messages, err := traffic.Load(set)
		if err != nil {
			tb.Fatal(err)
		}
		for _, m := range messages {
			if m.Opcode == frames.Text {
				all = append(all, m.Payload...)
			}
		}
	}
	step := max(size, len(all)/256)
	for ; len(all) >= size; all = all[min(step, len(all)):] {
		pieces = append(pieces, all[:size])
	}
	return pieces
}

func BenchmarkScope(b *testing.B) {
	p := loadExample(b, "default.toml")
	b.ReportAllocs()
	for b.Loop() {
		p.Scope(Upgrade{Host: "chat.demo.test", Path: "/ws"})
	}
}
