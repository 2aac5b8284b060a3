package format

import (
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"framegate/audit"
)

// object appends one JSON object. A dot in a name is an object inside; fields
// of the same object stand together in the list.
func object(b []byte, fields []field, r *audit.Record) []byte {
	b = append(b, '{')
	var open []string // objects that are begun
	comma := false
	for _, f := range fields {
		v := f.value(r)
		if v == nil {
			continue
		}
		path := strings.Split(f.name, ".")
		same := 0
		for same < len(open) && same < len(path)-1 && open[same] == path[same] {
			same++
		}
		for range open[same:] {
			b = append(b, '}')
		}
		if comma {
			b = append(b, ',')
		}
		for _, name := range path[same : len(path)-1] {
			b = append(quoted(b, name), ':', '{')
		}
		open = append(open[:same], path[same:len(path)-1]...)
		b = append(quoted(b, path[len(path)-1]), ':')
		b = value(b, v)
		comma = true
	}
	for range open {
		b = append(b, '}')
	}
	return append(b, '}')
}

func value(b []byte, v any) []byte {
	switch v := v.(type) {
	case string:
		return quoted(b, v)
	case int64:
		return strconv.AppendInt(b, v, 10)
	case bool:
		return strconv.AppendBool(b, v)
	case time.Time:
		return strconv.AppendInt(b, v.UnixMilli(), 10)
	case []string:
		b = append(b, '[')
		for i, s := range v {
			if i > 0 {
				b = append(b, ',')
			}
			b = quoted(b, s)
		}
		return append(b, ']')
	}
	return append(b, "null"...) // no field has another type
}

// quoted appends a JSON string (RFC 8259 section 7) of printable characters, as
// the log has them.
func quoted(b []byte, s string) []byte {
	b = append(b, '"')
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r == utf8.RuneError && n == 1 || !strconv.IsPrint(r):
			b = escaped(b, r)
		default:
			b = append(b, s[i:i+n]...)
		}
		i += n
	}
	return append(b, '"')
}

// escaped appends \u and four digits, twice for a character outside the Basic
// Multilingual Plane.
func escaped(b []byte, r rune) []byte {
	if r > 0xffff {
		high, low := utf16.EncodeRune(r)
		return escaped(escaped(b, high), low)
	}
	const digits = "0123456789abcdef"
	return append(b, '\\', 'u', digits[r>>12&15], digits[r>>8&15], digits[r>>4&15], digits[r&15])
}
