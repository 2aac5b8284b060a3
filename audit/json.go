package audit

import (
	"encoding/base64"
	"encoding/hex"
	"net/netip"
	"strconv"
	"time"
	"unicode/utf16"
	"unicode/utf8"
)

// AppendJSON appends the record of e, one JSON object on one line without the
// newline. It does not allocate when b has room.
func (e *Event) AppendJSON(b []byte, seq uint64) []byte {
	b = appendSeq(b, seq)
	return e.appendFields(b, e.Time)
}

// appendSeq opens a record. The writer puts it before what the caller of
// Record has encoded, for only the writer knows the number.
func appendSeq(b []byte, seq uint64) []byte {
	b = append(b, `{"seq":`...)
	return strconv.AppendUint(b, seq, 10)
}

// appendFields appends everything behind seq, in the order of the contract.
func (e *Event) appendFields(b []byte, t time.Time) []byte {
	b = append(b, `,"time":"`...)
	b = appendTime(b, t)
	b = append(b, `","event":`...)
	b = appendString(b, e.Event)
	b = appendField(b, `,"conn":`, e.Conn)
	if m := e.Msg; m != nil {
		b = appendField(b, `,"dir":`, m.Dir)
		b = appendField(b, `,"opcode":`, m.Opcode)
		if m.Size != 0 || m.WireSize != 0 || m.Frames != 0 {
			b = append(b, `,"size":`...)
			b = strconv.AppendInt(b, m.Size, 10)
			b = append(b, `,"wire_size":`...)
			b = strconv.AppendInt(b, m.WireSize, 10)
			b = append(b, `,"frames":`...)
			b = strconv.AppendInt(b, int64(m.Frames), 10)
			b = append(b, `,"compressed":`...)
			b = strconv.AppendBool(b, m.Compressed)
		}
		b = appendHash(b, &m.SHA256)
	}
	b = appendList(b, `,"rules":[`, e.Rules)
	b = appendField(b, `,"action":`, e.Action)
	b = appendField(b, `,"policy":`, e.Policy)
	b = appendAddr(b, `,"client":`, e.Client)
	b = appendAddr(b, `,"server":`, e.Server)
	b = appendField(b, `,"sni":`, e.SNI)
	b = appendField(b, `,"host":`, e.Host)
	b = appendField(b, `,"path":`, e.Path)
	b = appendField(b, `,"subprotocol":`, e.Subprotocol)
	if e.Code != 0 {
		b = append(b, `,"code":`...)
		b = strconv.AppendInt(b, int64(e.Code), 10)
	}
	b = appendField(b, `,"reason":`, e.Reason)
	if e.Msg != nil {
		b = appendPayload(b, e.Msg.Payload)
		b = appendSealed(b, e.Msg.Sealed)
		b = appendField(b, `,"payload_omitted":`, e.Msg.Omitted)
	}
	b = appendField(b, `,"method":`, e.Method)
	b = appendList(b, `,"shadow":[`, e.Shadow)
	b = appendField(b, `,"state":`, e.State)
	if len(e.Evidence) > 0 {
		b = append(b, `,"evidence":"`...)
		b = hex.AppendEncode(b, e.Evidence)
		b = append(b, '"')
	}
	if e.Totals != nil {
		b = append(b, `,"totals":{"to_server":`...)
		b = e.Totals.ToServer.append(b)
		b = append(b, `,"to_client":`...)
		b = e.Totals.ToClient.append(b)
		b = append(b, '}')
	}
	if e.Gap != nil {
		b = e.Gap.append(b)
	}
	if e.Expired != nil {
		b = e.Expired.append(b)
	}
	if e.Unshipped != nil {
		b = e.Unshipped.append(b)
	}
	return append(b, '}')
}

func (t *Tally) append(b []byte) []byte {
	b = append(b, `{"messages":`...)
	b = strconv.AppendInt(b, t.Messages, 10)
	b = append(b, `,"bytes":`...)
	b = strconv.AppendInt(b, t.Bytes, 10)
	b = appendHash(b, &t.SHA256)
	return append(b, '}')
}

func (g *Gap) append(b []byte) []byte {
	b = append(b, `,"gap":{`...)
	start := len(b)
	if g.Count != 0 {
		b = append(b, `"count":`...)
		b = strconv.AppendInt(b, g.Count, 10)
		b = append(b, ',')
	}
	if g.Bytes != 0 {
		b = append(b, `"bytes":`...)
		b = strconv.AppendInt(b, g.Bytes, 10)
		b = append(b, ',')
	}
	if !g.Since.IsZero() {
		b = append(b, `"since":"`...)
		b = appendTime(b, g.Since)
		b = append(b, '"', ',')
	}
	if len(b) > start {
		b = b[:len(b)-1] // the last comma
	}
	return append(b, '}')
}

// appendField appends a string under its key, or nothing if it is empty.
func appendField(b []byte, key, s string) []byte {
	if s == "" {
		return b
	}
	b = append(b, key...)
	return appendString(b, s)
}

// appendList appends strings; key ends with the opening bracket.
func appendList(b []byte, key string, list []string) []byte {
	if len(list) == 0 {
		return b
	}
	b = append(b, key...)
	for i, s := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, s)
	}
	return append(b, ']')
}

func appendHash(b []byte, sum *[32]byte) []byte {
	if *sum == ([32]byte{}) {
		return b
	}
	b = append(b, `,"sha256":"`...)
	b = hex.AppendEncode(b, sum[:])
	return append(b, '"')
}

// appendAddr writes a v4-mapped address as the IPv4 address that it is, so that
// one peer has one spelling whichever family the listener has.
func appendAddr(b []byte, key string, a netip.AddrPort) []byte {
	if !a.IsValid() {
		return b
	}
	b = append(b, key...)
	if a.Addr().Zone() != "" {
		return appendString(b, a.String()) // a zone is a free-form string
	}
	b = append(b, '"')
	b = netip.AddrPortFrom(a.Addr().Unmap(), a.Port()).AppendTo(b)
	return append(b, '"')
}

// appendPayload keeps every byte: what is not UTF-8 goes as base64.
func appendPayload(b, payload []byte) []byte {
	if payload == nil {
		return b
	}
	if utf8.Valid(payload) {
		b = append(b, `,"payload":`...)
		return appendString(b, payload)
	}
	b = append(b, `,"payload_b64":"`...)
	b = base64.StdEncoding.AppendEncode(b, payload)
	return append(b, '"')
}

func appendSealed(b []byte, sealed []byte) []byte {
	if sealed == nil {
		return b
	}
	b = append(b, `,"payload_sealed":"`...)
	b = base64.StdEncoding.AppendEncode(b, sealed)
	return append(b, '"')
}

// appendString appends s as a JSON string of printable characters. Beyond what
// RFC 8259 section 7 demands ("quotation mark, reverse solidus, and the control
// characters") it escapes all that Unicode does not call printable: DEL, the C1
// controls, U+2028 and U+2029, bidirectional controls, other invisible
// characters, unassigned ones. A byte that is not UTF-8 becomes \ufffd, escaped;
// U+FFFD itself is printable and stays as it is.
func appendString[T string | []byte](b []byte, s T) []byte {
	b = append(b, '"')
	start := 0 // of what is not yet copied
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if c >= ' ' && c != '"' && c != '\\' && c != 0x7f {
				i++
				continue
			}
			b = append(b, s[start:i]...)
			b = appendEscape(b, rune(c))
			i++
			start = i
			continue
		}
		r, n := utf8.DecodeRuneInString(string(s[i:min(i+utf8.UTFMax, len(s))]))
		if r == utf8.RuneError && n == 1 || !strconv.IsPrint(r) {
			b = append(b, s[start:i]...)
			b = appendEscape(b, r)
			start = i + n
		}
		i += n
	}
	b = append(b, s[start:]...)
	return append(b, '"')
}

func appendEscape(b []byte, r rune) []byte {
	const digits = "0123456789abcdef"
	switch r {
	case '"', '\\':
		return append(b, '\\', byte(r))
	case '\n':
		return append(b, `\n`...)
	case '\r':
		return append(b, `\r`...)
	case '\t':
		return append(b, `\t`...)
	}
	// RFC 8259 section 7: a character outside the Basic Multilingual Plane is
	// "represented as a 12-character sequence, encoding the UTF-16 surrogate pair".
	if r > 0xffff {
		hi, lo := utf16.EncodeRune(r)
		b = appendEscape(b, hi)
		r = lo
	}
	return append(b, '\\', 'u', digits[r>>12&15], digits[r>>8&15], digits[r>>4&15], digits[r&15])
}

// appendTime appends t as RFC 3339 in UTC with nine digits, always 30 bytes.
// RFC 3339 has four digits for the year; what lies outside is moved inside.
func appendTime(b []byte, t time.Time) []byte {
	t = t.UTC()
	year, month, day := t.Date()
	hour, minute, second := t.Clock()
	b = appendDigits(b, max(0, min(year, 9999)), 4)
	b = appendDigits(append(b, '-'), int(month), 2)
	b = appendDigits(append(b, '-'), day, 2)
	b = appendDigits(append(b, 'T'), hour, 2)
	b = appendDigits(append(b, ':'), minute, 2)
	b = appendDigits(append(b, ':'), second, 2)
	b = appendDigits(append(b, '.'), t.Nanosecond(), 9)
	return append(b, 'Z')
}

// appendDigits appends n, which has at most width digits, with leading zeros.
func appendDigits(b []byte, n, width int) []byte {
	const zeros = "000000000"
	b = append(b, zeros[:width]...)
	for i := len(b) - 1; n > 0; i-- {
		b[i] = byte('0' + n%10)
		n /= 10
	}
	return b
}
