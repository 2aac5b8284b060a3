package frames

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// recorded is one line of a .jsonl file under testdata/zeek. See the README there.
type recorded struct {
	Dir     string `json:"dir"`
	Opcode  string `json:"opcode"`
	Payload string `json:"payload"`
	Base64  []byte `json:"payload_b64"`
	Code    Code   `json:"code"`
	Frames  []int  `json:"frames"`
}

// message returns what r says in the terms of a Message, without Wire.
func (r recorded) message() Message {
	m := Message{Data: append([]byte(r.Payload), r.Base64...), Frames: max(len(r.Frames), 1)}
	if r.Opcode == "close" {
		m.Data = AppendClose([]byte{}, r.Code, r.Payload)
	}
	for o := range Opcode(16) {
		if o.String() == r.Opcode {
			m.Opcode = o
		}
	}
	return m
}

func loadRecorded(t *testing.T, name, dir string) (messages []Message) {
	f, err := os.Open(filepath.Join("testdata", "zeek", name+".jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s := bufio.NewScanner(f)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		var r recorded
		if err := json.Unmarshal(s.Bytes(), &r); err != nil {
			t.Fatal(err)
		}
		if r.Dir == dir {
			messages = append(messages, r.message())
		}
	}
	if s.Err() != nil {
		t.Fatal(s.Err())
	}
	return messages
}

// Real streams against what another decoder made of them.
func TestCapturedStreams(t *testing.T) {
	// The streams that a capture was kept for because they break a MUST.
	violations := map[string]string{
		"oversized-close-frame.s2c": "length 258 not encoded in the minimal number of bytes",
		"websocket_compressed.c2s":  "reserved bits 100 without an extension",
		"websocket_compressed.s2c":  "reserved bits 100 without an extension",
		"wstunnel-http.c2s":         "frame from the client is not masked",
	}
	directions := map[string]Direction{"c2s": ToServer, "s2c": ToClient}
	files, err := filepath.Glob(filepath.Join("testdata", "zeek", "*.?2?"))
	if err != nil || len(files) != 19 {
		t.Fatalf("%d captured streams, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			stream, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			name, suffix, _ := strings.Cut(filepath.Base(file), ".")
			for _, step := range []func() int{atOnce, one, func() int { return 1448 }} {
				o := read(t, NewReader(directions[suffix], 1<<20), stream, step)
				if violation := violations[filepath.Base(file)]; violation != "" {
					if len(o.messages) != 0 || o.err == nil || o.err.Reason != violation || o.err.Code != ProtocolErrorCode {
						t.Errorf("%d messages, %v", len(o.messages), o.err)
					}
					continue
				}
				var wire []byte
				for i := range o.messages {
					wire = append(wire, o.messages[i].Wire...)
					o.messages[i].Wire = nil
				}
				if want := loadRecorded(t, name, suffix); o.err != nil || !reflect.DeepEqual(o.messages, want) {
					t.Errorf("got %+v, %v, want %+v", o.messages, o.err, want)
				}
				if !bytes.Equal(wire, stream) {
					t.Error("the Wire of all messages is not the stream")
				}
			}
		})
	}
}
