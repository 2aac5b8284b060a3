package audit

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Stats are sums over records, and how far the records agree with each other.
type Stats struct {
	Records int64     `json:"records"`
	From    time.Time `json:"from"` // earliest time of a record; zero: no records
	To      time.Time `json:"to"`   // latest

	Events  map[string]int64 `json:"events"`
	Actions map[string]int64 `json:"actions"`
	States  map[string]int64 `json:"states"` // of the connections that ended

	Connections ConnectionStats `json:"connections"`
	ToServer    DirectionStats  `json:"to_server"`
	ToClient    DirectionStats  `json:"to_client"`

	// Compared counts the connections whose messages were held against their
	// conn.close; Differing those of them that do not agree. Single messages
	// that are not recorded (levels connections and violations) cannot be
	// compared.
	Compared    int64        `json:"compared"`
	Differing   int64        `json:"differing"`
	Differences []Difference `json:"differences,omitempty"` // the first hundred

	Gaps GapStats `json:"gaps"`

	Hosts   []Ranked `json:"hosts"`
	Clients []Ranked `json:"clients"`
	Rules   []Ranked `json:"rules"`
}

// ConnectionStats say what became of connections. Opened plus OpenedBefore is
// Closed plus Open plus Cut.
type ConnectionStats struct {
	Opened       int64 `json:"opened"`
	OpenedBefore int64 `json:"opened_before"` // seen without a conn.open: it is before the records, or lost
	Closed       int64 `json:"closed"`
	Open         int64 `json:"open"` // no conn.close yet
	Cut          int64 `json:"cut"`  // no conn.close, and the gateway was started again since
}

// DirectionStats are what crossed in one direction.
type DirectionStats struct {
	Messages int64 `json:"messages"` // by the totals of conn.close
	Bytes    int64 `json:"bytes"`
	// RecordedMessages and RecordedBytes are those of ws.message records, of
	// connections that are still open too.
	RecordedMessages int64 `json:"recorded_messages"`
	RecordedBytes    int64 `json:"recorded_bytes"`
}

// GapStats sum up what the log says of its own losses.
type GapStats struct {
	Gaps  int64 `json:"gaps"`
	Lost  int64 `json:"lost"`  // records, as far as they are known
	Bytes int64 `json:"bytes"` // cut from torn tails
}

// A Difference is a connection whose records do not add up to its conn.close.
type Difference struct {
	Conn string `json:"conn"`
	Seq  uint64 `json:"seq"` // of the conn.close
	What string `json:"what"`
}

// A Ranked is a host, client or rule with its share.
type Ranked struct {
	Name        string `json:"name"`
	Connections int64  `json:"connections,omitempty"` // that ended
	Records     int64  `json:"records"`
	Shadow      int64  `json:"shadow,omitempty"` // of a rule: records in which it would have matched
}

const (
	maxDifferences = 100
	// maxNames bounds what a log full of made-up names costs: there are no more
	// hosts, clients or rules than that to rank.
	maxNames = 1 << 20
)

// A Counter adds up records. They come in the order of the log, all of a time
// or of some clients: of a connection, all or none.
type Counter struct {
	s       Stats
	conns   map[string]*connCount
	hosts   map[string]*Ranked
	clients map[string]*Ranked
	rules   map[string]*Ranked
	plain   int64 // messages that only level messages has: nothing matched, and they passed

	differences []Difference // the first of them
	differing   int64
}

// A connCount is what was seen of a connection that is open.
type connCount struct {
	opened             bool
	toServer, toClient messageCount
}

type messageCount struct {
	messages, bytes int64
	rolling         [sha256.Size]byte
	unhashed        bool // a record has no hash
}

// NewCounter returns a Counter of nothing.
func NewCounter() *Counter {
	return &Counter{
		s:     Stats{Events: make(map[string]int64), Actions: make(map[string]int64), States: make(map[string]int64)},
		conns: make(map[string]*connCount), hosts: make(map[string]*Ranked), clients: make(map[string]*Ranked),
		rules: make(map[string]*Ranked),
	}
}

// Add counts a record and keeps nothing of it but names.
func (c *Counter) Add(r *Record) {
	s := &c.s
	if s.Records == 0 || r.Time.Before(s.From) {
		s.From = r.Time
	}
	if s.Records == 0 || r.Time.After(s.To) {
		s.To = r.Time
	}
	s.Records++
	s.Events[r.Event]++
	if r.Action != "" {
		s.Actions[r.Action]++
	}
	if r.Gap != nil {
		s.Gaps.Gaps++
		s.Gaps.Lost += r.Gap.Count
		s.Gaps.Bytes += r.Gap.Bytes
	}
	c.rank(r)
	if r.Event == GatewayStart {
		// Whatever the gateway before had open ended with it.
		s.Connections.Cut += int64(len(c.conns))
		clear(c.conns)
	}
	// What an administrator does about a connection, such as to erase its payloads,
	// is not of it, and mostly after its end.
	if r.Conn != "" && !strings.HasPrefix(r.Event, "admin.") {
		c.connection(r)
	}
}

// rank counts a record for its host, its client and its rules. A conn.close
// names the rule of its connection once more, which is not a second hit.
func (c *Counter) rank(r *Record) {
	count := func(m map[string]*Ranked, name string) *Ranked {
		if m[name] == nil {
			if name == "" || len(m) >= maxNames {
				return new(Ranked) // nobody's
			}
			m[name] = &Ranked{Name: name}
		}
		return m[name]
	}
	client := ""
	if addr, ok := clientAddr(r.Client); ok {
		client = addr.String()
	}
	for _, ranked := range [...]*Ranked{count(c.hosts, plainHost(cmp.Or(r.Host, r.SNI))), count(c.clients, client)} {
		ranked.Records++
		if r.Event == ConnClose {
			ranked.Connections++
		}
	}
	if r.Event == ConnClose {
		return
	}
	for _, rule := range r.Rules {
		count(c.rules, rule).Records++
	}
	for _, rule := range r.Shadow {
		count(c.rules, rule).Shadow++
	}
}

func (c *Counter) connection(r *Record) {
	conn := c.conns[r.Conn]
	if conn == nil {
		conn = new(connCount)
		c.conns[r.Conn] = conn
		if r.Event == ConnOpen {
			conn.opened = true
			c.s.Connections.Opened++
		} else {
			c.s.Connections.OpenedBefore++
		}
	}
	switch r.Event {
	case WSMessage:
		c.message(conn, r)
	case ConnClose:
		c.close(conn, r)
		delete(c.conns, r.Conn)
	}
}

func (c *Counter) message(conn *connCount, r *Record) {
	if len(r.Rules)+len(r.Shadow) == 0 && (r.Action == "" || r.Action == "allow") {
		c.plain++
	}
	count, sum := &conn.toServer, &c.s.ToServer
	if r.Dir == "to-client" {
		count, sum = &conn.toClient, &c.s.ToClient
	}
	sum.RecordedMessages++
	sum.RecordedBytes += r.Size
	count.messages++
	count.bytes += r.Size
	hash, err := hex.DecodeString(r.SHA256)
	if err != nil || len(hash) != sha256.Size {
		count.unhashed = true
		return
	}
	count.rolling = sha256.Sum256(append(count.rolling[:], hash...))
}

func (c *Counter) close(conn *connCount, r *Record) {
	s := &c.s
	s.Connections.Closed++
	s.States[cmp.Or(r.State, "none")]++
	totals := cmp.Or(r.Totals, new(RecordTotals))
	for sum, tally := range map[*DirectionStats]RecordTally{&s.ToServer: totals.ToServer, &s.ToClient: totals.ToClient} {
		sum.Messages += tally.Messages
		sum.Bytes += tally.Bytes
	}
	if !conn.opened || totals.ToServer.Messages+totals.ToClient.Messages+conn.toServer.messages+conn.toClient.messages == 0 {
		return // part of it is not here, or it had no messages
	}
	s.Compared++
	what := cmp.Or(conn.toServer.differs("to-server", totals.ToServer), conn.toClient.differs("to-client", totals.ToClient))
	if what == "" {
		return
	}
	c.differing++
	if len(c.differences) < maxDifferences {
		c.differences = append(c.differences, Difference{Conn: r.Conn, Seq: r.Seq, What: what})
	}
}

// differs says in words how the messages of a direction are not its totals.
func (m *messageCount) differs(dir string, t RecordTally) string {
	switch {
	case m.messages != t.Messages:
		return fmt.Sprintf("%s: %d messages recorded, %d counted", dir, m.messages, t.Messages)
	case m.bytes != t.Bytes && m.messages > 0:
		return fmt.Sprintf("%s: %d bytes recorded, %d counted", dir, m.bytes, t.Bytes)
	case m.messages > 0 && !m.unhashed && t.SHA256 != "" && hex.EncodeToString(m.rolling[:]) != t.SHA256:
		return dir + ": the rolling hash of the messages is another one"
	}
	return ""
}

// Stats returns the sums, with the first top hosts, clients and rules.
func (c *Counter) Stats(top int) Stats {
	s := c.s
	s.Connections.Open = int64(len(c.conns))
	if c.plain > 0 {
		s.Differences, s.Differing = c.differences, c.differing
	} else {
		// No message that nothing was to be said of: the log is at a level that
		// does not have them, or there were none.
		s.Compared = 0
	}
	s.Hosts, s.Clients, s.Rules = ranking(c.hosts, top), ranking(c.clients, top), ranking(c.rules, top)
	return s
}

// ranking returns the first by connections, records and name.
func ranking(m map[string]*Ranked, top int) []Ranked {
	list := make([]Ranked, 0, len(m))
	for _, r := range m {
		list = append(list, *r)
	}
	slices.SortFunc(list, func(a, b Ranked) int {
		return cmp.Or(cmp.Compare(b.Connections, a.Connections), cmp.Compare(b.Records+b.Shadow, a.Records+a.Shadow),
			cmp.Compare(a.Name, b.Name))
	})
	return slices.Clone(list[:min(top, len(list))])
}
