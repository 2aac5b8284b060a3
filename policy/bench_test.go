package policy_test

import (
	"bytes"
	"fmt"
	"regexp"
	"runtime"
	"testing"

	"framegate/examples/traffic"
	"framegate/frames"
	"framegate/policy"

	"github.com/BurntSushi/toml"
)

var (
	benchRules = []int{1, 10, 100, 221, 1000}
	benchSizes = []int{128, 1 << 10, 16 << 10, 256 << 10}
)

// BenchmarkMessage judges messages cut from the real traffic in examples, by
// rule sets of several sizes: "clean" are those of which no rule says anything,
// "hits" the same with a secret planted in each.
func BenchmarkMessage(b *testing.B) {
	for _, n := range benchRules {
		s := load(b, ruleSet(b, n)).Scope(policy.Upgrade{})
		for _, size := range benchSizes {
			for _, input := range []string{"clean", "hits"} {
				b.Run(fmt.Sprintf("rules=%d/size=%d/%s", n, size, input), func(b *testing.B) {
					messages := cleanTraffic(b, s, size)
					if input == "hits" {
						messages = planted(messages)
					}
					b.ReportAllocs()
					b.SetBytes(int64(size))
					for i := 0; b.Loop(); i++ {
						s.Message(frames.ToServer, frames.Text, messages[i%len(messages)])
					}
				})
			}
		}
	}
}

// regexesOf returns the regexes of a policy file.
func regexesOf(tb testing.TB, text string) (list []*regexp.Regexp) {
	var file struct {
		Rule []struct{ Match struct{ Regex []string } }
	}
	if _, err := toml.Decode(text, &file); err != nil {
		tb.Fatal(err)
	}
	for _, r := range file.Rule {
		for _, re := range r.Match.Regex {
			list = append(list, regexp.MustCompile(re))
		}
	}
	return list
}

// BenchmarkOneByOne is what BenchmarkMessage is compared with: the regexes of
// the rules alone, each by package regexp.
func BenchmarkOneByOne(b *testing.B) {
	for _, n := range benchRules[1:] { // the one is a detector
		text := ruleSet(b, n)
		s := load(b, text).Scope(policy.Upgrade{})
		regexes := regexesOf(b, text)
		for _, size := range benchSizes[:3] {
			b.Run(fmt.Sprintf("rules=%d/size=%d", n, size), func(b *testing.B) {
				clean := cleanTraffic(b, s, size)
				b.SetBytes(int64(size))
				for i := 0; b.Loop(); i++ {
					for _, re := range regexes {
						re.Match(clean[i%len(clean)])
					}
				}
			})
		}
	}
}

// BenchmarkLoad is the time and the memory that a policy takes.
func BenchmarkLoad(b *testing.B) {
	for _, n := range benchRules {
		text := []byte(ruleSet(b, n))
		b.Run(fmt.Sprintf("rules=%d", n), func(b *testing.B) {
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			var p *policy.Policy
			for b.Loop() {
				var err error
				if p, err = policy.Parse("rules.toml", text); err != nil {
					b.Fatal(err)
				}
			}
			runtime.GC()
			runtime.ReadMemStats(&after)
			b.ReportMetric(float64(int64(after.HeapAlloc)-int64(before.HeapAlloc))/(1<<20), "MiB-kept")
			runtime.KeepAlive(p)
		})
	}
}

// trafficOf returns up to 256 messages of one size: text messages of the real
// traffic, each with those after it as far as it is too short.
func trafficOf(tb testing.TB, size int) (pieces [][]byte) {
	tb.Helper()
	var all []byte
	var starts []int
	for _, set := range traffic.Sets() {
		messages, err := traffic.Load(set)
		if err != nil {
			tb.Fatal(err)
		}
		for _, m := range messages {
			if m.Opcode == frames.Text {
				starts = append(starts, len(all))
				all = append(all, m.Payload...)
			}
		}
	}
	all = append(all, all[:size]...)
	for i := 0; i < 256; i++ {
		start := starts[i*len(starts)/256]
		pieces = append(pieces, all[start:start+size])
	}
	return pieces
}

// cleanTraffic is trafficOf without those that a rule hits, joined anew if that
// leaves none.
func cleanTraffic(tb testing.TB, s *policy.Scope, size int) (clean [][]byte) {
	tb.Helper()
	hit := func(m []byte) bool { return s.Message(frames.ToServer, frames.Text, m).Rules != nil }
	for _, m := range trafficOf(tb, size) {
		if !hit(m) {
			clean = append(clean, m)
		}
	}
	if len(clean) > 0 {
		return clean
	}
	var joined []byte
	for _, m := range trafficOf(tb, 1<<10) {
		if n := len(joined); !hit(m) {
			if joined = append(joined, m...); hit(joined) {
				joined = joined[:n]
			}
		}
	}
	if len(joined) == 0 {
		tb.Fatal("no traffic is clean")
	}
	return [][]byte{bytes.Repeat(joined, size/len(joined)+1)[:size]}
}

// planted returns the messages with a secret in the middle of each.
func planted(messages [][]byte) (all [][]byte) {
	for i, m := range messages {
		m = bytes.Clone(m)
		secret := secrets[i%len(secrets)]
		copy(m[(len(m)-len(secret))/2:], secret)
		all = append(all, m)
	}
	return all
}

// secrets are made up, and built here so that no scanner takes them for real.
var secrets = []string{
	`"pan":"4012 8888 8888 1881"`,
	`"key":"AK` + `IAZ3MJ7QW2XK5VNB4T"`,
	`token=gh` + `p_x7Kq2mWz9RtY4vBn6cLp3sDf8gHj1aEuQwZk `,
	`xo` + `xb-123456789012-1234567890123-ZbCdEfGhIjKlMnOpQrStUvWx `,
	`postgres://app:no-secret@db.example/app`,
	`"api_key":"9f8a7b6c5d4e3f2a1b0c9d8e7f6a5b4c"`,
}

func BenchmarkScope(b *testing.B) {
	p := load(b, ruleSet(b, 10))
	b.ReportAllocs()
	for b.Loop() {
		p.Scope(policy.Upgrade{Host: "chat.demo.test", Path: "/ws"})
	}
}
