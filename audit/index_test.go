package audit

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// variedEvents are messages of few hosts, clients and rules over some hours.
func variedEvents(n int) []Event {
	rng := rand.New(rand.NewPCG(1, 2))
	hosts := []string{"a.example.com", "B.example.com:8443", "deep.a.example.com", "[2001:db8::1]:443", "other.test.", ""}
	clients := []string{"10.0.0.1:1000", "10.0.0.2:1000", "[::ffff:10.9.9.9]:5", "[2001:db8::7]:9", ""}
	actions := []string{"allow", "log", "drop", ""}
	var events []Event
	for i := range n {
		e := Event{
			Time: at(i * 60), Event: WSMessage, Conn: "c" + strconv.Itoa(i/7),
			Host: hosts[rng.IntN(len(hosts))], SNI: hosts[rng.IntN(len(hosts))], Action: actions[rng.IntN(len(actions))],
		}
		e.Client, _ = netip.ParseAddrPort(clients[rng.IntN(len(clients))])
		if i%11 == 0 {
			e.Rules = []string{"r" + strconv.Itoa(i/50)}
		}
		if i%13 == 0 {
			e.Shadow = []string{"shadow"}
		}
		if i%17 == 0 {
			e.Event = TLSFail
		}
		events = append(events, e)
	}
	return events
}

// variedLog is a log of small blocks in several segments.
func variedLog(t *testing.T, dir string, n int) {
	t.Helper()
	var blocks [][]Event
	for events := range slices.Chunk(variedEvents(n), 5) {
		blocks = append(blocks, events)
	}
	writeEvents(t, Options{Dir: dir, SegmentSize: 2500}, blocks...)
	if n := len(segmentFiles(t, dir)); n < 4 {
		t.Fatalf("%d segments", n)
	}
}

func variedFilters() []Filter {
	return []Filter{
		{}, {From: at(3000), To: at(4000)}, {To: at(600)}, {From: at(11000)}, {From: at(1e6)},
		{Host: "a.example.com"}, {Host: "b.example.com"}, {Host: "*.example.com"}, {Host: "*.a.example.com"}, {Host: "*"},
		{Host: "2001:db8::1"}, {Host: "other.test"}, {Host: "nowhere.test"},
		{Client: "10.0.0.1"}, {Client: "10.0.0.0/8"}, {Client: "10.9.9.9/32"}, {Client: "::ffff:10.9.9.9"}, {Client: "2001:db8::7"},
		{Rule: "r0"}, {Rule: "r3"}, {Rule: "shadow"}, {Rule: "no"}, {Event: TLSFail}, {Event: "tls.*"}, {Event: `tls\.fail`},
		{Action: "drop"}, {Conn: "c7"}, {Conn: "c7", Action: "drop"}, {Conn: "c7", From: at(1e6)}, {Text: "c1"},
		{Host: "a.example.com", From: at(2000), To: at(9000), Event: TLSFail},
	}
}

// answer is what a query prints, damage included.
func answer(t *testing.T, dir string, f Filter, noIndex bool) string {
	t.Helper()
	r, err := NewReader(dir, f)
	if err != nil {
		t.Fatal(err)
	}
	r.NoIndex = noIndex
	var b strings.Builder
	for rec, err := range r.Records() {
		if err != nil {
			fmt.Fprintln(&b, err)
		} else {
			fmt.Fprintf(&b, "%s\n", rec.Raw)
		}
	}
	return b.String()
}

func mustIndex(t testing.TB, dir string, rebuild bool) []IndexedSegment {
	t.Helper()
	var list []IndexedSegment
	for s, err := range Index(dir, rebuild) {
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, s)
	}
	return list
}

// sameAnswers says that an index changes no answer, and how many filters used it.
func sameAnswers(t *testing.T, dir, when string) {
	t.Helper()
	for _, f := range variedFilters() {
		if got, want := answer(t, dir, f, false), answer(t, dir, f, true); got != want {
			t.Errorf("%s: %+v:\ngot  %s\nwant %s", when, f, got, want)
		}
	}
}

// indexUsed counts the segments in which a query goes by the index.
func indexUsed(t *testing.T, dir string, f Filter) int {
	t.Helper()
	r, err := NewReader(dir, f)
	if err != nil {
		t.Fatal(err)
	}
	names, err := segments(dir)
	if err != nil {
		t.Fatal(err)
	}
	used := 0
	for _, name := range names {
		s, err := openSource(dir, name, r.id)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, ok := r.match.byIndex(dir, s); ok {
			used++
		}
		s.close()
	}
	return used
}

func TestIndexChangesNoAnswer(t *testing.T) {
	dir := t.TempDir()
	variedLog(t, dir, 200)
	segs := len(segmentFiles(t, dir))
	first := mustIndex(t, dir, false)
	if len(first) != segs {
		t.Fatalf("%d segments indexed of %d", len(first), segs)
	}
	for _, s := range first {
		if s.Kept || s.Covered != s.Size || s.Blocks == 0 || s.Damage != nil {
			t.Errorf("first: %+v", s)
		}
	}
	if used := indexUsed(t, dir, Filter{Conn: "c7"}); used != segs {
		t.Errorf("index used in %d segments of %d", used, segs)
	}
	sameAnswers(t, dir, "fresh")

	for _, s := range mustIndex(t, dir, false) {
		if !s.Kept {
			t.Errorf("made again: %+v", s)
		}
	}
	for _, s := range mustIndex(t, dir, true) {
		if s.Kept {
			t.Errorf("not made again: %+v", s)
		}
	}

	// The log goes on: the index knows the beginning of a segment.
	writeEvents(t, Options{Dir: dir, SegmentSize: 2500}, []Event{{Time: at(5), Event: TLSFail, Conn: "c7"}})
	sameAnswers(t, dir, "after more records")
	kept := 0
	for _, s := range mustIndex(t, dir, false) {
		if s.Kept {
			kept++
		}
	}
	if kept < segs-1 || kept == len(segmentFiles(t, dir)) {
		t.Errorf("%d kept", kept)
	}
	sameAnswers(t, dir, "after the index of more records")

	// A segment goes, and its index with it.
	names := segmentFiles(t, dir)
	if err := os.Remove(filepath.Join(dir, segmentDir, names[0])); err != nil {
		t.Fatal(err)
	}
	mustIndex(t, dir, false)
	if _, err := os.Stat(filepath.Join(dir, indexDir, indexName(names[0]))); !os.IsNotExist(err) {
		t.Errorf("index of a segment that is gone: %v", err)
	}
}

func TestIndexLayout(t *testing.T) {
	x := indexFile{
		ID: logID{1}, Number: 2, Covered: 3, Blocks: 4, First: -5, Last: 6, Headers: [32]byte{7},
		LastBlock: 8, LastHeader: [32]byte{9}, Filters: 10, Table: 11,
	}
	b := x.append([]byte("before"))[6:]
	if len(b) != indexHead {
		t.Fatalf("%d bytes", len(b))
	}
	if got, err := parseIndexHead(b); err != nil || got != x {
		t.Errorf("got %+v, %v", got, err)
	}
	e := indexed{StoredLen: 1, First: -2, Last: 3, Header: [8]byte{4}, FilterLen: 5, FilterCRC: 6}
	if b := e.append(nil); len(b) != indexEntry || parseIndexEntry(b) != e {
		t.Errorf("entry of %d bytes: %+v", len(b), parseIndexEntry(b))
	}
}

func TestBloom(t *testing.T) {
	keys := make(map[string]struct{})
	for i := range 2000 {
		keys["n"+strconv.Itoa(i)] = struct{}{}
	}
	filter := bloom(keys)
	for key := range keys {
		if !mayHave(filter, key) {
			t.Fatalf("%s is not in its filter", key)
		}
	}
	wrong := 0
	for i := range 10000 {
		if mayHave(filter, "x"+strconv.Itoa(i)) {
			wrong++
		}
	}
	if wrong > 200 {
		t.Errorf("%d of 10000 others are in the filter", wrong)
	}
	if mayHave(bloom(nil), "a") {
		t.Error("an empty block may have a key")
	}
}

// What matches is never passed over.
func FuzzIndexKeys(f *testing.F) {
	f.Add("a.example.com:1", "b.example.com", "10.0.0.1:1", "*.example.com", "10.0.0.1", "r")
	f.Add("[2001:db8::1]:443", "", "[::ffff:10.0.0.1]:1", "2001:db8::1", "10.0.0.0/8", "")
	f.Add("..a..b..", ".", "[fe80::1%eth0]:1", "*.", "fe80::1", "r")
	f.Add(strings.Repeat("a.", 400), "", "", "*."+strings.Repeat("a.", 200), "", "")
	f.Fuzz(func(t *testing.T, host, sni, client, wantHost, wantClient, rule string) {
		m, err := Filter{Host: wantHost, Client: wantClient, Rule: rule, Event: "e"}.compile()
		if err != nil {
			return
		}
		e := Event{Event: "e", Host: host, SNI: sni, Rules: []string{rule}}
		e.Client, _ = netip.ParseAddrPort(client)
		e.Time = time.Unix(0, 0)
		var r Record
		if err := json.Unmarshal(e.AppendJSON(nil, 1), &r); err != nil {
			t.Fatal(err)
		}
		if !m.match(&r) {
			return
		}
		keys := make(map[string]struct{})
		recordKeys(keys, &r)
		for _, key := range m.keys {
			if _, ok := keys[key]; !ok {
				t.Errorf("%s matches, but its block has no key %q", e.AppendJSON(nil, 1), key)
			}
		}
	})
}
