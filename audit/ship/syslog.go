package ship

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"framegate/audit"
)

// facility is "log audit" (RFC 5424 table 1).
const facility = 13

// sdID names our structured data. RFC 5424 section 7.2.2: names that are not
// registered have the form "name@<private enterprise number>". 32473 is the
// number that RFC 5612 gives to nobody.
const sdID = "framegate@32473"

// bom goes before an MSG with characters beyond ASCII. RFC 5424 section 6.4: "If
// a syslog application encodes MSG in UTF-8, the string MUST start with the
// Unicode byte order mask (BOM)". What is ASCII is the same in any encoding, and
// goes without, for receivers that parse MSG as JSON.
const bom = "\xef\xbb\xbf"

// A syslogFormat has what is the same in all messages of a gateway.
type syslogFormat struct {
	host   string // HOSTNAME
	pid    string // PROCID
	origin string // name of the log
}

// records renders a batch, each message behind its length.
func (f *syslogFormat) records(b *batch) (out []byte, err error) {
	var msg []byte
	err = eachRecord(b, func(r *audit.Record, line []byte) {
		msg = f.header(msg[:0], severityOf(r), r.Time, r.Event)
		msg = append(msg, "["+sdID+` log="`...)
		msg = appendParam(msg, f.origin)
		msg = append(msg, `" seq="`...)
		msg = strconv.AppendUint(msg, r.Seq, 10)
		if r.Conn != "" {
			msg = append(msg, `" conn="`...)
			msg = appendParam(msg, r.Conn)
		}
		msg = append(msg, `"] `...)
		if bytes.ContainsFunc(line, func(c rune) bool { return c >= utf8.RuneSelf }) {
			msg = append(msg, bom...)
		}
		msg = append(msg, line...)
		out = appendFrame(out, msg)
	})
	return out, err
}

// checkpoint renders a checkpoint. It has newlines, which a receiver would
// rewrite ("SHOULD avoid octet values below 32", section 6.4), and a dash beyond
// ASCII: so it goes as a JSON string, escaped.
func (f *syslogFormat) checkpoint(msg []byte, now time.Time) ([]byte, error) {
	c, err := audit.ParseCheckpoint(msg)
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(string(msg))
	if err != nil {
		return nil, err
	}
	b := f.header(nil, notice, now, "checkpoint")
	b = append(b, "["+sdID+` log="`...)
	b = appendParam(b, c.Origin)
	b = append(b, `" size="`...)
	b = strconv.AppendUint(b, c.Size, 10)
	b = append(b, `"] {"checkpoint":`...)
	b = append(b, strings.ReplaceAll(string(text), "—", `\u2014`)...)
	return appendFrame(nil, append(b, '}')), nil
}

// header is HEADER of RFC 5424 section 6 and the space behind it.
func (f *syslogFormat) header(b []byte, s severity, t time.Time, msgid string) []byte {
	b = append(b, '<')
	b = strconv.AppendInt(b, int64(facility*8+s.syslog), 10)
	b = append(b, ">1 "...)
	// TIME-SECFRAC has "1*6DIGIT".
	b = t.UTC().AppendFormat(b, "2006-01-02T15:04:05.000000Z")
	b = append(append(b, ' '), f.host...)
	b = append(b, " framegate "...)
	b = append(append(b, f.pid...), ' ')
	b = append(b, printUSASCII(msgid, 32)...)
	return append(b, ' ')
}

// appendFrame frames a message by its length (RFC 6587 section 3.4.1, RFC 5425
// section 4.3: "MSG-LEN SP SYSLOG-MSG").
func appendFrame(b, msg []byte) []byte {
	b = strconv.AppendInt(b, int64(len(msg)), 10)
	b = append(b, ' ')
	return append(b, msg...)
}

// printUSASCII is s as a field of HEADER: printable ASCII without spaces, of at
// most a length, and NILVALUE for nothing.
func printUSASCII(s string, most int) string {
	s = strings.Map(func(c rune) rune {
		if c < 33 || c > 126 {
			return '?'
		}
		return c
	}, s)
	if s == "" {
		return "-"
	}
	return s[:min(len(s), most)]
}

// appendParam appends a PARAM-VALUE. Section 6.3.3: "the characters '"', '\' and
// ']' MUST be escaped", by a backslash.
func appendParam(b []byte, s string) []byte {
	for i := range len(s) {
		if s[i] == '"' || s[i] == '\\' || s[i] == ']' {
			b = append(b, '\\')
		}
		b = append(b, s[i])
	}
	return b
}
