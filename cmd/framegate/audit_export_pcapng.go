package main

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"framegate/audit"
	"framegate/audit/capture"
	"framegate/frames"
)

// A packetExport writes the connection of each WebSocket as packets.
type packetExport struct {
	out      *capture.PacketWriter
	payloads *payloadSource
	open     map[string]*capture.PacketConn
	last     time.Time
	frame    []byte
}

func newPacketExport(w io.Writer, p *payloadSource) (exporter, error) {
	out, err := capture.NewPacketWriter(w, "framegate "+currentBuild().Version,
		"made from the audit log: one frame for each message, and packets that never were on a wire")
	return &packetExport{out: out, payloads: p, open: make(map[string]*capture.PacketConn)}, err
}

func (x *packetExport) record(r *audit.Record) error {
	x.last = r.Time
	switch r.Event {
	case audit.GatewayStart: // what was open before has ended with the gateway
		return x.closeAll()
	case audit.WSOpen:
		if err := x.end(r, r.Conn); err != nil {
			return err
		}
		_, err := x.connect(r)
		return err
	case audit.WSMessage, audit.WSControl:
		return x.message(r)
	case audit.WSViolation:
		c, err := x.connect(r)
		if err != nil {
			return err
		}
		return c.Note(r.Dir == "to-server", r.Time, packetComment(r)+" the frame is not here: "+r.Reason)
	case audit.WSClose:
		return x.end(r, r.Conn)
	}
	return nil
}

// connect returns the connection of a record. It begins with the opening, or
// else with the first message: its record tells of the connection as well, but
// for the subprotocol.
func (x *packetExport) connect(r *audit.Record) (*capture.PacketConn, error) {
	if c := x.open[r.Conn]; c != nil {
		return c, nil
	}
	client, _ := netip.ParseAddrPort(r.Client)
	server, _ := netip.ParseAddrPort(r.Server)
	comment := packetComment(r)
	if r.Event != audit.WSOpen {
		comment = "framegate conn=" + r.Conn + " " + audit.WSOpen + " is not among the records"
	}
	c, err := x.out.Connect(r.Conn+"/"+strconv.FormatUint(r.Seq, 10), client, server, r.Time, comment)
	if err != nil {
		return nil, err
	}
	request, answer := upgradeHeads(r, server)
	if err := c.Send(true, r.Time, request, comment); err != nil {
		return nil, err
	}
	if err := c.Send(false, r.Time, answer, comment); err != nil {
		return nil, err
	}
	x.open[r.Conn] = c
	return c, nil
}

// upgradeHeads are heads that say what the record says. The key follows from
// the connection; the answer to it is right (RFC 6455, Section 4.2.2).
func upgradeHeads(r *audit.Record, server netip.AddrPort) (request, answer []byte) {
	sum := sha256.Sum256([]byte(r.Conn))
	key := base64.StdEncoding.EncodeToString(sum[:16])
	protocol := ""
	if r.Subprotocol != "" {
		protocol = "Sec-WebSocket-Protocol: " + fieldValue(r.Subprotocol) + "\r\n"
	}
	request = fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\n%s\r\n", targetPath(r.Path), authority(r, server), key, protocol)
	answer = fmt.Appendf(nil, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Accept: %s\r\n%s\r\n", acceptOf(key), protocol)
	return request, answer
}

// fieldValue is text that cannot end a line.
func fieldValue(s string) string {
	return strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f {
			return '?'
		}
		return c
	}, s)
}

// message writes one frame: not compressed, whole, masked if the client sent it
// (RFC 6455, Section 5.1). Of one without payload no frame is made up, but a
// segment without data says that it was there.
func (x *packetExport) message(r *audit.Record) error {
	c, err := x.connect(r)
	if err != nil {
		return err
	}
	toServer, comment := r.Dir == "to-server", packetComment(r)
	b := x.payloads.of(r)
	if b.missing != "" {
		return c.Note(toServer, r.Time, fmt.Sprintf("%s %s of %d bytes is not here: %s", comment, r.Opcode, r.Size, b.missing))
	}
	if b.redacted {
		comment += " redacted"
	}
	h := frames.Header{Fin: true, Opcode: opcodeOf(r.Opcode), Masked: toServer}
	if toServer {
		binary.BigEndian.PutUint32(h.Mask[:], uint32(r.Seq)^0x4647_0000)
	}
	if h.Opcode >= frames.Close && len(b.data) > 125 {
		// "All control frames MUST have a payload length of 125 bytes or less"
		// (RFC 6455, Section 5.5): no frame can be made of a redaction beyond it.
		return c.Note(toServer, r.Time, comment+" is not here: its payload is longer than a control frame may be")
	}
	h.Length = int64(len(b.data))
	x.frame = frames.AppendFrame(x.frame[:0], h, b.data)
	return c.Send(toServer, r.Time, x.frame, comment)
}

// packetComment names the record: the ids first, for filters.
func packetComment(r *audit.Record) string {
	var b strings.Builder
	fmt.Fprintf(&b, "framegate conn=%s seq=%d event=%s", printable(r.Conn), r.Seq, r.Event)
	if r.Action != "" {
		fmt.Fprintf(&b, " action=%s", printable(r.Action))
	}
	if len(r.Rules) > 0 {
		fmt.Fprintf(&b, " rules=%s", printable(strings.Join(r.Rules, ",")))
	}
	if r.Code != 0 && r.Event != audit.WSOpen {
		fmt.Fprintf(&b, " code=%d", r.Code)
	}
	if r.Reason != "" {
		fmt.Fprintf(&b, " reason=%s", strconv.QuoteToGraphic(r.Reason))
	}
	return b.String()
}

func (x *packetExport) end(r *audit.Record, conn string) error {
	c := x.open[conn]
	if c == nil {
		return nil
	}
	delete(x.open, conn)
	return c.Close(r.Time, packetComment(r))
}

func (x *packetExport) closeAll() error {
	for _, conn := range slices.Sorted(maps.Keys(x.open)) {
		c := x.open[conn]
		delete(x.open, conn)
		if err := c.Close(x.last, "framegate conn="+printable(conn)+" "+audit.WSClose+" is not among the records"); err != nil {
			return err
		}
	}
	return nil
}

func (x *packetExport) close() error { return x.closeAll() }
