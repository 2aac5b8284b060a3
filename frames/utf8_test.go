package frames

import (
	"slices"
	"testing"
)

// Texts in the manner of the Autobahn test suite, section 6: what is UTF-8
// must be so over any fragmentation, and what is not must fail with 1007.
func TestTextUTF8(t *testing.T) {
	tests := []struct {
		name, text string
		ok         bool
	}{
		{"empty", "", true},
		{"mixed", "Hello-µ@ßöäüàá-UTF-8!!", true},
		{"greek", "κόσμε", true},
		{"first of 1 byte", "\x00", true},
		{"first of 2 bytes", "\xc2\x80", true},
		{"first of 3 bytes", "\xe0\xa0\x80", true},
		{"first of 4 bytes", "\xf0\x90\x80\x80", true},
		{"last of 1 byte", "\x7f", true},
		{"last of 2 bytes", "\xdf\xbf", true},
		{"last of 3 bytes", "\xef\xbf\xbf", true},
		{"U+10FFFF", "\xf4\x8f\xbf\xbf", true},
		{"before the surrogates", "\xed\x9f\xbf", true},
		{"after the surrogates", "\xee\x80\x80", true},
		{"replacement character", "\xef\xbf\xbd", true},
		{"byte order mark", "\xef\xbb\xbftext", true},
		{"noncharacters", "\xef\xbf\xbe \xf0\x9f\xbf\xbf", true},
		{"past U+10FFFF", "\xf4\x90\x80\x80", false},
		{"5 bytes", "\xf8\x88\x80\x80\x80", false},
		{"6 bytes", "\xfc\x84\x80\x80\x80\x80", false},
		{"lone continuation", "\x80", false},
		{"lone continuations", "ab\xbf\x80c", false},
		{"lone start, 2 bytes", "\xc3 ", false},
		{"lone start, 3 bytes", "\xe2\x82", false},
		{"lone start, 4 bytes", "\xf0\x9f\x99", false},
		{"start after start", "\xce\xce\xba", false},
		{"FE", "\xfe", false},
		{"FF", "\xff", false},
		{"overlong slash, 2 bytes", "\xc0\xaf", false},
		{"overlong slash, 3 bytes", "\xe0\x80\xaf", false},
		{"overlong slash, 4 bytes", "\xf0\x80\x80\xaf", false},
		{"overlong NUL", "\xc0\x80", false},
		{"highest overlong, 2 bytes", "\xc1\xbf", false},
		{"highest overlong, 3 bytes", "\xe0\x9f\xbf", false},
		{"surrogate", "\xed\xa0\x80", false},
		{"surrogate pair", "\xed\xa0\x80\xed\xb0\x80", false},
		{"bad in the middle", "κόσμε\xed\xa0\x80edited", false},
		{"bad at the end", "Hello-µ@ßöäüàá\xf4", false},
	}
	ping := frame(ToServer, Ping, true, "\xff is fine in a ping")
	for _, tt := range tests {
		check := func(how string, fragments ...string) {
			var stream []byte
			op := Text
			for i, f := range fragments {
				stream = append(stream, frame(ToServer, op, i == len(fragments)-1, f)...)
				if i < len(fragments)-1 {
					stream = append(stream, ping...)
				}
				op = Continuation
			}
			o := read(t, NewReader(ToServer, 1000), stream, atOnce)
			o.messages = slices.DeleteFunc(o.messages, func(m Message) bool { return m.Opcode == Ping })
			switch {
			case tt.ok && (o.err != nil || len(o.messages) != 1 || string(o.messages[0].Data) != tt.text):
				t.Errorf("%s, %s: refused: %v", tt.name, how, o.err)
			case !tt.ok && (o.err == nil || o.err.Code != InvalidPayload || len(o.messages) != 0):
				t.Errorf("%s, %s: %d messages, %v, want 1007", tt.name, how, len(o.messages), o.err)
			}
		}
		check("whole", tt.text)
		for i := range len(tt.text) + 1 {
			check("in two", tt.text[:i], tt.text[i:])
		}
		var bytewise []string
		for i := range len(tt.text) {
			bytewise = append(bytewise, tt.text[i:i+1])
		}
		check("in single bytes", append(bytewise, "")...)
	}
}
