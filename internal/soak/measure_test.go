package soak

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// measures are what a gateway holds.
type measures struct {
	descriptors, goroutines, heap, resident int64
	files, stacks                           string
}

// ask asks the admin port.
func (g *gateway) ask(path string) (string, error) {
	c := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", g.path("admin"))
		}}}
	r, err := c.Get("http://localhost" + path)
	if err != nil {
		return "", err
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err == nil && r.StatusCode != 200 {
		err = fmt.Errorf("%s: %s", path, r.Status)
	}
	return string(b), err
}

// series are the samples of a scrape.
type series map[string]float64

func (g *gateway) scrapeNow() (series, error) {
	body, err := g.ask("/metrics")
	s := series{}
	for line := range strings.Lines(body) {
		i := strings.LastIndexByte(line, ' ')
		if v, err := strconv.ParseFloat(strings.TrimSpace(line[i+1:]), 64); err == nil && line[0] != '#' {
			s[line[:i]] = v
		}
	}
	return s, err
}

func (g *gateway) scrape(t *testing.T) series {
	t.Helper()
	s, err := g.scrapeNow()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// sum adds up the samples of a metric whose labels hold all of the words.
func (s series) sum(name string, words ...string) (total int64) {
	for id, v := range s {
		rest, ok := strings.CutPrefix(id, name)
		ok = ok && (rest == "" || rest[0] == '{')
		for _, w := range words {
			ok = ok && strings.Contains(rest, w)
		}
		if ok {
			total += int64(v)
		}
	}
	return total
}

// settle waits until no connection is left, and the log can be written.
func (g *gateway) settle(t *testing.T) {
	t.Helper()
	for late := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		s := g.scrape(t)
		if s.sum("framegate_connections") == 0 && s.sum("framegate_audit_writable") == 1 {
			return
		}
		if time.Now().After(late) {
			t.Fatalf("%d connections do not end, the log is writable: %d", s.sum("framegate_connections"), s.sum("framegate_audit_writable"))
		}
	}
}

// measure measures after a collection.
func (g *gateway) measure(t *testing.T) (m measures) {
	t.Helper()
	for range 2 { // the second empties what a pool keeps over the first
		if _, err := g.ask("/debug/pprof/heap?gc=1"); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	if m.stacks, err = g.ask("/debug/pprof/goroutine?debug=1"); err != nil {
		t.Fatal(err)
	}
	s := g.scrape(t)
	m.goroutines = s.sum("go_goroutines")
	m.heap = s.sum("go_memstats_heap_alloc_bytes")
	m.resident = s.sum("process_resident_memory_bytes")
	fds, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", g.pid.Load()))
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		to, err := os.Readlink(fd)
		if err == nil { // else it was closed meanwhile
			m.descriptors++
			m.files += to + "\n"
		}
	}
	return m
}

// A peak is what there was at most in either half of the load.
type peak struct{ sockets, resident [2]int64 }

// watch looks on until ctx is done.
func (g *gateway) watch(ctx context.Context) <-chan peak {
	result := make(chan peak, 1)
	begun := time.Now()
	deadline, _ := ctx.Deadline()
	go func() {
		var p peak
		for ctx.Err() == nil {
			half := 0
			if time.Since(begun) > deadline.Sub(begun)/2 {
				half = 1
			}
			if s, err := g.scrapeNow(); err == nil {
				p.sockets[half] = max(p.sockets[half], s.sum("framegate_websockets"))
				p.resident[half] = max(p.resident[half], s.sum("process_resident_memory_bytes"))
			}
			select {
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
		}
		result <- p
	}()
	return result
}
