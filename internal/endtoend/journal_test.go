package endtoend

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"framegate/audit"
)

// A record is what these tests look at in a record of the log.
type record struct {
	audit.Record
	Server      string `json:"server"`
	Policy      string `json:"policy"`
	Subprotocol string `json:"subprotocol"`
	SHA256      string `json:"sha256"`
	WireSize    int64  `json:"wire_size"`
	Frames      int    `json:"frames"`
	Compressed  bool   `json:"compressed"`
	Evidence    string `json:"evidence"`
	Totals      struct {
		ToServer tally `json:"to_server"`
		ToClient tally `json:"to_client"`
	} `json:"totals"`
	Gap *struct {
		Bytes int64 `json:"bytes"`
	} `json:"gap"`
}

type tally struct {
	Messages int64  `json:"messages"`
	Bytes    int64  `json:"bytes"`
	SHA256   string `json:"sha256"`
}

func (r record) String() string { return string(r.Raw) }

// A journal is a log that is being read as it grows.
type journal struct {
	mu      sync.Mutex
	records []record
	err     error
	changed chan struct{} // closed and replaced with each news
}

// follow reads the log in dir until the test ends.
func follow(t *testing.T, dir string) *journal {
	t.Helper()
	r, err := audit.NewReader(dir, audit.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	j := &journal{changed: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		j.read(ctx, r)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return j
}

// read looks for new records every few milliseconds: nothing announces them.
func (j *journal) read(ctx context.Context, r *audit.Reader) {
	once, cancel := context.WithCancel(ctx)
	cancel() // so that Follow returns at the end of the log
	for ctx.Err() == nil {
		for rec, err := range r.Follow(once) {
			full := record{Record: rec}
			if err == nil {
				err = json.Unmarshal(rec.Raw, &full)
			}
			full.Raw = rec.Raw
			j.add(full, err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (j *journal) add(r record, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err == nil {
		j.records = append(j.records, r)
	} else if j.err == nil {
		j.err = err
	}
	close(j.changed)
	j.changed = make(chan struct{})
}

// all returns the records so far.
func (j *journal) all(t *testing.T) []record {
	t.Helper()
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.err != nil {
		t.Fatal(j.err)
	}
	return j.records[:len(j.records):len(j.records)]
}

// wait waits until ok says so of the records so far. what names it.
func (j *journal) wait(t *testing.T, what string, ok func([]record) bool) {
	t.Helper()
	ctx := soon(t)
	for {
		j.mu.Lock()
		changed := j.changed
		j.mu.Unlock()
		list := j.all(t)
		if ok(list) {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s: not in the log, whose last records are\n%s", what, lines(list[max(0, len(list)-20):]))
		case <-changed:
		}
	}
}

// waitFor waits for the nth record of an event, from 1, and returns it.
func (j *journal) waitFor(t *testing.T, event string, nth int) record {
	t.Helper()
	var found ledger
	j.wait(t, fmt.Sprintf("%s number %d", event, nth), func(list []record) bool {
		found = ledger(list).all(event)
		return len(found) >= nth
	})
	return found[nth-1]
}

// of waits until the last connection that client made is closed, and returns
// its records.
func (j *journal) of(t *testing.T, client net.Addr) ledger {
	t.Helper()
	return j.closed(t, "conn.close of "+client.String(), func(r record) bool { return r.Client == client.String() })
}

// ofPath waits until the last connection with a request for path is closed,
// and returns its records.
func (j *journal) ofPath(t *testing.T, path string) ledger {
	t.Helper()
	return j.closed(t, "conn.close of a connection for "+path, func(r record) bool { return r.Path == path })
}

func (j *journal) closed(t *testing.T, what string, match func(record) bool) ledger {
	t.Helper()
	var found ledger
	j.wait(t, what, func(list []record) bool {
		conn := ""
		for _, r := range list {
			if match(r) && r.Conn != "" {
				conn = r.Conn
			}
		}
		found = nil
		for _, r := range list {
			if conn != "" && r.Conn == conn {
				found = append(found, r)
			}
		}
		return len(found.all(audit.ConnClose)) > 0
	})
	found.check(t)
	return found
}
