package soak

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"framegate/audit"
)

// A record is what is looked at in a record of the log.
type record struct {
	audit.Record
	SHA256 sum `json:"sha256"`
	Totals *struct {
		ToServer tally `json:"to_server"`
		ToClient tally `json:"to_client"`
	} `json:"totals"`
	Gap struct {
		Count int64 `json:"count"`
	} `json:"gap"`
}

type tally struct {
	Messages int    `json:"messages"`
	SHA256   string `json:"sha256"`
}

// A connection is one as the log has it.
type connection struct {
	events   map[string]int
	messages [2][]record // by direction, the client's first
	totals   *[2]tally   // of conn.close; nil if that was lost
	closed   time.Time   // of ws.close
	reason   string
}

var directions = []string{"to-server", "to-client"}

// books are all that is compared.
type books struct {
	t         *testing.T
	onFailure string
	injected  *injected
	clients   []*conversation
	servers   *notes
	counted   series // by the gateway itself, before it stopped

	reasons     map[string]string      // of what has no path, by the client's address
	connections map[string]*connection // by path, which is the id of the conversation
	events      map[string]int64       // records by event
	handed      int                    // upgrades, as the log has them
	gap         int64                  // records that audit.gap records speak of

	sent, recorded, delivered [2]int
	outcomes                  map[string]int
	excused                   map[string]int // ends that a fault of the network explains
	wrong                     int
}

// read reads the log.
func (b *books) read(dir string) {
	r, err := audit.NewReader(dir, audit.Filter{})
	if err != nil {
		b.t.Fatal(err)
	}
	b.connections, b.events, b.reasons = map[string]*connection{}, map[string]int64{}, map[string]string{}
	byConn := map[string]*connection{}
	for rec, err := range r.Records() {
		x := record{Record: rec}
		if err == nil {
			err = json.Unmarshal(rec.Raw, &x)
		}
		if err != nil {
			b.t.Fatal(err)
		}
		b.events[x.Event]++
		b.gap += x.Gap.Count
		if x.Event == audit.GatewayHandover && x.Action == "done" {
			b.handed++
		}
		if x.Conn == "" {
			continue
		}
		c := byConn[x.Conn]
		if c == nil {
			c = &connection{events: map[string]int{}}
			byConn[x.Conn] = c
		}
		c.events[x.Event]++
		if id, ok := strings.CutPrefix(x.Path, "/"); ok {
			if other := b.connections[id]; other != nil && other != c {
				b.t.Errorf("%s is two connections in the log", x.Path)
			}
			b.connections[id] = c
		}
		switch x.Event {
		case audit.WSMessage:
			i := slices.Index(directions, x.Dir)
			c.messages[i] = append(c.messages[i], x)
		case audit.TLSFail:
			b.reasons[x.Client] = x.Reason
		case audit.WSClose:
			c.closed = x.Time
			c.reason = fmt.Sprint(x.Code, " ", x.Reason)
		case audit.ConnClose:
			if x.Reason != "" {
				b.reasons[x.Client] = x.Reason
			}
			if x.Totals != nil {
				c.totals = &[2]tally{x.Totals.ToServer, x.Totals.ToClient}
			}
		}
	}
}

// reconcile compares.
func (b *books) reconcile() {
	b.outcomes, b.excused = map[string]int{}, map[string]int{}
	b.servers.mu.Lock()
	defer b.servers.mu.Unlock()
	for _, c := range b.clients {
		b.conversation(c)
	}
	b.total()
}

func (b *books) errorf(c *conversation, format string, args ...any) {
	b.wrong++
	if b.wrong > 50 {
		return // they say the same
	}
	b.t.Errorf("%s (%s to %s, compressed %v, %s to %s): %s", c.id, c.kind.name, c.host, c.compressed,
		c.begun.Format("15:04:05.000"), c.ended.Format("15:04:05.000"), fmt.Sprintf(format, args...))
}

// cause names the fault of the network that ended c when it ended, and in the
// way in which it would have; "" if there was none.
func (b *books) cause(c *conversation) string {
	for _, k := range b.injected.kills {
		// Whatever lives when the server is killed ends by that. When is up to its
		// peer: one that stalls learns of it late.
		if c.host == killedHost && !c.begun.After(k.to) && !c.ended.Before(k.from) && slices.Contains(byKill, c.outcome) {
			return "the server was killed"
		}
	}
	ended := c.ended
	if rec := b.connections[c.id]; rec != nil && !rec.closed.IsZero() {
		ended = rec.closed
	}
	for _, f := range b.injected.full {
		if b.onFailure == "block" && f.covers(ended) && slices.Contains(byFull, c.outcome) {
			return "the disk was full"
		}
	}
	return ""
}

// What a client sees of a server that is killed: during the life of a connection,
// and when there is none to connect to.
var byKill = []string{endReset, endEOF, handshake + "remote error: tls: internal error",
	handshake + "remote error: tls: handshake failure", handshake + "status 502"}

// What it sees of a log that cannot be written: of a message, at the beginning
// of a connection, and of an upgrade.
var byFull = []string{closedBy(1011), handshake + endReset, handshake + "status 503"}

func (b *books) conversation(c *conversation) {
	b.outcomes[c.outcome]++
	cause := b.cause(c)
	asPlanned := slices.Contains(c.kind.expect, c.outcome)
	rec := b.connections[c.id]
	if !asPlanned {
		if cause == "" || strings.Contains(c.outcome, endTimeout) {
			reason := b.reasons[c.local]
			if rec != nil {
				reason = rec.reason
			}
			b.errorf(c, "ended with %q, the log says %q, the server %q", c.outcome, reason, b.servers.ended[c.id])
		}
		b.excused[cause+": "+c.outcome]++
	}
	if rec == nil {
		rec = &connection{}
		if c.upgraded && b.onFailure == "block" {
			b.errorf(c, "is not in the log")
		}
	}
	if asPlanned && c.upgraded && b.onFailure == "block" && !b.disturbed(c) {
		for _, event := range []string{audit.ConnOpen, audit.WSOpen, audit.WSClose, audit.ConnClose} {
			if rec.events[event] != 1 {
				b.errorf(c, "%d records of %s", rec.events[event], event)
			}
		}
	}
	sent := [2][]sum{c.sent, b.servers.sent[c.id]}
	got := [2][]sum{b.servers.got[c.id], c.got}
	for dir := range directions {
		b.sent[dir] += len(sent[dir])
		b.recorded[dir] += len(rec.messages[dir])
		b.delivered[dir] += len(got[dir])
		b.direction(c, dir, sent[dir], rec, got[dir], asPlanned && c.kind.orderly[dir] && !b.disturbed(c))
	}
}

// disturbed reports whether what c had sent last may not have arrived, or its end
// not have been recorded, because of a fault just after it.
func (b *books) disturbed(c *conversation) bool {
	hurt := func(f span) bool { return f.covers(c.ended) || f.covers(c.ended.Add(justBefore)) }
	return c.host == killedHost && slices.ContainsFunc(b.injected.kills, hurt) ||
		b.onFailure == "block" && slices.ContainsFunc(b.injected.full, hurt)
}

// justBefore is how long what a client has sent may be on its way when it ends.
const justBefore = 2 * time.Second

// direction compares the messages that went one way: sent, judged by the
// gateway, recorded and delivered.
func (b *books) direction(c *conversation, dir int, sent []sum, rec *connection, got []sum, orderly bool) {
	name := directions[dir]
	records := rec.messages[dir]
	judged := len(records)
	if rec.totals != nil {
		judged = rec.totals[dir].Messages
		switch {
		case judged > len(sent):
			b.errorf(c, "%s: conn.close tells of %d messages, %d were sent", name, judged, len(sent))
			return
		case rec.totals[dir].SHA256 != "" && rec.totals[dir].SHA256 != rolling(sent[:judged]):
			b.errorf(c, "%s: the digest of conn.close is not that of the %d messages sent first", name, judged)
		}
	} else if b.onFailure == "gap" {
		judged = len(sent)
	}
	// What was recorded is in the order in which it was sent, each once, and
	// with "block" without a hole.
	next, passed := 0, []sum(nil)
	for i, r := range records {
		at := slices.Index(sent[next:], r.SHA256)
		if at < 0 || at > 0 && b.onFailure == "block" {
			b.errorf(c, "%s: record %d is not the message that was sent next", name, i)
			return
		}
		if withheld := c.withheld[r.SHA256]; withheld != (r.Action == "drop" || r.Action == "close") {
			b.errorf(c, "%s: record %d says %q, withheld is %v", name, i, r.Action, withheld)
		}
		next += at + 1
	}
	may := sent[:judged]
	if b.onFailure == "block" {
		may = sent[:len(records)]
	}
	for _, s := range may {
		if !c.withheld[s] {
			passed = append(passed, s)
		}
	}
	if len(got) > len(passed) || !slices.Equal(got, passed[:len(got)]) {
		b.errorf(c, "%s: %d messages were delivered, which are not the first of the %d that may have been", name, len(got), len(passed))
	}
	if orderly && (judged != len(sent) || len(got) != len(passed)) {
		b.errorf(c, "%s: %d sent, %d judged, %d to be passed on, %d delivered", name, len(sent), judged, len(passed), len(got))
	}
}

// rolling is the digest of a direction, as docs/AUDIT-FORMAT.md has it.
func rolling(messages []sum) string {
	var d [sha256.Size]byte
	for _, m := range messages {
		b, _ := hex.DecodeString(string(m)) // sumOf made it
		d = sha256.Sum256(append(d[:], b...))
	}
	return hex.EncodeToString(d[:])
}

// total compares the number of records with what the gateway counted, and what
// is missing with what the log says is missing.
func (b *books) total() {
	if b.handed != b.injected.upgrades {
		b.t.Errorf("%d records of a gateway.handover that was done, %d upgrades", b.handed, b.injected.upgrades)
	}
	if b.injected.upgrades > 0 { // and no process counts for the others
		if b.gap > 0 {
			b.t.Errorf("%d records were lost", b.gap)
		}
		return
	}
	if lost := b.counted.sum("framegate_audit_lost_total"); b.gap != lost {
		b.t.Errorf("audit.gap records tell of %d lost records, the gateway counted %d", b.gap, lost)
	}
	if len(b.injected.full) > 0 && b.gap == 0 {
		b.t.Error("the disk was full, and nothing was lost")
	}
	if b.onFailure == "block" {
		return // what was refused may have been refused before it was anything
	}
	var upgraded, accepted, refused int64
	for _, c := range b.clients {
		if c.upgraded {
			upgraded++
		}
		if strings.HasPrefix(c.outcome, handshake+"status ") {
			refused++
		}
	}
	accepted = int64(len(b.servers.opened))
	var have int64
	for event, n := range b.events {
		if event != audit.AuditGap {
			have += n
		}
	}
	want := b.counted.sum("framegate_connections_opened_total") + b.counted.sum("framegate_connections_closed_total") +
		b.counted.sum("framegate_tls_failures_total") + b.counted.sum("framegate_messages_total") +
		b.counted.sum("framegate_reloads_total", `"policy"`, `"loaded"`) + b.counted.sum("framegate_reloads_total", `"policy"`, `"rejected"`)
	for _, event := range []string{audit.GatewayStart, audit.GatewayStop} {
		want += b.events[event]
	}
	want++ // policy.load at the start
	low, high := want+2*upgraded, want+2*accepted
	// These may be among the lost.
	requests, issued := b.events[audit.HTTPRequest], b.events[audit.CAIssue]
	low += requests + issued
	high += max(requests, refused) + max(issued, b.counted.sum("framegate_leaf_mints_total"))
	if have+b.gap < low || have+b.gap > high {
		b.t.Errorf("%d records and %d that audit.gap counts, expected %d to %d together; records by event: %v", have, b.gap, low, high, b.events)
	}
}

func (b *books) report(line func(string, any)) {
	kinds := map[string]int{}
	for _, c := range b.clients {
		kinds[c.kind.name]++
	}
	line("connections", len(b.clients))
	for _, name := range slices.Sorted(maps.Keys(kinds)) {
		line("  "+name, kinds[name])
	}
	for _, name := range slices.Sorted(maps.Keys(b.outcomes)) {
		line("ended: "+name, b.outcomes[name])
	}
	for dir, name := range directions {
		line("messages "+name, fmt.Sprintf("%d sent, %d recorded, %d delivered", b.sent[dir], b.recorded[dir], b.delivered[dir]))
	}
	line("records lost, as audit.gap says", b.gap)
	for _, name := range slices.Sorted(maps.Keys(b.excused)) {
		line("by "+name, b.excused[name])
	}
	line("not reconciled", b.wrong)
}
