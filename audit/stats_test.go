package audit

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// A talk makes the records of connections as the gateway does.
type talk struct {
	events  []Event
	rolling map[string]*Totals
}

func (k *talk) add(e Event, conn string) *Event {
	e.Conn = conn
	e.Time = at(len(k.events))
	e.Host = "host-" + conn[:1] + ".example:443"
	e.Client = netip.MustParseAddrPort("10.0.0." + fmt.Sprint(conn[0]-'a') + ":1000")
	k.events = append(k.events, e)
	return &k.events[len(k.events)-1]
}

func (k *talk) open(conn string) {
	if k.rolling == nil {
		k.rolling = make(map[string]*Totals)
	}
	k.rolling[conn] = &Totals{}
	k.add(Event{Event: ConnOpen}, conn)
}

func (k *talk) message(conn, dir, text string) *Event {
	sum := sha256.Sum256([]byte(text))
	tally := &k.rolling[conn].ToServer
	if dir == "to-client" {
		tally = &k.rolling[conn].ToClient
	}
	tally.Messages++
	tally.Bytes += int64(len(text))
	tally.SHA256 = sha256.Sum256(append(tally.SHA256[:], sum[:]...))
	m := &Message{Dir: dir, Opcode: "text", Size: int64(len(text)), WireSize: int64(len(text)) + 6, Frames: 1, SHA256: sum}
	return k.add(Event{Event: WSMessage, Msg: m, Action: "allow"}, conn)
}

func (k *talk) close(conn string) *Event {
	return k.add(Event{Event: ConnClose, State: StateInspected, Totals: k.rolling[conn]}, conn)
}

func (k *talk) stats(t *testing.T, drop ...int) Stats {
	t.Helper()
	dir := t.TempDir()
	events := slices.Clone(k.events)
	for _, i := range slices.Backward(drop) {
		events = slices.Delete(events, i, i+1)
	}
	writeEvents(t, Options{Dir: dir, Level: Frames}, events)
	c := NewCounter()
	for _, r := range mustRead(t, dir, Filter{}) {
		c.Add(&r)
	}
	return c.Stats(2)
}

func ordinaryTalk() *talk {
	k := new(talk)
	k.events = append(k.events, Event{Event: GatewayStart, Time: at(0)})
	k.open("a1")
	k.open("b1")
	k.message("a1", "to-server", "one") // 3
	k.message("b1", "to-server", "x")
	k.message("a1", "to-client", "three") // 5
	e := k.message("a1", "to-server", "four")
	e.Rules, e.Shadow, e.Action = []string{"cards"}, []string{"trial"}, "drop"
	k.close("a1") // 7
	k.open("a2")
	k.close("a2").State = StateBypassed
	k.events = append(k.events, Event{Event: AuditGap, Time: at(60), Gap: &Gap{Count: 4, Bytes: 7}})
	return k
}

func TestStats(t *testing.T) {
	s := ordinaryTalk().stats(t)
	if s.Records != 11 || !s.From.Equal(at(0)) || !s.To.Equal(at(60)) {
		t.Errorf("%d records, %v to %v", s.Records, s.From, s.To)
	}
	if want := map[string]int64{GatewayStart: 1, ConnOpen: 3, WSMessage: 4, ConnClose: 2, AuditGap: 1}; !maps.Equal(s.Events, want) {
		t.Errorf("events %v", s.Events)
	}
	if want := map[string]int64{"allow": 3, "drop": 1}; !maps.Equal(s.Actions, want) {
		t.Errorf("actions %v", s.Actions)
	}
	if want := map[string]int64{StateInspected: 1, StateBypassed: 1}; !maps.Equal(s.States, want) {
		t.Errorf("states %v", s.States)
	}
	if want := (ConnectionStats{Opened: 3, Closed: 2, Open: 1}); s.Connections != want {
		t.Errorf("connections %+v", s.Connections)
	}
	if want := (DirectionStats{Messages: 2, Bytes: 7, RecordedMessages: 3, RecordedBytes: 8}); s.ToServer != want {
		t.Errorf("to server %+v", s.ToServer)
	}
	if want := (DirectionStats{Messages: 1, Bytes: 5, RecordedMessages: 1, RecordedBytes: 5}); s.ToClient != want {
		t.Errorf("to client %+v", s.ToClient)
	}
	if s.Compared != 1 || s.Differing != 0 || s.Differences != nil {
		t.Errorf("compared %d, differing %d: %v", s.Compared, s.Differing, s.Differences)
	}
	if want := (GapStats{Gaps: 1, Lost: 4, Bytes: 7}); s.Gaps != want {
		t.Errorf("gaps %+v", s.Gaps)
	}
	if want := []Ranked{{Name: "host-a.example", Connections: 2, Records: 7}, {Name: "host-b.example", Records: 2}}; !slices.Equal(s.Hosts, want) {
		t.Errorf("hosts %+v", s.Hosts)
	}
	if want := []Ranked{{Name: "10.0.0.0", Connections: 2, Records: 7}, {Name: "10.0.0.1", Records: 2}}; !slices.Equal(s.Clients, want) {
		t.Errorf("clients %+v", s.Clients)
	}
	if want := []Ranked{{Name: "cards", Records: 1}, {Name: "trial", Shadow: 1}}; !slices.Equal(s.Rules, want) {
		t.Errorf("rules %+v", s.Rules)
	}
}

// What is missing or changed shows in the sums.
func TestStatsDoNotAddUp(t *testing.T) {
	tests := []struct {
		name   string
		change func(k *talk)
		drop   int // index of a record that is not there; 0: all are
		want   string
		conns  ConnectionStats
	}{
		{name: "a message is missing", drop: 3,
			want: "a1: to-server: 1 messages recorded, 2 counted", conns: ConnectionStats{Opened: 3, Closed: 2, Open: 1}},
		{name: "another size", change: func(k *talk) { k.events[5].Msg.Size = 6 },
			want: "a1: to-client: 6 bytes recorded, 5 counted", conns: ConnectionStats{Opened: 3, Closed: 2, Open: 1}},
		{name: "another content", change: func(k *talk) { k.events[5].Msg.SHA256[0] ^= 1 },
			want: "a1: to-client: the rolling hash of the messages is another one", conns: ConnectionStats{Opened: 3, Closed: 2, Open: 1}},
		{name: "another order", change: func(k *talk) {
			k.events[3].Msg.SHA256, k.events[6].Msg.SHA256 = k.events[6].Msg.SHA256, k.events[3].Msg.SHA256
		}, want: "a1: to-server: the rolling hash of the messages is another one", conns: ConnectionStats{Opened: 3, Closed: 2, Open: 1}},
		{name: "the open is missing", drop: 1, conns: ConnectionStats{Opened: 2, OpenedBefore: 1, Closed: 2, Open: 1}},
		{name: "the close is missing", drop: 7, conns: ConnectionStats{Opened: 3, Closed: 1, Open: 2}},
		{name: "a crash", change: func(k *talk) {
			k.events = append(k.events, Event{Event: GatewayStart, Time: at(99)})
		}, conns: ConnectionStats{Opened: 3, Closed: 2, Cut: 1}},
		// The gateway is told to erase what ended long ago, and what goes on.
		{name: "an erasure", change: func(k *talk) {
			k.add(Event{Event: AdminErase}, "a1")
			k.add(Event{Event: AdminErase}, "b1")
			k.events = append(k.events, Event{Event: GatewayStart, Time: at(99)})
		}, conns: ConnectionStats{Opened: 3, Closed: 2, Cut: 1}},
		{name: "no single messages", change: func(k *talk) {
			k.events = slices.DeleteFunc(k.events, func(e Event) bool { return e.Event == WSMessage && e.Action == "allow" })
		}, conns: ConnectionStats{Opened: 3, Closed: 2, Open: 1}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			k := ordinaryTalk()
			if tt.change != nil {
				tt.change(k)
			}
			var drop []int
			if tt.drop > 0 {
				drop = append(drop, tt.drop)
			}
			s := k.stats(t, drop...)
			var got []string
			for _, d := range s.Differences {
				got = append(got, d.Conn+": "+d.What)
			}
			if strings.Join(got, "; ") != tt.want || s.Differing != int64(len(got)) {
				t.Errorf("got %q, %d, want %q", got, s.Differing, tt.want)
			}
			if s.Connections != tt.conns {
				t.Errorf("connections %+v, want %+v", s.Connections, tt.conns)
			}
			c := s.Connections
			if c.Opened+c.OpenedBefore != c.Closed+c.Open+c.Cut {
				t.Errorf("connections do not add up: %+v", c)
			}
		})
	}
}
