package mitm

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// maxHead bounds a request or response head, in bytes. Browsers and servers
// stop at 8 to 256 KiB; net/http takes 1 MiB, which is more than a gateway
// should hold for each half-open connection.
const maxHead = 64 << 10

// A field is one header field, as it was written.
type field struct{ name, value string }

// A head is the start of an HTTP/1.1 message: the bytes as they came, and what
// they say. The bytes are forwarded, the view is judged.
type head struct {
	raw    []byte // through the empty line
	fields []field
}

// get returns the value of the only field with this name, and how many there are.
func (h *head) get(name string) (value string, count int) {
	for _, f := range h.fields {
		if strings.EqualFold(f.name, name) {
			value = f.value
			count++
		}
	}
	return value, count
}

// values returns the values of all fields with this name.
func (h *head) values(name string) []string {
	var list []string
	for _, f := range h.fields {
		if strings.EqualFold(f.name, name) {
			list = append(list, f.value)
		}
	}
	return list
}

// tokens returns the members of a list-valued field over all its lines
// (RFC 9110, Section 5.6.1), lower-cased.
func (h *head) tokens(name string) []string {
	var list []string
	for _, f := range h.fields {
		if strings.EqualFold(f.name, name) {
			for t := range strings.SplitSeq(f.value, ",") {
				if t = strings.Trim(t, " \t"); t != "" {
					list = append(list, lowerASCII(t))
				}
			}
		}
	}
	return list
}

// has reports whether a list-valued field has this member.
func (h *head) has(name, token string) bool {
	for _, t := range h.tokens(name) {
		if t == token {
			return true
		}
	}
	return false
}

// nominated returns a field of this head that Connection names as one for the
// next hop alone, "" if there is none. A server that is itself a gateway takes
// such a field out, and so would see another request than was judged.
func (h *head) nominated() string {
	for _, name := range h.tokens("Connection") {
		switch name {
		case "upgrade", "keep-alive", "close":
			continue
		}
		if _, n := h.get(name); n > 0 {
			return name
		}
	}
	return ""
}

// lowerASCII is strings.ToLower for the letters of HTTP: to fold any others
// makes a K of a Kelvin sign, and a token of what is none to everybody else.
func lowerASCII(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c | 0x20
		}
	}
	return string(b)
}

// A badHead says why a head is refused. Servers differ in what they make of
// such a head, and a gateway that reads it otherwise than the server does
// can be talked past.
type badHead struct{ reason string }

func (e *badHead) Error() string { return "bad HTTP head: " + e.reason }

func bad(format string, args ...any) error { return &badHead{fmt.Sprintf(format, args...)} }

// errHeadTooLarge says that a head passes maxHead.
var errHeadTooLarge = errors.New("HTTP head over 64 KiB")

// consumeHead splits the head at the start of b into its first line and fields
// and returns its length n. It returns n == 0 and a nil error if b holds only
// part of a head.
func consumeHead(b []byte) (line string, h head, n int, err error) {
	end := bytes.Index(b, []byte("\r\n\r\n"))
	part := b
	if end >= 0 {
		part = b[:end]
	}
	if err := checkLines(part); err != nil {
		return "", head{}, 0, err
	}
	if end < 0 {
		if len(b) > maxHead {
			return "", head{}, 0, errHeadTooLarge
		}
		return "", head{}, 0, nil
	}
	if n = end + 4; n > maxHead {
		return "", head{}, 0, errHeadTooLarge
	}
	h.raw = bytes.Clone(b[:n])
	line, rest, _ := strings.Cut(string(h.raw[:end]), "\r\n")
	for l := range strings.SplitSeq(rest, "\r\n") {
		if rest == "" {
			break
		}
		f, err := parseField(l)
		if err != nil {
			return "", head{}, 0, err
		}
		h.fields = append(h.fields, f)
	}
	return line, h, n, nil
}

// parseField parses one line of a head, or of the trailers.
func parseField(l string) (field, error) {
	name, value, ok := strings.Cut(l, ":")
	switch {
	case l[0] == ' ' || l[0] == '\t':
		// RFC 9112, Section 5.2: "A server that receives an obs-fold in a
		// request message [...] MUST either reject the message [...]"
		return field{}, bad("folded header line")
	case !ok:
		return field{}, bad("header line without a colon")
	case !httpguts.ValidHeaderFieldName(name):
		// RFC 9112, Section 5.1: "A server MUST reject, with a response
		// status code of 400 (Bad Request), any received request message
		// that contains whitespace between a header field name and colon."
		return field{}, bad("malformed header name")
	case !httpguts.ValidHeaderFieldValue(value):
		return field{}, bad("control character in a header value")
	}
	return field{name, strings.Trim(value, " \t")}, nil
}

// checkLines refuses what would let two readers disagree on where lines end.
func checkLines(b []byte) error {
	if bytes.IndexByte(b, 0) >= 0 {
		return bad("NUL byte")
	}
	for i := 0; ; i++ {
		at := bytes.IndexAny(b[i:], "\r\n")
		if at < 0 {
			return nil
		}
		i += at
		if b[i] == '\n' {
			return bad("bare LF")
		}
		if i++; i == len(b) {
			return nil
		}
		if b[i] != '\n' {
			return bad("bare CR")
		}
	}
}

// A requestHead is the head of a request.
type requestHead struct {
	head
	method, target string
	minor          int // of HTTP/1.x
	body           body
}

// host is the name that the request is for, with its port if it has one: the
// authority of an absolute target (RFC 9112, Section 3.2.2), else Host.
func (h *requestHead) host() string {
	if _, rest, ok := strings.Cut(h.target, "://"); ok && !strings.HasPrefix(h.target, "/") {
		if i := strings.IndexAny(rest, "/?"); i >= 0 {
			rest = rest[:i]
		}
		return rest
	}
	host, _ := h.get("Host")
	return host
}

// origin is the target in origin form: path and query as they were written.
func (h *requestHead) origin() string {
	_, rest, ok := strings.Cut(h.target, "://")
	if !ok || strings.HasPrefix(h.target, "/") {
		return h.target
	}
	switch i := strings.IndexAny(rest, "/?"); {
	case i < 0:
		return "/"
	case rest[i] == '?':
		return "/" + rest[i:]
	default:
		return rest[i:]
	}
}

// path is the path that the request is for, without the query.
func (h *requestHead) path() string {
	path, _, _ := strings.Cut(h.origin(), "?")
	return path
}

// parseRequest parses the request head at the start of b. It returns n == 0
// and a nil error if b holds only part of it.
func parseRequest(b []byte) (h *requestHead, n int, err error) {
	line, hd, n, err := consumeHead(b)
	if n == 0 || err != nil {
		return nil, 0, err
	}
	h = &requestHead{head: hd}
	method, rest, ok1 := strings.Cut(line, " ")
	target, version, ok2 := strings.Cut(rest, " ")
	switch {
	case !ok1 || !ok2 || !httpguts.ValidHeaderFieldName(method):
		return nil, 0, bad("malformed request line")
	case version == "HTTP/1.1":
		h.minor = 1
	case version != "HTTP/1.0":
		return nil, 0, bad("version is not HTTP/1.1 or HTTP/1.0")
	}
	for _, c := range []byte(target) {
		if c <= ' ' || c == 0x7f {
			return nil, 0, bad("control character in the request target")
		}
		if c == '#' { // in no form of a target; some servers end the path there
			return nil, 0, bad("fragment in the request target")
		}
	}
	absolute := strings.HasPrefix(target, "http://") || strings.HasPrefix(target, "https://")
	if !strings.HasPrefix(target, "/") && target != "*" && !absolute {
		return nil, 0, bad("request target is neither a path nor a URL")
	}
	if method == "CONNECT" {
		return nil, 0, bad("CONNECT to something that is not a proxy")
	}
	h.method, h.target = method, target
	// RFC 9112, Section 3.2: "A server MUST respond with a 400 (Bad Request)
	// status code to any HTTP/1.1 request message that lacks a Host header
	// field and to any request message that contains more than one Host
	// header field line or a Host header field with an invalid field value."
	host, hosts := h.get("Host")
	switch {
	case hosts > 1:
		return nil, 0, bad("more than one Host")
	case hosts == 0 && h.minor == 1:
		return nil, 0, bad("no Host")
	case !validHost(host) || !validHost(h.host()) || absolute && h.host() == "":
		return nil, 0, bad("malformed Host")
	case absolute && hosts == 1 && !strings.EqualFold(host, h.host()):
		return nil, 0, bad("Host differs from the request target")
	}
	// Of RFC 9110, Section 10.1.1 nothing but this is in use; the HTTP engine
	// would answer anything else by itself, and servers find 100-continue in
	// what is none.
	if expect, n := h.get("Expect"); n > 1 || n == 1 && lowerASCII(expect) != "100-continue" {
		return nil, 0, bad("Expect other than 100-continue")
	}
	if h.body, err = requestBody(h); err != nil {
		return nil, 0, err
	}
	return h, n, nil
}

// validHost reports whether s may be a Host, that is uri-host [ ":" port ]
// (RFC 9110, Section 7.2): no user, path, query or fragment, and one colon, since
// of two readers one may take what is behind the first for the port, and the
// other what is behind the last.
func validHost(s string) bool {
	if !httpguts.ValidHostHeader(s) || strings.ContainsAny(s, "/?#@") {
		return false
	}
	host, port := s, ""
	if at := strings.LastIndexByte(s, ':'); at > strings.LastIndexByte(s, ']') {
		if host, port = s[:at], s[at+1:]; host == "" {
			return false
		}
	}
	if strings.Trim(port, "0123456789") != "" {
		return false
	}
	if literal, ok := strings.CutPrefix(host, "["); ok {
		a, err := netip.ParseAddr(strings.TrimSuffix(literal, "]"))
		return err == nil && a.Is6() && strings.HasSuffix(literal, "]")
	}
	return !strings.ContainsAny(host, ":[]") && host != "." // which names nobody
}

// readHead reads from l until parse has found a whole head. What came behind
// it is put back, and so is a head of which only a part came before the error.
// However slowly a head comes, its bytes are looked at a constant number of times.
func readHead[H any](l *leg, parse func([]byte) (H, int, error)) (h H, err error) {
	var got []byte
	buf := make([]byte, 4096)
	for {
		k, rerr := l.Read(buf)
		at := len(got)
		got = append(got, buf[:k]...)
		if at > 0 && got[at-1] == '\r' {
			at--
		}
		whole := bytes.Contains(got[max(0, at-3):], []byte("\r\n\r\n"))
		if whole || len(got) > maxHead || checkLines(got[at:]) != nil {
			h, n, err := parse(got)
			if err != nil || n > 0 {
				l.unread(got[n:])
				return h, err
			}
		}
		if rerr != nil {
			l.unread(got)
			if errors.Is(rerr, io.EOF) && len(got) > 0 {
				rerr = io.ErrUnexpectedEOF
			}
			return h, rerr
		}
	}
}
