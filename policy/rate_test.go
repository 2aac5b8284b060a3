package policy

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"framegate/frames"
)

func rated(id, rate string) string {
	return "[[rule]]\nid = \"" + id + "\"\naction = \"log\"\nmatch.contains = [\"" + id + "\"]\nrate = { " + rate + " }\n"
}

// count sends n messages and returns how many of them were over the rate.
func count(s *Scope, n int, text string) (over int) {
	for range n {
		if s.Message(frames.ToServer, frames.Text, []byte(text)).Action == Log {
			over++
		}
	}
	return over
}

func TestRates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := mustParse(t, rated("few", `messages = 3, window = "16s"`)+
			rated("large", `bytes = 100, window = "1m", per = "client"`)+
			rated("host", `messages = 2, window = "1h", per = "host"`)+
			rated("both", `messages = 2, bytes = 1000, window = "10s"`))
		scope := func(conn, client, host string) *Scope {
			return p.Scope(Upgrade{Conn: conn, Client: netip.MustParseAddr(client), Host: host})
		}
		a, b := scope("1", "10.0.0.1", "chat.example"), scope("2", "::ffff:10.0.0.1", "Chat.Example.:443")

		// By connection: three pass, the rest does not until the window has moved on.
		if got := count(a, 5, "few"); got != 2 {
			t.Errorf("%d over the rate, want 2", got)
		}
		if got := count(b, 3, "few"); got != 0 {
			t.Errorf("the other connection: %d over the rate", got)
		}
		time.Sleep(17 * time.Second)
		if got := count(a, 4, "few"); got != 1 {
			t.Errorf("after the window: %d over the rate, want 1", got)
		}
		// It slides: what came half a window ago still counts.
		time.Sleep(8 * time.Second)
		if got := count(a, 1, "few"); got != 1 {
			t.Errorf("within the window: %d over the rate, want 1", got)
		}

		// By client, in bytes, and by host, over connections.
		large := "large" + strings.Repeat(".", 45)
		if got := count(a, 1, large) + count(b, 1, large); got != 0 {
			t.Errorf("100 bytes: %d over the rate", got)
		}
		if got := count(b, 1, "large"); got != 1 {
			t.Errorf("105 bytes: %d over the rate, want 1", got)
		}
		if got := count(scope("3", "10.0.0.2", "x.example"), 1, "large"); got != 0 {
			t.Errorf("the other client: %d over the rate", got)
		}
		if got := count(a, 2, "host") + count(b, 1, "host"); got != 1 {
			t.Errorf("by host: %d over the rate, want 1", got)
		}
		if got := count(a, 1, "both"+strings.Repeat(".", 1000)); got != 1 {
			t.Errorf("one large message: %d over the rate, want 1", got)
		}
		// What the rule is not about is not counted.
		if got := count(scope("4", "10.0.0.4", "y.example"), 100, "nothing"); got != 0 {
			t.Errorf("%d of other messages over the rate", got)
		}
	})
}

// Counts outlive the policy that they were made for.
func TestRatesReload(t *testing.T) {
	rates := NewRates()
	text := rated("few", `messages = 3, window = "1h"`)
	one := mustParse(t, text).Scope(Upgrade{Conn: "1", Rates: rates})
	if got := count(one, 3, "few"); got != 0 {
		t.Errorf("%d over the rate", got)
	}
	for name, c := range map[string]struct {
		text string
		want int
	}{
		"same":         {text, 1},
		"lower":        {rated("few", `messages = 1, window = "1h"`), 1},
		"other window": {rated("few", `messages = 3, window = "2h"`), 0},
	} {
		if got := count(mustParse(t, c.text).Scope(Upgrade{Conn: "1", Rates: rates}), 1, "few"); got != c.want {
			t.Errorf("%s: %d over the rate, want %d", name, got, c.want)
		}
	}
}

// A message in parts counts once, when it is whole.
func TestRatesStream(t *testing.T) {
	s := mustParse(t, rated("few", `messages = 1, bytes = "1MB", window = "1h"`)).Scope(Upgrade{})
	part := []byte("few" + strings.Repeat(".", 100_000))
	for i := range 2 {
		st := s.Stream(frames.ToServer, frames.Text)
		for range 3 {
			if _, ok := st.Write(part); !ok {
				t.Fatal("refused")
			}
		}
		if v := st.End(); (v.Action == Log) != (i == 1) {
			t.Errorf("message %d: %v", i, v)
		}
	}
}

// However many there are to be counted, memory is bounded, and what goes first is
// what has expired.
func TestRatesBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewRates()
		for i := range 300_000 {
			r.add(rateKey{rule: "r", window: time.Minute, conn: fmt.Sprint(i)}, 1, time.Now())
		}
		total := 0
		for i := range r.shards {
			total += len(r.shards[i].counts)
		}
		if most := maxCounts * len(r.shards); total > most || total < most/2 {
			t.Errorf("%d counts, at most %d are kept", total, most)
		}
		time.Sleep(2 * time.Minute)
		for i := range 64 * 700 {
			r.add(rateKey{rule: "r", window: time.Minute, conn: fmt.Sprint("new", i)}, 1, time.Now())
		}
		total = 0
		for i := range r.shards {
			total += len(r.shards[i].counts)
		}
		if total != 64*700 {
			t.Errorf("%d counts, %d are of now", total, 64*700)
		}
	})
}
