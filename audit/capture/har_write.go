package capture

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"time"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// A HARWriter writes an HTTP Archive as the network panel of Chrome's developer
// tools writes and imports it. It is for one goroutine. After an error nothing
// more can be written.
//
// In an archive messages stand inside of their connection's entry, so they are
// kept until it is complete.
type HARWriter struct {
	w     io.Writer
	held  int64 // bytes of messages that are kept
	comma bool
}

// A HAREntry is one exchange of HTTP, perhaps the opening of a WebSocket.
type HAREntry struct {
	Conn           string
	Seq            uint64 // of the record that tells of it; zero: none
	Start          time.Time
	Method, URL    string
	Host           string // "": no header
	Subprotocol    string
	Status         int // zero: there was no answer
	Client, Server netip.AddrPort
	Action         string
	Rules          []string
	Comment        string
}

// A HARMessage is one message of a WebSocket, or a note on one.
type HARMessage struct {
	Seq      uint64
	Time     time.Time
	ToServer bool
	Opcode   string // as in Message
	Data     []byte
	// Missing says why there is no Data. The message is then a note: of type
	// "error", which Chrome shows in the list and nobody takes for a message.
	Missing  string
	Redacted bool // Data is not what was sent
	Action   string
	Rules    []string
}

// A HARSocket is the entry of a WebSocket that is being written.
type HARSocket struct {
	h        *HARWriter
	entry    HAREntry
	messages bytes.Buffer
	end      time.Time
}

// The archive as it is in JSON: HAR 1.2, and Chrome's own keys behind an
// underscore.
type (
	harEntry struct {
		ConnectionID string      `json:"_connectionId"` // Chrome's place for the id; connection is the port
		Ours         harIDs      `json:"_framegate"`
		Type         string      `json:"_resourceType"`
		Cache        struct{}    `json:"cache"`
		Comment      string      `json:"comment,omitempty"`
		Connection   string      `json:"connection,omitempty"`
		Request      harRequest  `json:"request"`
		Response     harResponse `json:"response"`
		Server       string      `json:"serverIPAddress,omitempty"`
		Start        string      `json:"startedDateTime"`
		Time         float64     `json:"time"`
		Timings      harTimings  `json:"timings"`
	}
	harIDs struct {
		Conn     string   `json:"conn,omitempty"`
		Seq      uint64   `json:"seq,omitempty"`
		Client   string   `json:"client,omitempty"`
		Action   string   `json:"action,omitempty"`
		Rules    []string `json:"rules,omitempty"`
		Missing  string   `json:"missing,omitempty"`
		Redacted bool     `json:"redacted,omitempty"`
		Opcode   string   `json:"opcode,omitempty"`
	}
	harRequest struct {
		Method      string      `json:"method"`
		URL         string      `json:"url"`
		HTTPVersion string      `json:"httpVersion"`
		Headers     []harHeader `json:"headers"`
		QueryString []harHeader `json:"queryString"`
		Cookies     []harHeader `json:"cookies"`
		HeadersSize int         `json:"headersSize"`
		BodySize    int         `json:"bodySize"`
	}
	harResponse struct {
		Status      int         `json:"status"`
		StatusText  string      `json:"statusText"`
		HTTPVersion string      `json:"httpVersion"`
		Headers     []harHeader `json:"headers"`
		Cookies     []harHeader `json:"cookies"`
		Content     harContent  `json:"content"`
		RedirectURL string      `json:"redirectURL"`
		HeadersSize int         `json:"headersSize"`
		BodySize    int         `json:"bodySize"`
	}
	harHeader struct {
		Name  string `json:"name"`
		Value string `json:"value"`
	}
	harContent struct {
		Size     int    `json:"size"`
		MimeType string `json:"mimeType"`
	}
	harTimings struct {
		Send    float64 `json:"send"`
		Wait    float64 `json:"wait"`
		Receive float64 `json:"receive"`
	}
	harNote struct {
		Type   string      `json:"type"`
		Time   json.Number `json:"time"`
		Opcode int         `json:"opcode"`
		Data   string      `json:"data"`
		Ours   harIDs      `json:"_framegate"`
	}
)

// NewHARWriter writes the head of an archive, which name and version made.
func NewHARWriter(w io.Writer, name, version string) (*HARWriter, error) {
	creator, err := appendJSON(nil, struct {
		Name    string `json:"name"`
		Version string `json:"version"`
	}{name, version})
	if err != nil {
		return nil, err
	}
	_, err = fmt.Fprintf(w, `{"log":{"version":"1.2","creator":%s,"pages":[],"entries":[`, creator)
	return &HARWriter{w: w}, err
}

// Held is how many bytes of messages are kept.
func (h *HARWriter) Held() int64 { return h.held }

// Close ends the archive. Sockets that are not closed are not in it.
func (h *HARWriter) Close() error {
	_, err := io.WriteString(h.w, "\n]}}\n")
	return err
}

// Request writes the entry of an exchange that is no WebSocket.
func (h *HARWriter) Request(e HAREntry) error { return h.entry(e, "other", nil, e.Start) }

// Socket begins the entry of a WebSocket.
func (h *HARWriter) Socket(e HAREntry) *HARSocket {
	return &HARSocket{h: h, entry: e, end: e.Start}
}

// Message adds one message.
func (s *HARSocket) Message(m HARMessage) error {
	b := s.messages.AvailableBuffer()
	if s.messages.Len() > 0 {
		b = append(b, ',')
	}
	b, err := appendJSON(b, m.note())
	if err != nil {
		return err
	}
	s.messages.Write(b)
	s.h.held += int64(len(b))
	if m.Time.After(s.end) {
		s.end = m.Time
	}
	return nil
}

// Close writes the entry.
func (s *HARSocket) Close() error {
	s.h.held -= int64(s.messages.Len())
	return s.h.entry(s.entry, "websocket", &s.messages, s.end)
}

func (m *HARMessage) note() harNote {
	n := harNote{
		Type: "receive", Time: harSeconds(m.Time),
		Ours: harIDs{Seq: m.Seq, Action: m.Action, Rules: m.Rules, Missing: m.Missing, Redacted: m.Redacted},
	}
	if m.ToServer {
		n.Type = "send"
	}
	if m.Missing != "" {
		n.Data = fmt.Sprintf("a message that is not here (%s, %s, seq %d): %s", n.Type, m.Opcode, m.Seq, m.Missing)
		n.Type, n.Opcode = "error", -1 // as Chrome has errors of its own
		n.Ours.Opcode = m.Opcode
		return n
	}
	for code, name := range opcodes {
		if name == m.Opcode {
			n.Opcode = code
		}
	}
	switch {
	case n.Opcode == 1 && utf8.Valid(m.Data):
		n.Data = string(m.Data)
		return n
	case n.Opcode == 1 || n.Opcode == 0:
		n.Opcode, n.Ours.Opcode = 2, m.Opcode // JSON has no other way to keep it
	}
	n.Data = base64.StdEncoding.EncodeToString(m.Data)
	return n
}

// harSeconds is a time as Chrome has those of messages: seconds since 1970. A
// float64 has some hundred nanoseconds of them, the text has all.
func harSeconds(t time.Time) json.Number {
	if t.Unix() < 0 {
		return "0"
	}
	return json.Number(strconv.FormatInt(t.Unix(), 10) + fmt.Sprintf(".%09d", t.Nanosecond()))
}

// entry writes one entry, with messages if there can be any.
func (h *HARWriter) entry(e HAREntry, kind string, messages *bytes.Buffer, end time.Time) error {
	took := float64(end.Sub(e.Start).Microseconds()) / 1e3
	out := harEntry{
		ConnectionID: e.Conn, Type: kind, Comment: e.Comment,
		Ours:    harIDs{Conn: e.Conn, Seq: e.Seq, Action: e.Action, Rules: e.Rules},
		Start:   e.Start.UTC().Format("2006-01-02T15:04:05.000000000Z"),
		Time:    took,
		Timings: harTimings{Receive: took},
		Request: harRequest{
			Method: e.Method, URL: e.URL, HTTPVersion: "HTTP/1.1", HeadersSize: -1, BodySize: -1,
			Headers: []harHeader{}, QueryString: []harHeader{}, Cookies: []harHeader{},
		},
		Response: harResponse{
			Status: e.Status, HTTPVersion: "HTTP/1.1", HeadersSize: -1, BodySize: -1,
			Headers: []harHeader{}, Cookies: []harHeader{}, Content: harContent{MimeType: "x-unknown"},
		},
	}
	if e.Host != "" {
		out.Request.Headers = append(out.Request.Headers, harHeader{"Host", e.Host})
	}
	if e.Subprotocol != "" {
		field := harHeader{"Sec-WebSocket-Protocol", e.Subprotocol}
		out.Request.Headers = append(out.Request.Headers, field)
		out.Response.Headers = append(out.Response.Headers, field)
	}
	if e.Client.IsValid() {
		out.Ours.Client = e.Client.String()
	}
	if e.Server.IsValid() {
		out.Connection = strconv.Itoa(int(e.Server.Port()))
		out.Server = e.Server.Addr().String()
		if e.Server.Addr().Is6() {
			out.Server = "[" + out.Server + "]" // as Chrome does
		}
	}
	if e.Status == 101 {
		out.Response.StatusText = "Switching Protocols"
	}
	b := []byte("\n")
	if h.comma {
		b = []byte(",\n")
	}
	h.comma = true
	b, err := appendJSON(b, out)
	if err != nil {
		return err
	}
	if messages != nil {
		// The longest part by far is not copied.
		b = append(b[:len(b)-1], `,"_webSocketMessages":[`...)
		if _, err := h.w.Write(b); err != nil {
			return err
		}
		if _, err := h.w.Write(messages.Bytes()); err != nil {
			return err
		}
		b = []byte("]}")
	}
	_, err = h.w.Write(b)
	return err
}

// appendJSON appends v with everything escaped that is not printable: an
// archive may be looked at in a terminal.
func appendJSON(b []byte, v any) ([]byte, error) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return b, err
	}
	// What is not ASCII can only stand in strings.
	for text := bytes.TrimSuffix(out.Bytes(), []byte("\n")); len(text) > 0; {
		r, n := utf8.DecodeRune(text)
		switch {
		case r < 0x7f || unicode.IsGraphic(r) && r != '\u2028' && r != '\u2029':
			b = append(b, text[:n]...)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			b = fmt.Appendf(b, `\u%04x\u%04x`, high, low)
		default:
			b = fmt.Appendf(b, `\u%04x`, r)
		}
		text = text[n:]
	}
	return b, nil
}
