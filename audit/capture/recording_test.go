package capture

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestRecording(t *testing.T) {
	files, err := filepath.Glob("../../examples/traffic/*.jsonl")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		err = ReadRecording(strings.NewReader(string(b)), func(m *Message) error {
			n++
			if m.Opcode == "" || m.Conn == nil {
				t.Errorf("%s: %+v", file, m)
			}
			return nil
		})
		if want := strings.Count(string(b), "\n"); err != nil || n != want {
			t.Errorf("%s: %d of %d, %v", file, n, want, err)
		}
	}
	var got []*Message
	if err := ReadRecording(strings.NewReader(`{"dir":"c2s","opcode":"text","payload":"hé","t":null}

{"dir":"s2c","opcode":"binary","payload_b64":"gA==","t":0.25,"frames":[1]}
{"dir":"c2s","opcode":"close","code":1000,"payload":"bye","t":2}`), func(m *Message) error {
		got = append(got, m)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if want := " > text hé\n < binary \x80\n > close \x03\xe8bye\n"; text(got) != want {
		t.Errorf("got %q", text(got))
	}
	if !got[0].Time.IsZero() || !got[1].Time.Equal(time.UnixMilli(250)) || got[2].Conn != got[0].Conn {
		t.Errorf("times %v, %v", got[0].Time, got[1].Time)
	}
	for file, want := range map[string]string{
		"": "the file is empty",
		`{"dir":"c2s","opcode":"text"}` + "\n" + `{"dir":"up"}`:                 `line 2 at byte 30: dir "up" is neither c2s nor s2c`,
		`{"dir":"c2s","opcode":"text"}` + "\r\n" + `{"dir":"c2s","opcode":"x"}`: `line 2 at byte 31: unknown opcode "x"`,
		`{"dir":"c2s","opcode":"text","pay`:                                     `line 1 at byte 0: unexpected end of JSON input`,
		`{"log":{}}`:                                                            "not a recording (HAR)",
		`{"dir":"c2s","payload_b64":"_"}`:                                       "line 1 at byte 0: illegal base64 data at input byte 0",
		`{"dir":"c2s","opcode":"text"` + "}x":                                   "line 1 at byte 0: invalid character 'x' after top-level value",
	} {
		if err := ReadRecording(strings.NewReader(file), func(*Message) error { return nil }); err == nil || err.Error() != want {
			t.Errorf("%q: %v, want %s", file, err, want)
		}
	}
	stop := errors.New("stop")
	if err := ReadRecording(strings.NewReader(`{"dir":"c2s","opcode":"text"}`), func(*Message) error { return stop }); err != stop {
		t.Errorf("%v", err)
	}
	long := &generated{head: `{"dir":"c2s","opcode":"text","payload":"`, unit: strings.Repeat("x", 1<<20), count: 10}
	if err := readRecording(long, func(*Message) error { return nil }, 1<<21); !errors.Is(err, errTooLarge) {
		t.Errorf("%v", err)
	}
}
