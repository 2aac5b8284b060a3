package main

import (
	"bufio"
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"framegate/audit/capture"
	"framegate/frames"
	"framegate/policy"
)

// packets judges the WebSockets among the TCP connections of a capture.
func (in *inspection) packets(r io.Reader) error {
	_, err := capture.ReadPackets(r, func(c *capture.Conn) capture.Stream {
		return &tcpStream{in: in, conn: c}
	})
	return err
}

// maxHandshake is how much of a connection is looked at for its upgrade.
const maxHandshake = 256 << 10

// A tcpStream is one connection: HTTP until a 101, and frames from then on. What
// never becomes a WebSocket is passed over.
type tcpStream struct {
	in   *inspection
	conn *capture.Conn
	at   time.Time

	over    bool      // nothing more is of interest
	pending [2][]byte // by direction, not yet parsed
	ws      *inspected
	readers [2]*frames.Reader // nil: lost
	long    [2]*longMessage
}

// A longMessage is one over the limit of what is held, which the gateway would
// stream.
type longMessage struct {
	judge   *policy.Stream
	size    int64
	verdict policy.Verdict
	refused bool
}

// Data takes the next bytes of a direction.
func (s *tcpStream) Data(toServer bool, at time.Time, b []byte) {
	dir := frames.ToClient
	if toServer {
		dir = frames.ToServer
	}
	if s.over || s.ws != nil && s.readers[dir] == nil {
		return
	}
	s.at = at
	s.pending[dir] = append(s.pending[dir], b...)
	if s.ws == nil {
		s.handshake()
		if len(s.pending[0])+len(s.pending[1]) > maxHandshake && s.ws == nil {
			s.over = true
		}
	}
	if s.ws != nil {
		s.frames(frames.ToServer)
		s.frames(frames.ToClient)
	}
}

// Gap says that n bytes are missing, after which frames cannot be told from each
// other.
func (s *tcpStream) Gap(toServer bool, at time.Time, n int) {
	dir := frames.ToClient
	if toServer {
		dir = frames.ToServer
	}
	if s.ws == nil {
		s.over = true
		return
	}
	if s.readers[dir] != nil {
		s.lose(dir, finding{Time: at, Dir: dir.String(), Action: "unread", Reason: fmt.Sprintf("%d bytes are not in the capture", n)})
	}
}

// Close ends the connection.
func (s *tcpStream) Close() {
	for _, l := range s.long {
		if l != nil {
			l.judge.Discard()
		}
	}
}

// lose gives up a direction.
func (s *tcpStream) lose(dir frames.Direction, f finding) {
	if s.readers[1-dir] != nil {
		s.in.Unread++
	}
	s.readers[dir], s.pending[dir] = nil, nil
	s.in.line(s.ws, f)
}

// handshake parses exchanges as far as they are there, and looks for an upgrade.
func (s *tcpStream) handshake() {
	for !s.over && s.ws == nil {
		up, down := newHTTPBytes(s.pending[frames.ToServer]), newHTTPBytes(s.pending[frames.ToClient])
		req, resp, err := exchange(up, down)
		if err != nil {
			s.over = err != io.EOF
			return
		}
		s.pending[frames.ToServer], s.pending[frames.ToClient] = bytes.Clone(up.rest()), bytes.Clone(down.rest())
		if resp.StatusCode == http.StatusSwitchingProtocols {
			s.upgraded(req, resp)
		}
	}
}

// exchange reads one request and its answer. The error is io.EOF if not
// all of them is there.
func exchange(up, down *httpBytes) (*http.Request, *http.Response, error) {
	if !up.hasHead() {
		return nil, nil, io.EOF
	}
	req, err := http.ReadRequest(up.Reader)
	if err != nil {
		return nil, nil, err
	}
	if !whole(req.Body) {
		return nil, nil, io.EOF
	}
	for {
		if !down.hasHead() {
			return nil, nil, io.EOF
		}
		resp, err := http.ReadResponse(down.Reader, req)
		switch {
		case err != nil:
			return nil, nil, err
		case resp.StatusCode == http.StatusSwitchingProtocols:
			return req, resp, nil
		case resp.StatusCode >= 200:
			if !whole(resp.Body) {
				return nil, nil, io.EOF
			}
			return req, resp, nil
		}
	}
}

// whole reports whether all of a body is there. One that is wrong never is.
func whole(body io.Reader) bool {
	_, err := io.Copy(io.Discard, body)
	return err == nil
}

// httpBytes reads HTTP from what there is of it.
type httpBytes struct {
	*bufio.Reader
	all   []byte
	bytes *bytes.Reader
}

func newHTTPBytes(b []byte) *httpBytes {
	r := bytes.NewReader(b)
	return &httpBytes{bufio.NewReader(r), b, r}
}

// rest is what has not been read.
func (h *httpBytes) rest() []byte { return h.all[len(h.all)-h.bytes.Len()-h.Buffered():] }

// hasHead reports whether the next head is complete: net/http takes half a line
// for a wrong one.
func (h *httpBytes) hasHead() bool { return bytes.Contains(h.rest(), []byte("\r\n\r\n")) }

// upgraded begins the WebSocket, if the gateway would have let it.
func (s *tcpStream) upgraded(req *http.Request, resp *http.Response) {
	if !strings.EqualFold(resp.Header.Get("Upgrade"), "websocket") {
		s.over = true
		return
	}
	s.conn.Host, s.conn.Path = req.Host, req.URL.EscapedPath()
	s.conn.Origin, s.conn.Subprotocol = req.Header.Get("Origin"), resp.Header.Get("Sec-WebSocket-Protocol")
	s.ws = s.in.open(s.conn, s.in.name)
	if s.ws.scope == nil {
		s.over = true
		return
	}
	refused := func(reason string) {
		s.over = true
		s.in.line(s.ws, finding{Time: s.at, Action: "refused", Reason: reason})
	}
	if resp.Header.Get("Sec-WebSocket-Accept") != acceptOf(req.Header.Get("Sec-WebSocket-Key")) {
		refused("Sec-WebSocket-Accept does not answer Sec-WebSocket-Key")
		return
	}
	const extensions = "Sec-Websocket-Extensions" // as net/http has it
	deflate, err := frames.Agree(req.Header[extensions], resp.Header[extensions])
	if err != nil {
		refused(err.Error())
		return
	}
	for _, dir := range []frames.Direction{frames.ToServer, frames.ToClient} {
		r := frames.NewReader(dir, s.in.limits.hold)
		if deflate != nil {
			r.UseDeflate(deflate[dir])
		}
		if s.in.limits.stream {
			r.Stream(s.in.limits.max, s.in.limits.ratio, func(m frames.Message) { s.look(dir, m) })
		}
		s.readers[dir] = r
	}
}

// acceptOf is the right answer to a Sec-WebSocket-Key (RFC 6455, Section 4.2.2).
func acceptOf(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// frames judges the messages of a direction as far as they are there.
func (s *tcpStream) frames(dir frames.Direction) {
	r := s.readers[dir]
	for b := s.pending[dir]; r != nil; {
		m, n, err := r.Next(b)
		if err != nil {
			s.violation(dir, err)
			return
		}
		if n == 0 {
			s.pending[dir] = append(s.pending[dir][:0], b...)
			return
		}
		b = b[n:]
		switch {
		case m.Opcode == frames.Continuation:
		case m.Part != frames.Whole:
			s.part(dir, m)
		default:
			s.ws.judge(dir, m.Opcode, m.Data, s.at)
		}
	}
}

func (s *tcpStream) violation(dir frames.Direction, err error) {
	var v *frames.ProtocolError
	if errors.As(err, &v) {
		s.lose(dir, finding{Time: s.at, Dir: dir.String(), Action: "close", Code: int(v.Code), Reason: strings.TrimSpace(v.Section + ": " + v.Reason)})
	}
}

func (s *tcpStream) look(dir frames.Direction, m frames.Message) {
	l := s.long[dir]
	if l == nil {
		l = &longMessage{judge: s.ws.scope.Stream(dir, m.Opcode)}
		s.long[dir] = l
		s.in.clock = s.at
	}
	l.size += int64(len(m.Data))
	if l.refused {
		return
	}
	if v, ok := l.judge.Write(m.Data); !ok {
		l.verdict, l.refused = v, true
	}
}

// part notes the verdict on a long message once all of it is there.
func (s *tcpStream) part(dir frames.Direction, m frames.Message) {
	if m.Part != frames.LastPart {
		return
	}
	s.look(dir, m)
	l := s.long[dir]
	s.long[dir] = nil
	if !l.refused {
		l.verdict = l.judge.End()
	}
	l.judge.Discard()
	s.ws.messages++
	s.in.Messages++
	s.in.Bytes += l.size
	s.ws.note(l.verdict, dir, m.Opcode, l.size, s.at)
}
