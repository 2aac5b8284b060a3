package capture

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/gopacket/layers"
)

// Whatever the file, the streams are closed once, gaps and data are not empty,
// what is counted adds up, and a second reading says the same.
func FuzzPackets(f *testing.F) {
	files, err := filepath.Glob("testdata/*.pcap*")
	if err != nil || len(files) == 0 {
		f.Fatal(files, err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b[:min(len(b), 2500)])
	}
	segs := packets(f, c2s(99, "S", ""), s2c(499, "SA", ""), c2s(104, "A", "ef"), c2s(100, "A", "abcd"),
		s2c(500, "A", "xy"), c2s(101, "A", "bXXXXXgh"), c2s(120, "FA", "z"), s2c(502, "R", ""), c2s(7000, "S", ""))
	f.Add(pcapFile(f, layers.LinkTypeRaw, segs...))
	f.Add(swapped(pcapFile(f, layers.LinkTypeRaw, segs...)))
	f.Add(ngFile(f, layers.LinkTypeRaw, segs...))
	f.Add(gzipped(f, ngFile(f, layers.LinkTypeRaw, segs[:2]...)))
	small := limits{connections: 3, direction: 2 * pieceCost, total: 3 * pieceCost}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 1<<16 {
			return
		}
		for _, limits := range []limits{defaultLimits, small} {
			one, stats, err := read(t, b, limits)
			two, again, _ := read(t, b, limits)
			if one.text() != two.text() || stats != again {
				t.Fatalf("not the same again: %+v, %+v", stats, again)
			}
			var gaps int64
			for _, l := range one.logs {
				gaps += int64(l.gaps)
			}
			if stats.Missing != gaps || stats.Connections != int64(len(one.logs)) || stats.Evicted > stats.Connections ||
				stats.Other+stats.Unsupported+stats.Malformed+stats.Fragments+stats.Stray > stats.Packets {
				t.Fatalf("%d bytes in gaps, %d connections, %+v", gaps, len(one.logs), stats)
			}
			var e *Error
			if errors.As(err, &e) && (e.Offset < 0 || e.Place == "") {
				t.Fatalf("%+v", e)
			}
		}
	})
}

// Messages that were read are well-formed; the same without white space or
// compression gives the same.
func FuzzHAR(f *testing.F) {
	b, err := os.ReadFile("testdata/vite-hmr.har")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(archive(`{"_webSocketMessages":[{"type":"send","time":1.5,"opcode":1,"data":"hi"}],"request":{"url":"ws://a"}}`)))
	f.Add([]byte(archive(`{"_webSocketMessages":[{"type":"receive","opcode":2,"data":"aGk="}]},{"_webSocketMessages":null}`)))
	f.Add([]byte("\ufeff" + archive(`{"a":[[{}]],"serverIPAddress":"[::1]"}`)))
	f.Add(gzipped(f, []byte(archive(`{}`))))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := all(bytes.NewReader(b))
		conns := make(map[*Conn]bool)
		for _, m := range got {
			conns[m.Conn] = true
			if !strings.Contains("text binary close ping pong", m.Opcode) || m.Opcode == "" {
				t.Fatalf("%+v", m)
			}
		}
		var e *Error
		if errors.As(err, &e) && (e.Offset < 0 || e.Offset > int64(len(b))*2000 || e.Place == "") {
			t.Fatalf("%+v", e)
		}
		if len(got) > 0 && Detect(b) != Gzip {
			zipped, again := all(bytes.NewReader(gzipped(t, b)))
			if text(zipped) != text(got) || (err == nil) != (again == nil) {
				t.Fatalf("%v, compressed %v", err, again)
			}
		}
	})
}
