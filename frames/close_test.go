package frames

import (
	"errors"
	"strings"
	"testing"
)

func TestCodeValid(t *testing.T) {
	valid := func(c int) bool {
		return c >= 1000 && c <= 1003 || c >= 1007 && c <= 1014 || c >= 3000 && c <= 4999
	}
	for c := range 1 << 16 {
		if Code(c).Valid() != valid(c) {
			t.Errorf("code %d: valid is %v", c, Code(c).Valid())
		}
	}
}

func TestParseClose(t *testing.T) {
	longest := strings.Repeat("r", 123)
	tests := []struct {
		payload string
		code    Code
		reason  string
		err     Code // of the error
	}{
		{payload: "", code: NoStatus},
		{payload: "\x03\xe8", code: NormalClosure},
		{payload: "\x03\xe8" + longest, code: NormalClosure, reason: longest},
		{payload: "\x03\xf1over size limit (4 > 2 bytes)", code: MessageTooBig, reason: "over size limit (4 > 2 bytes)"},
		{payload: "\x0b\xb8", code: 3000},
		{payload: "\x13\x87späť", code: 4999, reason: "späť"},
		{payload: "\x03", err: ProtocolErrorCode},
		{payload: "\x00\x00", err: ProtocolErrorCode},
		{payload: "\x03\xed", err: ProtocolErrorCode},
		{payload: "\x03\xf7", err: ProtocolErrorCode},
		{payload: "\xff\xff", err: ProtocolErrorCode},
		{payload: "\x03\xe8\xed\xa0\x80", err: InvalidPayload},
		{payload: "\x03\xe8ok\x80", err: InvalidPayload},
		{payload: "\x03\xed\x80", err: ProtocolErrorCode},
	}
	for _, tt := range tests {
		code, reason, err := ParseClose([]byte(tt.payload))
		var e *ProtocolError
		if errors.As(err, &e) != (tt.err != 0) || (e != nil && e.Code != tt.err) {
			t.Errorf("%q: error %v, want code %d", tt.payload, err, tt.err)
			continue
		}
		if code != tt.code || reason != tt.reason {
			t.Errorf("%q: %d, %q", tt.payload, code, reason)
		}
	}
}

func TestAppendClose(t *testing.T) {
	tests := []struct {
		code   Code
		reason string
		want   string
	}{
		{NormalClosure, "", "\x03\xe8"},
		{PolicyViolation, "no cards", "\x03\xf0no cards"},
		{NoStatus, "lost", ""},
		{AbnormalClosure, "lost", ""},
		{TLSHandshake, "lost", ""},
		{0, "lost", ""},
		{4000, strings.Repeat("x", 200), "\x0f\xa0" + strings.Repeat("x", 123)},
		{4000, strings.Repeat("x", 122) + "é", "\x0f\xa0" + strings.Repeat("x", 122)},
		{4000, strings.Repeat("x", 121) + "é", "\x0f\xa0" + strings.Repeat("x", 121) + "é"},
		{4000, strings.Repeat("🙂", 40), "\x0f\xa0" + strings.Repeat("🙂", 30)},
		{4000, "a\xffb", "\x0f\xa0a\uFFFDb"},
	}
	for _, tt := range tests {
		if got := AppendClose([]byte("before"), tt.code, tt.reason); string(got) != "before"+tt.want {
			t.Errorf("%d %q: %q, want %q", tt.code, tt.reason, got, tt.want)
		}
	}
}
