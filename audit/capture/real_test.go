package capture

import (
	"bytes"
	"encoding/binary"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The captures of testdata against what others read in them: the recordings
// beside them, or in examples/traffic, were made by another program.
func TestRealCaptures(t *testing.T) {
	files, err := filepath.Glob("testdata/*.pcap*")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			name, _, _ := strings.Cut(filepath.Base(file), ".")
			recording, err := os.Open(filepath.Join("testdata", name+".jsonl"))
			if err != nil {
				recording, err = os.Open(filepath.Join("../../examples/traffic", name+".jsonl"))
			}
			if err != nil {
				t.Fatal(err)
			}
			defer recording.Close()
			var want [2][]Message
			if err := ReadRecording(recording, func(m *Message) error {
				_, i := arrow(m.ToServer)
				want[i] = append(want[i], *m)
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			tr, stats, err := read(t, b, defaultLimits)
			if err != nil || stats.Missing > 0 || stats.Malformed > 0 {
				t.Fatalf("%v, %+v", err, stats)
			}
			found := false
			for i, l := range tr.logs {
				head, rest, _ := bytes.Cut(l.data[1], []byte("\r\n\r\n"))
				if !bytes.Contains(bytes.ToLower(head), []byte("upgrade: websocket")) {
					continue
				}
				found = true
				if c := tr.conns[i]; !c.Client.IsValid() || !c.Server.IsValid() || c.Start.IsZero() {
					t.Errorf("connection %+v", c)
				}
				head, answer, _ := bytes.Cut(l.data[0], []byte("\r\n\r\n"))
				if !bytes.HasPrefix(head, []byte("HTTP/1.1 101 ")) {
					t.Errorf("answer %.40q", head)
				}
				for i, stream := range [2][]byte{answer, rest} {
					if got := messages(stream); !slices.EqualFunc(got, want[i], func(a, b Message) bool {
						return a.Opcode == b.Opcode && bytes.Equal(a.Data, b.Data)
					}) {
						t.Errorf("direction %d: got %+v, want %+v", i, got, want[i])
					}
				}
			}
			if !found {
				t.Error("no upgrade")
			}
		})
	}
}

// messages parses frames as far as they go: a reader for these captures and no
// others.
func messages(b []byte) []Message {
	var out []Message
	var open Message
	for len(b) >= 2 {
		fin, opcode, masked, n := b[0]&0x80 != 0, opcodes[int(b[0]&0xf)], b[1]&0x80 != 0, int(b[1]&0x7f)
		b = b[2:]
		switch n {
		case 126:
			n, b = int(binary.BigEndian.Uint16(b)), b[2:]
		case 127:
			n, b = int(binary.BigEndian.Uint64(b)), b[8:]
		}
		var mask []byte
		if masked {
			mask, b = b[:4], b[4:]
		}
		data := bytes.Clone(b[:min(n, len(b))])
		b = b[len(data):]
		for i := range mask {
			for j := i; j < len(data); j += 4 {
				data[j] ^= mask[i]
			}
		}
		switch {
		case opcode == "": // continued
			open.Data = append(open.Data, data...)
			if fin {
				out = append(out, open)
			}
		case fin:
			out = append(out, Message{Opcode: opcode, Data: data})
		default:
			open = Message{Opcode: opcode, Data: data}
		}
	}
	return out
}

// Each of the real captures cut at any packet gives a prefix of its streams.
func TestRealCapturesCut(t *testing.T) {
	b, err := os.ReadFile("testdata/zeek-kaazing.pcap")
	if err != nil {
		t.Fatal(err)
	}
	whole, _, err := read(t, b, defaultLimits)
	if err != nil || len(whole.logs) != 1 {
		t.Fatal(len(whole.logs), err)
	}
	if !bytes.HasPrefix(whole.logs[0].data[1], []byte(http.MethodGet+" /echo?.kl=Y HTTP/1.1\r\n")) {
		t.Errorf("request %.40q", whole.logs[0].data[1])
	}
	for n := 1; n < len(b); n += 7 {
		part, _, _ := read(t, b[:n], defaultLimits)
		for i := range part.logs {
			for d := range 2 {
				if !bytes.HasPrefix(whole.logs[i].data[d], part.logs[i].data[d]) {
					t.Fatalf("%d bytes: direction %d is not a prefix", n, d)
				}
			}
		}
	}
}
