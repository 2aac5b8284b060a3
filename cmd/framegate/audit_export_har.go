package main

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"framegate/audit"
	"framegate/audit/capture"
)

// maxHeld is how many bytes of messages wait for the ends of their connections.
// The developer tools of browsers give up long before.
const maxHeld = 256 << 20

// A harExport writes an entry for each WebSocket, at its end, and for each
// other exchange.
type harExport struct {
	out      *capture.HARWriter
	payloads *payloadSource
	open     map[string]*capture.HARSocket
	order    []string // of the keys of open; some are gone from there
}

func newHARExport(w io.Writer, p *payloadSource) (exporter, error) {
	out, err := capture.NewHARWriter(w, "framegate", currentBuild().Version)
	return &harExport{out: out, payloads: p, open: make(map[string]*capture.HARSocket)}, err
}

func (x *harExport) record(r *audit.Record) error {
	switch r.Event {
	case audit.GatewayStart: // what was open before has ended with the gateway
		return x.closeAll()
	case audit.HTTPRequest:
		return x.out.Request(harEntryOf(r))
	case audit.WSOpen:
		if err := x.end(r.Conn); err != nil {
			return err
		}
		x.socket(r)
	case audit.WSMessage, audit.WSControl:
		b := x.payloads.of(r)
		return x.message(r, capture.HARMessage{
			Seq: r.Seq, Time: r.Time, ToServer: r.Dir == "to-server", Opcode: r.Opcode,
			Data: b.data, Missing: b.missing, Redacted: b.redacted, Action: r.Action, Rules: r.Rules,
		})
	case audit.WSViolation:
		return x.message(r, capture.HARMessage{
			Seq: r.Seq, Time: r.Time, ToServer: r.Dir == "to-server", Opcode: r.Opcode,
			Missing: "it broke the protocol: " + r.Reason, Action: r.Action, Rules: r.Rules,
		})
	case audit.WSClose:
		return x.end(r.Conn)
	}
	return nil
}

// socket begins an entry with the opening, or else with the first message that
// is there: its record tells of the connection as well, but for the subprotocol.
func (x *harExport) socket(r *audit.Record) *capture.HARSocket {
	e := harEntryOf(r)
	e.Method, e.Status = "GET", 101
	if r.Event != audit.WSOpen {
		e.Seq, e.Action, e.Rules = 0, "", nil
		e.Comment = audit.WSOpen + " is not among the records"
	}
	s := x.out.Socket(e)
	x.open[r.Conn] = s
	x.order = append(x.order, r.Conn)
	return s
}

func (x *harExport) message(r *audit.Record, m capture.HARMessage) error {
	s := x.open[r.Conn]
	if s == nil {
		s = x.socket(r)
	}
	if err := s.Message(m); err != nil {
		return err
	}
	if x.out.Held() > maxHeld {
		return failed(fmt.Errorf("more than %d MiB of messages of connections that are open at a time: too much for an archive", maxHeld>>20)).
			hint("choose less, with --conn, --from and --to or --host; pcapng and parquet have no limit")
	}
	return nil
}

func (x *harExport) end(conn string) error {
	s := x.open[conn]
	if s == nil {
		return nil
	}
	delete(x.open, conn)
	if len(x.order) > 2*len(x.open)+64 {
		kept := x.order[:0]
		for _, c := range x.order {
			if x.open[c] != nil {
				kept = append(kept, c)
			}
		}
		x.order = kept
	}
	return s.Close()
}

func (x *harExport) closeAll() error {
	for _, conn := range x.order {
		if err := x.end(conn); err != nil {
			return err
		}
	}
	x.order = nil
	return nil
}

func (x *harExport) close() error {
	if err := x.closeAll(); err != nil {
		return err
	}
	return x.out.Close()
}

func harEntryOf(r *audit.Record) capture.HAREntry {
	e := capture.HAREntry{
		Conn: r.Conn, Seq: r.Seq, Start: r.Time, Method: r.Method, Subprotocol: r.Subprotocol,
		Status: r.Code, Action: r.Action, Rules: r.Rules, Comment: r.Reason,
	}
	e.Client, _ = netip.ParseAddrPort(r.Client)
	e.Server, _ = netip.ParseAddrPort(r.Server)
	e.Host = authority(r, e.Server)
	scheme := "http"
	if r.Event != audit.HTTPRequest {
		scheme = "ws"
	}
	if overTLS(r, e.Server) {
		scheme += "s"
	}
	host := e.Host
	if host == "" {
		host = "unknown.invalid" // RFC 2606, Section 2
	}
	e.URL = scheme + "://" + host + targetPath(r.Path)
	return e
}

// overTLS says whether the connection was one of TLS. A record does not tell
// if the client sent no name; then the port does.
func overTLS(r *audit.Record, server netip.AddrPort) bool { return r.SNI != "" || server.Port() == 443 }

// authority is what the client called the server, as it stands in a URL: with
// the port if that is not the usual, which the record does not have there.
func authority(r *audit.Record, server netip.AddrPort) string {
	host := r.Host
	if host == "" {
		host = r.SNI
	}
	if host == "" && server.IsValid() {
		host = server.Addr().String()
	}
	if host == "" {
		return ""
	}
	if _, _, err := net.SplitHostPort(host); err == nil {
		return hostText(host)
	}
	host = strings.Trim(host, "[]")
	usual := uint16(80)
	if overTLS(r, server) {
		usual = 443
	}
	switch port := server.Port(); {
	case port != 0 && port != usual:
		return hostText(net.JoinHostPort(host, strconv.Itoa(int(port))))
	case strings.Contains(host, ":"):
		return hostText("[" + host + "]")
	}
	return hostText(host)
}

// hostText is a host that can end neither a line nor its part of a URL.
func hostText(host string) string {
	return percentEncoded(host, func(c byte) bool {
		return 'a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9' || strings.IndexByte("-._~:[]", c) >= 0
	})
}

// targetPath is a path that cannot end a line, a request line or a URL.
func targetPath(path string) string {
	if !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	return percentEncoded(path, func(c byte) bool { return ' ' < c && c < 0x7f && c != '?' && c != '#' })
}

func percentEncoded(s string, keep func(byte) bool) string {
	var b strings.Builder
	for i := range len(s) {
		if keep(s[i]) {
			b.WriteByte(s[i])
		} else {
			fmt.Fprintf(&b, "%%%02X", s[i])
		}
	}
	return b.String()
}
