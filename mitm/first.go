package mitm

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"
)

// A speech is what the first bytes of a connection show.
type speech int

const (
	speechUnknown speech = iota // too few bytes to tell
	speechTLS
	speechHTTP
	speechOther // another protocol, or one in which the server speaks first
)

// first is what is known of a connection before anything was decided.
type first struct {
	speech speech
	hello  *tls.ClientHelloInfo // speechTLS
	head   *requestHead         // speechHTTP
}

// name is the host by which the client called the server, "" if it did not say.
func (f first) name() string {
	switch f.speech {
	case speechTLS:
		return f.hello.ServerName
	case speechHTTP:
		return f.head.host()
	}
	return ""
}

// classify tells TLS and HTTP from everything else by the first bytes b.
//
// A TLS record starts with its type and a version, which "MUST be ignored for
// all purposes" (RFC 8446, Section 5.1): there are servers that take a hello
// under any, as crypto/tls takes all below 16, and one after a warning alert.
// There are those, too, that take a ClientHello of SSL 2.0 and go on with TLS
// (RFC 5246, Appendix E.2). An HTTP request line is text and ends in the version
// (RFC 9112, Section 3); SSH, SMTP and their like are text, too, so that the
// whole first line has to be seen. Letter case, white space and line ends are
// taken loosely here: what a lax server might take for TLS or HTTP must go to
// the strict parser and fail there, and not pass as something else. More bytes
// never change an answer that was given for fewer.
func classify(b []byte) speech {
	if len(b) == 0 {
		return speechUnknown
	}
	switch {
	case b[0] >= recordChangeCipherSpec && b[0] <= recordApplicationData:
		switch {
		case len(b) == 1:
			return speechUnknown
		case b[1] < 16:
			return speechTLS
		}
		return speechOther
	case b[0]&0x80 != 0:
		if s := classifySSL2(b); s != speechOther || !oddBlank(b[0]) {
			return s
		}
	}
	b = spaced(b)
	text := bytes.TrimLeft(b, blank+"\n")
	line, _, whole := bytes.Cut(text, []byte("\n"))
	if requestLike.Match(line) {
		return speechHTTP
	}
	method := line
	if at := bytes.IndexAny(line, blank); at >= 0 {
		method = line[:at]
	}
	switch {
	case len(method) > maxMethod, len(method) > 0 && !httpguts.ValidHeaderFieldName(string(method)):
		return speechOther
	case len(b)-len(text)+len(line) > maxUndecided:
		return speechHTTP // too long even for that, which the parser will say
	case whole:
		line = bytes.TrimRight(line, blank)
		at := bytes.LastIndexAny(line, blank)
		if at > 0 && len(line) >= at+6 && bytes.EqualFold(line[at+1:at+6], []byte("HTTP/")) {
			return speechHTTP
		}
		return speechOther
	}
	return speechUnknown
}

// The first and the last content type of TLS (RFC 8446, Section 5.1).
const (
	recordChangeCipherSpec = 20
	recordApplicationData  = 23
)

// classifySSL2 tells a ClientHello of SSL 2.0 from everything else that begins
// with the high bit: the length of the record, the message type, and the version
// that is asked for, that of SSL 2.0 itself or one of TLS. No text begins so.
func classifySSL2(b []byte) speech {
	if len(b) > 5 {
		b = b[:5]
	}
	for _, version := range []string{"\x00\x02", "\x03"} {
		want := "\x01" + version
		got := string(b[min(2, len(b)):])
		switch {
		case strings.HasPrefix(got, want):
			return speechTLS
		case strings.HasPrefix(want, got):
			return speechUnknown
		}
	}
	return speechOther
}

// blank is what a lax server may take for the space in a request line
// (RFC 9112, Section 3).
const blank = " \t\v\f\r"

// oddBlank says what is white space to Python's http.server besides, which splits
// the line as ISO 8859-1.
func oddBlank(c byte) bool { return c >= 0x1c && c <= 0x1f || c == 0x85 || c == 0xa0 }

// spaced returns b with spaces in place of odd blanks.
func spaced(b []byte) []byte {
	if !slices.ContainsFunc(b, oddBlank) {
		return b
	}
	b = slices.Clone(b)
	for i, c := range b {
		if oddBlank(c) {
			b[i] = ' '
		}
	}
	return b
}

const (
	// maxMethod bounds the method; the longest that is registered has 17 letters.
	maxMethod = 32
	// maxUndecided bounds the first line: RFC 9112, Section 3 asks to support
	// 8000 bytes, and all but the oddest lines are told by their start.
	maxUndecided = 8 << 10
)

// requestLike matches how a request to an HTTP server begins.
var requestLike = regexp.MustCompile(`^[A-Za-z]{3,20}[ \t\v\f\r]+(?i:/|https?:|\*[ \t\v\f\r]+HTTP/)`)

// firstQuiet is how long a client may be silent before the server is asked
// whether it speaks first.
const firstQuiet = 3 * time.Second

// firstBytes waits for the client's first bytes and reads, without answering,
// the ClientHello or the request head that they begin.
func (f *flow) firstBytes() (first, error) {
	s, err := f.classifyClient()
	if err != nil {
		return first{}, err
	}
	f.phase()
	switch s {
	case speechTLS:
		hello, err := f.clientHello()
		return first{speech: s, hello: hello}, err
	case speechHTTP:
		head, err := f.requestHead()
		return first{speech: s, head: head}, err
	}
	return first{speech: speechOther}, nil
}

// classifyClient reads until the client's protocol is known. When the client
// stays silent it dials the server and waits for either side: only a server
// that really speaks first makes the connection one that cannot be inspected,
// so that a client gains nothing by being slow.
func (f *flow) classifyClient() (speech, error) {
	w := f.down.wire
	var seen []byte
	defer func() { w.unread(seen) }()
	buf := make([]byte, 2048)
	var serverSpoke chan bool
	stopListening := func() bool {
		if serverSpoke == nil {
			return false
		}
		f.spare.SetReadDeadline(time.Unix(1, 0))
		spoke := <-serverSpoke
		f.spare.SetReadDeadline(time.Time{})
		return spoke
	}
	deadline := time.Now().Add(f.settings.handshakeTimeout())
	f.readBy(time.Now().Add(min(firstQuiet, f.settings.handshakeTimeout()/2)))
	for {
		n, err := w.Read(buf)
		seen = append(seen, buf[:n]...)
		if n > 0 {
			if serverSpoke != nil && stopListening() {
				return speechOther, nil
			}
			serverSpoke = nil
			f.readBy(deadline)
			if s := classify(seen); s != speechUnknown {
				return s, nil
			}
		}
		switch {
		case err == nil:
		case errors.Is(err, os.ErrDeadlineExceeded) && len(seen) == 0 && f.spare == nil:
			c, err := f.dial(f.ctx)
			if err != nil {
				return 0, err
			}
			f.spare = c
			serverSpoke = make(chan bool, 1)
			f.readBy(deadline)
			go listenServer(c, w, serverSpoke)
		case errors.Is(err, os.ErrDeadlineExceeded):
			if stopListening() {
				return speechOther, nil
			}
			return 0, errors.New("no protocol recognised within the handshake timeout")
		default:
			if stopListening() {
				return speechOther, nil
			}
			if len(seen) > 0 && errors.Is(err, io.EOF) {
				// All there will ever be; a request or a hello would be longer.
				return speechOther, nil
			}
			return 0, fmt.Errorf("before its first byte: %w", err)
		}
	}
}

// listenServer reports on spoke whether the server sends something before its
// read deadline is set to the past, and if so wakes the reader of client.
func listenServer(server, client *wire, spoke chan<- bool) {
	var b [1]byte
	n, _ := server.Read(b[:])
	if n > 0 {
		server.unread(b[:])
		client.SetReadDeadline(time.Unix(1, 0))
	}
	spoke <- n > 0
}

// clientHello lets crypto/tls parse the ClientHello, however it is cut into
// segments and records, and puts all its bytes back. When it cannot be parsed,
// the client gets the alert that crypto/tls has for it.
func (f *flow) clientHello() (*tls.ClientHelloInfo, error) {
	rec := &recorder{Conn: f.down.wire}
	var hello *tls.ClientHelloInfo
	err := tls.Server(rec, &tls.Config{
		GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
			c := *h
			c.Conn = nil
			hello = &c
			return nil, errHelloRead
		},
	}).HandshakeContext(context.WithoutCancel(f.ctx))
	if !errors.Is(err, errHelloRead) {
		f.down.wire.Write(rec.wrote)
		var alien tls.RecordHeaderError
		if errors.As(err, &alien) && len(rec.wrote) == 0 { // crypto/tls has no alert for it
			f.alert(alertProtocolVersion)
		}
		f.tlsFail(tlsClientHello, err)
		return nil, err
	}
	f.down.wire.unread(rec.read)
	return hello, nil
}

var errHelloRead = errors.New("ClientHello read")

// A recorder remembers what was read and keeps back what is written.
type recorder struct {
	net.Conn
	read, wrote []byte
}

func (r *recorder) Read(p []byte) (int, error) {
	n, err := r.Conn.Read(p)
	r.read = append(r.read, p[:n]...)
	return n, err
}

func (r *recorder) Write(p []byte) (int, error) {
	r.wrote = append(r.wrote, p...)
	return len(p), nil
}
