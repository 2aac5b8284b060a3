package main

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"

	"github.com/spf13/cobra"

	"framegate/frames"
	"framegate/policy"
)

func policyExplain(g *globals) *cobra.Command {
	var m messageFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "explain [F...]",
		Short: "Say of each rule why a message matches it, or why not",
		Long: "Say of each rule why a message matches it, or why not, and what becomes of the message.\n" +
			"The flags say where it comes from; what they do not say is not known, and rules whose\n" +
			"scope asks for it are out of scope. With --record, all that is as the log has it, where\n" +
			"the flags do not say otherwise.",
		Example: "  framegate policy explain rules.toml --host chat.example --message 'my card is 4012 8888 8888 1881'\n" +
			"  framegate policy explain --record 4711 --message-file suspicious.json",
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := g.policy(cmd, args)
			if err != nil {
				return err
			}
			q, err := m.question(g, cmd)
			if err != nil {
				return err
			}
			e := p.Explain(q.upgrade, q.dir, q.opcode, q.data)
			if asJSON {
				return printExplanationJSON(cmd.OutOrStdout(), p, q, e)
			}
			return printExplanation(cmd.OutOrStdout(), p, q, e)
		},
	}
	m.add(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// A question is a message and where it comes from.
type question struct {
	data    []byte
	dir     frames.Direction
	opcode  frames.Opcode
	upgrade policy.Upgrade
	server  netip.AddrPort
	record  *messageRecord // nil if the question is not about one
}

// messageFlags are the flags that make a question.
type messageFlags struct {
	text, file                              string
	direction, opcode                       string
	host, path, origin, subprotocol, client string
	record                                  uint64
	dir                                     string
	identities                              []string
}

func (m *messageFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&m.text, "message", "", "the message, as `text`")
	flags.StringVar(&m.file, "message-file", "", "`file` with the message; - is the standard input")
	flags.StringVar(&m.direction, "direction", "to-server", "`way` of the message, to-server or to-client")
	flags.StringVar(&m.opcode, "opcode", "text", "`opcode`: text, binary, ping, pong or close")
	flags.StringVar(&m.host, "host", "", "`name` of the server")
	flags.StringVar(&m.path, "path", "", "`path` of the WebSocket")
	flags.StringVar(&m.origin, "origin", "", "`origin` of the page")
	flags.StringVar(&m.subprotocol, "subprotocol", "", "`name` of the subprotocol that the server chose")
	flags.StringVar(&m.client, "client", "", "`address` of the client")
	flags.Uint64Var(&m.record, "record", 0, "`seq` of a message in the log")
	flags.StringVar(&m.dir, "dir", "", "`directory` of the log (default: audit.dir of the configuration)")
	addIdentities(cmd, &m.identities)
}

// question reads what the flags name.
func (m *messageFlags) question(g *globals, cmd *cobra.Command) (*question, error) {
	given := cmd.Flags().Changed
	q := &question{opcode: frames.Text}
	if given("record") {
		log, err := m.find(g, cmd)
		if err != nil {
			return nil, err
		}
		if err := q.from(log); err != nil {
			return nil, err
		}
	}
	if err := m.scope(q, given); err != nil {
		return nil, err
	}
	data, ok, err := m.message(cmd)
	switch {
	case err != nil:
		return nil, err
	case ok && q.record != nil && !q.record.is(data):
		return nil, failed(fmt.Errorf("the message is not that of record %d: got %s, expected %s",
			q.record.Seq, fingerprint(data), q.record.fingerprint()))
	case ok:
		q.data = data
	case q.record != nil:
		dir, err := g.auditDir(cmd, m.dir)
		if err != nil {
			return nil, err
		}
		payloads, err := openPayloads(dir, m.identities)
		if err != nil {
			return nil, err
		}
		q.data, err = q.record.payload(payloads)
		return q, err
	default:
		return nil, usage(errors.New("no message, expected one of --message, --message-file, --record"))
	}
	return q, nil
}

// scope takes over what the flags say of the connection and the frame.
func (m *messageFlags) scope(q *question, given func(string) bool) error {
	u := &q.upgrade
	for flag, to := range map[string]struct {
		from string
		to   *string
	}{
		"host": {m.host, &u.Host}, "path": {m.path, &u.Path},
		"origin": {m.origin, &u.Origin}, "subprotocol": {m.subprotocol, &u.Subprotocol},
	} {
		if given(flag) {
			*to.to = to.from
		}
	}
	if given("client") {
		client, err := netip.ParseAddr(m.client)
		if err != nil {
			return usage(fmt.Errorf("--client: got %q, expected an address", m.client))
		}
		u.Client = client
	}
	if given("direction") {
		dir, ok := parseDirection(m.direction)
		if !ok {
			return usage(fmt.Errorf("--direction: got %q, expected to-server or to-client", m.direction))
		}
		q.dir = dir
	}
	if given("opcode") {
		op, ok := parseOpcode(m.opcode)
		if !ok {
			return usage(fmt.Errorf("--opcode: got %q, expected text, binary, ping, pong or close", m.opcode))
		}
		q.opcode = op
	}
	return nil
}

// message reads the message that the flags name, if they do.
func (m *messageFlags) message(cmd *cobra.Command) (data []byte, ok bool, err error) {
	text, file := cmd.Flags().Changed("message"), cmd.Flags().Changed("message-file")
	switch {
	case text && file:
		return nil, false, usage(errors.New("got --message and --message-file, expected one of them"))
	case text:
		return []byte(m.text), true, nil
	case !file:
		return nil, false, nil
	case m.file == "-":
		data, err = io.ReadAll(cmd.InOrStdin())
	default:
		data, err = os.ReadFile(m.file)
	}
	if err != nil {
		return nil, false, usage(err)
	}
	return data, true, nil
}

func parseDirection(word string) (frames.Direction, bool) {
	for _, dir := range []frames.Direction{frames.ToServer, frames.ToClient} {
		if dir.String() == word {
			return dir, true
		}
	}
	return 0, false
}

func parseOpcode(word string) (frames.Opcode, bool) {
	for _, op := range []frames.Opcode{frames.Text, frames.Binary, frames.Ping, frames.Pong, frames.Close} {
		if op.String() == word {
			return op, true
		}
	}
	return 0, false
}
