package capture

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestDetect(t *testing.T) {
	for first, want := range map[string]Format{
		"":                                 Unknown,
		"\xa1":                             Unknown,
		"\xa1\xb2\xc3\xd4":                 PCAP,
		"\xd4\xc3\xb2\xa1":                 PCAP,
		"\xa1\xb2\x3c\x4d":                 PCAP,
		"\x4d\x3c\xb2\xa1":                 PCAP,
		"\x0a\x0d\x0d\x0a\x1c\x00\x00\x00": PCAPNG,
		"\x1f\x8b\x08":                     Gzip,
		"\x28\xb5\x2f\xfd":                 Log,
		"\x57\x2a\x4d\x18":                 Log,
		`{"log":`:                          HAR,
		" \r\n{\n \"log\" : {":             HAR,
		"\ufeff{\"log\":{":                 HAR,
		`{"comment":"x","log":{`:           HAR,
		`{"dir":"c2s"`:                     Recording,
		`{"t":0,"opcode":"text"`:           Recording,
		`{"seq":1,"time":"","event":"ws.message","dir":"c2s"}`: Unknown,
		`{"a":1}`:     Unknown,
		`[{"log":1}]`: Unknown,
		"GET / HTTP":  Unknown,
	} {
		if got := Detect([]byte(first)); got != want {
			t.Errorf("%q: %v, want %v", first, got, want)
		}
	}
	b, err := os.ReadFile("testdata/zeek-oversized-close-frame.pcapng")
	if err != nil || Detect(b) != PCAPNG {
		t.Errorf("%v, %v", Detect(b), err)
	}
	r, format, err := Unwrap(strings.NewReader(string(gzipped(t, []byte("\ufeff{\"log\":{}}")))))
	if err != nil || format != HAR {
		t.Fatal(format, err)
	}
	if b, err := io.ReadAll(r); string(b) != `{"log":{}}` || err != nil {
		t.Errorf("%q, %v", b, err)
	}
}

func TestOpen(t *testing.T) {
	f, err := Open("testdata/zeek-kaazing.pcap")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if stats, err := ReadPackets(f, func(*Conn) Stream { return nil }); f.Format != PCAP || err != nil || stats.Connections != 1 {
		t.Errorf("%v, %+v, %v", f.Format, stats, err)
	}
	twice := filepath.Join(t.TempDir(), "twice.gz")
	if err := os.WriteFile(twice, gzipped(t, gzipped(t, []byte(`{"log":{}}`))), 0o600); err != nil {
		t.Fatal(err)
	}
	if f, err := Open(twice); err != nil || f.Format != Unknown {
		t.Errorf("compressed twice: %v", err)
	} else {
		f.Close()
	}
	if _, err := Open("testdata"); err == nil {
		t.Error("opened a directory")
	}
	if _, err := Open("testdata/none"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}
