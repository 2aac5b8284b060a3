package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"framegate/audit/capture"
	"framegate/frames"
	"framegate/policy"
)

func newInspectCommand(g *globals) *cobra.Command {
	var files, shadow, identities []string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "inspect [--policy F]... CAPTURE...",
		Short: "What would these rules have done? pcap, pcapng, HAR, recordings",
		Long: "Judge the messages of captures by a policy, as the gateway would, and print each\n" +
			"hit and a summary by rule. A capture is a pcap or pcapng file (plaintext WebSocket\n" +
			"over TCP), a HAR file of a browser, or a recording with one JSON object a line;\n" +
			"each may be compressed by gzip. A directory is a log of framegate; of its messages\n" +
			"those can be judged of which it has the payload as it was sent: not those that a rule\n" +
			"has redacted, and sealed ones with an identity that opens them.",
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, captures []string) error {
			c, err := g.load(cmd)
			if err != nil {
				return err
			}
			if cmd.Flags().Changed("policy") {
				c.Policy.Files = files
			}
			if err := mustExist(slices.Concat(files, shadow)); err != nil {
				return err
			}
			p, err := policy.LoadBeside(c.Policy.Files, shadow)
			if err != nil {
				return usage(err)
			}
			in := newInspection(c, p, cmd.OutOrStdout(), asJSON)
			in.identities = identities
			for _, name := range captures {
				if err := in.file(name); err != nil {
					return fmt.Errorf("%s: %w", name, err)
				}
			}
			return in.summary()
		},
	}
	cmd.Flags().StringArrayVar(&files, "policy", nil, "policy `file` or glob instead of policy.files; may be repeated")
	cmd.Flags().StringArrayVar(&shadow, "shadow", nil, "policy `file` or glob to try beside it; may be repeated")
	addIdentities(cmd, &identities)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, one object a line")
	return cmd
}

// An inspection is the judging of captures by one policy.
type inspection struct {
	policy *policy.Policy
	rates  *policy.Rates
	limits inspectLimits
	out    io.Writer
	json   bool

	identities []string // files that open payloads of a log

	name  string    // of the capture
	clock time.Time // of the message that is being judged
	conns int
	byID  map[string]*ruleCount // hits

	Connections int   `json:"connections"`
	Bypassed    int   `json:"bypassed"` // of these, by a connection rule
	Blocked     int   `json:"blocked"`
	Unread      int   `json:"unread"` // and those that cannot be read to their end
	Messages    int   `json:"messages"`
	Bytes       int64 `json:"bytes"`
	Hits        int   `json:"hits"`        // messages that a rule matches
	After       int   `json:"after_close"` // messages that would not have come, since a rule closed before
	Unknown     int   `json:"unknown"`     // messages of a log without their payload: the following, and those that have none
	Masked      int   `json:"masked"`      // whose payload is not the message as it was sent
	Sealed      int   `json:"sealed"`      // that no identity opens
	Erased      int   `json:"erased"`
}

// inspectLimits are the gateway's own.
type inspectLimits struct {
	hold, max, ratio int64
	stream           bool
}

// A ruleCount is what one rule has hit.
type ruleCount struct {
	Messages    int   `json:"messages"`
	Bytes       int64 `json:"bytes"`
	Connections int   `json:"connections"`
	last        int   // the connection of the last hit
}

func newInspection(c *config, p *policy.Policy, out io.Writer, asJSON bool) *inspection {
	in := &inspection{
		policy: p, out: out, json: asJSON, byID: map[string]*ruleCount{},
		limits: inspectLimits{c.Limits.Hold, c.Limits.MaxMessage, int64(c.Limits.MaxRatio), c.Limits.Oversize == "stream"},
	}
	in.rates = policy.NewRates()
	in.rates.Now = func() time.Time { return in.clock }
	return in
}

// file judges one capture. What a broken one has before its fault is judged.
func (in *inspection) file(name string) error {
	if info, err := os.Stat(name); err == nil && info.IsDir() {
		return in.log(name)
	}
	f, err := capture.Open(name)
	if err != nil {
		return unwrapPath(err)
	}
	defer f.Close()
	in.name = name
	scopes := map[*capture.Conn]*inspected{}
	message := func(m *capture.Message) error {
		c := scopes[m.Conn]
		if c == nil {
			c = in.open(m.Conn, in.name)
			scopes[m.Conn] = c
		}
		dir := frames.ToClient
		if m.ToServer {
			dir = frames.ToServer
		}
		return c.judge(dir, opcodeOf(m.Opcode), m.Data, m.Time)
	}
	switch f.Format {
	case capture.PCAP, capture.PCAPNG:
		return in.packets(f)
	case capture.HAR:
		return capture.ReadHAR(f, message)
	case capture.Recording:
		return capture.ReadRecording(f, message)
	case capture.Log:
		return failed(fmt.Errorf("this is a segment of a log")).hint("name the directory of the log")
	}
	return fmt.Errorf("expected pcap, pcapng, HAR, or a recording with one JSON object a line")
}

func unwrapPath(err error) error {
	if bad, ok := err.(*os.PathError); ok {
		return bad.Err
	}
	return err
}

func opcodeOf(word string) frames.Opcode {
	for _, op := range []frames.Opcode{frames.Text, frames.Binary, frames.Close, frames.Ping, frames.Pong} {
		if op.String() == word {
			return op
		}
	}
	return frames.Binary
}

// inspected is one connection of a capture.
type inspected struct {
	in       *inspection
	conn     *capture.Conn
	number   int
	messages int
	closed   bool          // a rule has closed it
	scope    *policy.Scope // nil: not judged
}

// open decides about a connection whose handshake is known.
func (in *inspection) open(conn *capture.Conn, id string) *inspected {
	in.conns++
	in.Connections++
	c := &inspected{in: in, conn: conn, number: in.conns}
	d := in.policy.Connection(policy.Flow{Client: conn.Client, Server: conn.Server, Host: conn.Host})
	switch d.Action {
	case policy.Bypass:
		in.Bypassed++
	case policy.Block:
		in.Blocked++
	default:
		c.scope = in.policy.Scope(policy.Upgrade{
			Client: clientOf(conn.Client), Host: conn.Host, Path: conn.Path, Origin: conn.Origin, Subprotocol: conn.Subprotocol,
			Rates: in.rates, Conn: fmt.Sprint(id, in.conns),
		})
		return c
	}
	in.line(c, finding{Action: d.Action.String(), Rules: []string{d.Rule}})
	return c
}

// clientOf is the client's address; a capture of a browser does not know it.
func clientOf(a netip.AddrPort) netip.Addr { return a.Addr() }

// judge judges one message.
func (c *inspected) judge(dir frames.Direction, op frames.Opcode, data []byte, at time.Time) error {
	in := c.in
	c.messages++
	in.Messages++
	in.Bytes += int64(len(data))
	in.clock = at
	if c.scope == nil {
		return nil
	}
	return c.note(c.scope.Message(dir, op, data), dir, op, int64(len(data)), at)
}

// note counts a verdict and prints it, if there is anything to it.
func (c *inspected) note(v policy.Verdict, dir frames.Direction, op frames.Opcode, size int64, at time.Time) error {
	in := c.in
	f := finding{
		Message: c.messages, Time: at, Dir: dir.String(), Opcode: op.String(), Size: size,
		Action: v.Action.String(), Rules: v.Rules, Shadow: v.Shadow, Code: int(v.Code), Reason: v.Reason, After: c.closed,
	}
	if c.closed {
		in.After++
	}
	c.closed = c.closed || v.Action == policy.Close
	for _, id := range slices.Concat(v.Rules, v.Shadow) {
		n := in.byID[id]
		if n == nil {
			n = &ruleCount{}
			in.byID[id] = n
		}
		n.Messages++
		n.Bytes += size
		if n.last != c.number {
			n.last = c.number
			n.Connections++
		}
	}
	if len(v.Rules)+len(v.Shadow) > 0 {
		in.Hits++
	} else if v.Action == policy.Allow {
		return nil
	}
	return in.line(c, f)
}

// A finding is one line of what was found.
type finding struct {
	Capture string    `json:"capture"`
	Conn    int       `json:"conn"`
	Host    string    `json:"host,omitempty"`
	Path    string    `json:"path,omitempty"`
	Message int       `json:"message,omitempty"` // of the connection, from 1; 0 is the connection
	Time    time.Time `json:"time,omitzero"`
	Dir     string    `json:"dir,omitempty"`
	Opcode  string    `json:"opcode,omitempty"`
	Size    int64     `json:"size,omitempty"`
	Action  string    `json:"action"`
	Rules   []string  `json:"rules,omitempty"`
	Shadow  []string  `json:"shadow,omitempty"`
	Code    int       `json:"code,omitempty"`
	Reason  string    `json:"reason,omitempty"`
	After   bool      `json:"after_close,omitempty"` // the gateway had ended the connection before
}

func (in *inspection) line(c *inspected, f finding) error {
	f.Capture, f.Conn, f.Host, f.Path = in.name, c.number, c.conn.Host, c.conn.Path
	if in.json {
		return json.NewEncoder(in.out).Encode(f)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s: connection %d", f.Capture, f.Conn)
	if f.Host != "" {
		fmt.Fprintf(&b, " %s%s", f.Host, f.Path)
	}
	if f.Message > 0 {
		fmt.Fprintf(&b, ", message %d: %s %s of %d bytes", f.Message, f.Dir, f.Opcode, f.Size)
	}
	fmt.Fprintf(&b, ": %s", f.Action)
	if f.Code != 0 {
		fmt.Fprintf(&b, " %d", f.Code)
	}
	if len(f.Rules) > 0 {
		fmt.Fprintf(&b, " by %s", strings.Join(f.Rules, ", "))
	} else if f.Reason != "" {
		fmt.Fprintf(&b, ": %s", f.Reason)
	}
	if len(f.Shadow) > 0 {
		fmt.Fprintf(&b, "; in shadow mode %s", strings.Join(f.Shadow, ", "))
	}
	if f.After {
		b.WriteString(" (would not have come)")
	}
	_, err := fmt.Fprintln(in.out, printable(b.String()))
	return err
}

// summary prints the totals, and a row for each rule.
func (in *inspection) summary() error {
	if in.json {
		type row struct {
			Rule   string `json:"rule"`
			Action string `json:"action"`
			Mode   string `json:"mode"`
			ruleCount
		}
		rows := []row{}
		for _, r := range in.policy.Rules() {
			rows = append(rows, row{r.ID, r.Action.String(), modeOf(r), in.count(r.ID)})
		}
		return json.NewEncoder(in.out).Encode(struct {
			*inspection
			Policy string `json:"policy"`
			Rules  []row  `json:"rules"`
		}{in, in.policy.Version(), rows})
	}
	if in.Hits > 0 {
		fmt.Fprintln(in.out)
	}
	tw := tabwriter.NewWriter(in.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "RULE\tACTION\tMODE\tMESSAGES\tBYTES\tCONNECTIONS")
	for _, r := range in.policy.Rules() {
		n := in.count(r.ID)
		fmt.Fprintf(tw, "%s\t%s\t%s\t%d\t%d\t%d\n", r.ID, r.Action, modeOf(r), n.Messages, n.Bytes, n.Connections)
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(in.out, "\n%s with %s of %d bytes: %s hit, %d after a close\n",
		counted(in.Connections, "connection"), counted(in.Messages, "message"), in.Bytes, counted(in.Hits, "message"), in.After)
	if in.Unknown > 0 {
		why := ""
		if in.Masked+in.Sealed+in.Erased > 0 {
			why = fmt.Sprintf(" as it was sent: %d redacted, %d sealed, %d erased", in.Masked, in.Sealed, in.Erased)
		}
		fmt.Fprintf(in.out, "%s not judged, since the log has no payload of them%s\n", counted(in.Unknown, "message"), why)
	}
	_, err := fmt.Fprintf(in.out, "%d connections bypassed, %d blocked, %d not read to their end; policy %s\n",
		in.Bypassed, in.Blocked, in.Unread, in.policy.Version()[:12])
	return err
}

func (in *inspection) count(id string) ruleCount {
	if n := in.byID[id]; n != nil {
		return *n
	}
	return ruleCount{}
}
