package mitm

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"filippo.io/age"

	"framegate/audit"
	"framegate/frames"
)

const payloadRules = `
[[rule]]
id = "card"
action = "log"
match.detect = ["payment-card"]

[[rule]]
id = "trial"
action = "close"
mode = "shadow"
match.contains = ["shadowed"]

[[rule]]
id = "secret"
action = "drop"
match.contains = ["hush"]

[[rule]]
id = "name"
action = "redact"
replace = "[somebody]"
match.contains = ["Kim"]

[[rule]]
id = "large"
action = "log"
match.min_size = "200KiB"
`

// A vault is a log that a gateway writes, and who may read it.
type vault struct {
	dir, identity string
	log           *audit.Log
}

// openVault makes p write a real log with payloads.
func openVault(t testing.TB, mode audit.PayloadMode) (*vault, func(*Proxy)) {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	v := &vault{dir: t.TempDir(), identity: filepath.Join(t.TempDir(), "identity")}
	if err := os.WriteFile(v.identity, []byte(id.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	rs, err := audit.ParseRecipients([]string{id.Recipient().String()})
	if err != nil {
		t.Fatal(err)
	}
	v.log, err = audit.Open(audit.Options{Dir: v.dir, Level: audit.Frames, Recipients: rs, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return v, func(p *Proxy) {
		p.Settings().Payload, p.Keys = mode, v.log
		p.Audit = both{p.Audit, v.log}
		p.Settings().Hold, p.Settings().Stream = 256<<10, true
	}
}

// both is two sinks.
type both [2]audit.Sink

func (b both) Record(events ...audit.Event) error {
	return errors.Join(b[0].Record(events...), b[1].Record(events...))
}

func (b both) Close() error { return nil }

// A kept is what the log has of one message.
type kept struct {
	record  audit.Record
	payload string
	err     error
}

func (v *vault) kept(t testing.TB, identities ...string) (list []kept) {
	t.Helper()
	p, err := audit.OpenPayloads(v.dir, identities...)
	if err != nil {
		t.Fatal(err)
	}
	r, err := audit.NewReader(v.dir, audit.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	for rec, err := range r.Records() {
		if err != nil {
			t.Fatal(err)
		}
		if rec.Event == audit.WSMessage || rec.Event == audit.WSControl {
			b, err := p.Of(&rec)
			list = append(list, kept{rec, string(b), err})
		}
	}
	return list
}

// text is the whole log as zstdcat shows it.
func (v *vault) text(t testing.TB) []byte {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(v.dir, "seg", "*.zst"))
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("zstd", slices.Concat([]string{"-dc"}, names)...).Output()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// payloadTraffic is sent by the client, one after the other, in one connection.
var payloadTraffic = []struct {
	op            frames.Opcode
	data          string
	masked        string // in mode redacted; "" for the message itself
	omitted       string // in mode redacted
	omittedInFull string
	passes        bool
}{
	{op: frames.Text, data: "an ordinary message", passes: true},
	{op: frames.Text, data: "", passes: true},
	{op: frames.Binary, data: "\xff\x00 not text", passes: true},
	{op: frames.Text, data: "pay 4012 8888 8888 1881 now", masked: "pay ******************* now", passes: true},
	{op: frames.Text, data: `{"pan":"4012888888881881"}`, masked: `{"pan":"****************"}`, passes: true},
	{op: frames.Text, data: "it is shadowed", masked: "it is ********", passes: true},
	{op: frames.Text, data: "hush now", masked: "**** now"},
	{op: frames.Text, data: "for Kim", masked: "for [somebody]"},
	{op: frames.Ping, data: "a ping", passes: true},
	{op: frames.Text, data: strings.Repeat("x", 100<<10), passes: true},
	{op: frames.Text, data: strings.Repeat("y", 220<<10), omitted: audit.OmittedRule, passes: true},
	{op: frames.Text, data: strings.Repeat("z", 300<<10), omitted: audit.OmittedStreamed, omittedInFull: audit.OmittedStreamed, passes: true},
	{op: frames.Text, data: "the last one", passes: true},
}

// Every kind of message, in every mode, through a real relay into a real log.
func TestPayloads(t *testing.T) {
	for _, mode := range []audit.PayloadMode{audit.PayloadNone, audit.PayloadRedacted, audit.PayloadFull} {
		t.Run([]string{"none", "redacted", "full"}[mode], func(t *testing.T) {
			t.Parallel()
			v, adjust := openVault(t, mode)
			s := openSocket(t, "wss", payloadRules, adjust)
			for _, m := range payloadTraffic {
				frame := s.client.frame(m.op, m.data)
				if m.passes {
					go s.client.send(frame)
				} else {
					s.client.send(frame)
				}
				switch {
				case m.passes:
					s.server.expect(frame)
				case m.data == "for Kim":
					if _, got, _ := s.server.read(); got != m.masked {
						t.Errorf("got %q", got)
					}
				}
			}
			s.finish()
			if err := v.log.Close(); err != nil {
				t.Fatal(err)
			}

			got := v.kept(t, v.identity)
			if len(got) != len(payloadTraffic)+2 { // and two Close frames
				t.Fatalf("%d records", len(got))
			}
			for i, m := range payloadTraffic {
				k := got[i]
				want, omitted := m.data, m.omittedInFull
				switch mode {
				case audit.PayloadNone:
					want, omitted = "", ""
				case audit.PayloadRedacted:
					omitted = m.omitted
					if m.masked != "" {
						want = m.masked
					}
				}
				if omitted != "" {
					want = ""
				}
				wantErr := error(nil)
				if mode == audit.PayloadNone || omitted != "" {
					wantErr = audit.ErrNoPayload
				}
				if k.payload != want || k.err != wantErr || k.record.PayloadOmitted != omitted {
					t.Errorf("message %d: %.40q, %v, omitted %q; want %.40q, omitted %q", i, k.payload, k.err, k.record.PayloadOmitted, want, omitted)
				}
				if k.record.Size != int64(len(m.data)) || k.record.SHA256 == "" {
					t.Errorf("message %d: size %d of %d", i, k.record.Size, len(m.data))
				}
			}
			text := v.text(t)
			for _, card := range []string{"4012 8888", "40128888"} {
				if n := bytes.Count(text, []byte(card)); n > 0 {
					t.Errorf("a card number %d times in the log", n)
				}
			}
			if has := bytes.Contains(text, []byte("an ordinary message")); has != (mode == audit.PayloadRedacted) {
				t.Errorf("a message in the clear: %v", has)
			}
			keys, _ := filepath.Glob(filepath.Join(v.dir, "keys", "*", "*"))
			if (len(keys) == 1) != (mode == audit.PayloadFull) {
				t.Errorf("keys %v", keys)
			}
			if mode == audit.PayloadFull {
				erase(t, v, got[0].record.Conn)
			}
		})
	}
}

func erase(t *testing.T, v *vault, conn string) {
	for _, k := range v.kept(t) {
		if k.err != audit.ErrSealed && k.record.PayloadOmitted == "" {
			t.Errorf("without an identity: %v", k.err)
		}
	}
	if done, err := audit.Erase(v.dir, audit.Erasure{Conn: conn, By: "user test", Logger: slog.New(slog.DiscardHandler)}); err != nil || done.Keys != 1 {
		t.Fatalf("%+v, %v", done, err)
	}
	for _, k := range v.kept(t, v.identity) {
		if k.err != audit.ErrErased && k.record.PayloadOmitted == "" {
			t.Errorf("erased: %v", k.err)
		}
	}
	r, err := audit.Verify(v.dir, audit.VerifyOptions{})
	if err != nil || r.Fault() != "" {
		t.Errorf("%+v, %v", r, err)
	}
}

// noKeys makes none, with or without saying so.
type noKeys struct{ err error }

func (n noKeys) PayloadKey(string) (*audit.PayloadKey, error) { return nil, n.err }

// Without a key a WebSocket is refused, or goes on with a word in each record.
func TestPayloadKeyFails(t *testing.T) {
	s := openSocket(t, "ws", "", func(p *Proxy) { p.Settings().Payload, p.Keys = audit.PayloadFull, noKeys{} })
	frame := s.client.frame(frames.Text, "hello")
	s.client.send(frame)
	s.server.expect(frame)
	s.finish()
	for _, e := range s.ledger.of(audit.WSMessage) {
		if e.Msg.Omitted != audit.OmittedKey || e.Msg.Payload != nil || e.Msg.Sealed != nil {
			t.Errorf("%+v", e.Msg)
		}
	}

	h := newHub(t, "ws", "", func(p *Proxy) { p.Settings().Payload, p.Keys = audit.PayloadFull, noKeys{errDiskFull} })
	c := h.dial()
	send(t, c, upgradeRequest)
	head, err := readRawHead(c)
	if err != nil || !strings.HasPrefix(head, "HTTP/1.1 503 ") {
		t.Errorf("%q, %v", head, err)
	}
	if strings.Contains(head, errDiskFull.Error()) {
		t.Errorf("the client is told of our disk: %q", head)
	}
	c.Close()
	e := h.ended(1)
	if e.State != audit.StateFailed || !strings.Contains(e.Reason, errDiskFull.Error()) || len(h.ledger.of(audit.WSOpen)) > 0 {
		t.Errorf("ended as %s: %s", e.State, e.Reason)
	}
}

// What a pass gives back to the pool holds no payload.
func TestPayloadsAreForgotten(t *testing.T) {
	for _, mode := range []audit.PayloadMode{audit.PayloadRedacted, audit.PayloadFull} {
		v, adjust := openVault(t, mode)
		s := openSocket(t, "ws", "", adjust)
		frame := s.client.frame(frames.Text, strings.Repeat("x", 200<<10))
		go s.client.send(frame)
		s.server.expect(frame)
		s.finish()
		v.log.Close()
		for range 100 {
			p := passes.Get().(*pass)
			for i := range p.messages {
				if p.messages[i].Payload != nil || p.messages[i].Sealed != nil {
					t.Fatal("a pass has kept a payload")
				}
			}
			if cap(p.room) > 4*payloadRoom {
				t.Fatalf("a pass has kept %d bytes", cap(p.room))
			}
		}
	}
}

// What it costs to keep the payload of a message of 1 KiB: with -cpu 1, all of
// it, sealing, encoding, compression and the writing of the log included.
func BenchmarkPayload(b *testing.B) {
	for _, mode := range []audit.PayloadMode{audit.PayloadNone, audit.PayloadRedacted, audit.PayloadFull} {
		for _, hit := range []bool{false, true} {
			b.Run(fmt.Sprintf("%s/hit=%v", [...]string{"none", "redacted", "full"}[mode], hit), func(b *testing.B) {
				v, adjust := openVault(b, mode)
				h := newHop(b, false, adjust, func(p *Proxy) {
					p.Audit = v.log
					p.Policy = examplePolicy(b)
				})
				ws := &upgrade{}
				if mode == audit.PayloadFull {
					var err error
					if ws.key, err = v.log.PayloadKey("b-1"); err != nil {
						b.Fatal(err)
					}
				}
				done := make(chan struct{})
				go func() {
					defer close(done)
					h.relay(ws)()
					h.end(nil)
				}()
				const line = `{"type":"ticker","sequence":37475248783,"product_id":"ETH-USD","price":"1285.22","time":"2022-10-19T23:28:22.061769Z"}` + "\n"
				text := strings.Repeat(line, 10)[:1<<10]
				if hit {
					text = "4012 8888 8888 1881 " + text[20:]
				}
				frame := h.client.frame(frames.Binary, text)
				per := chunk / len(frame)
				batch := []byte(strings.Repeat(frame, per))
				b.SetBytes(1 << 10)
				b.ReportAllocs()
				b.ResetTimer()
				go func() {
					for left := b.N; left > 0; left -= per {
						h.client.Write(batch[:min(left, per)*len(frame)])
					}
				}()
				buf := make([]byte, chunk)
				for left := b.N * len(frame); left > 0; {
					n, err := h.server.Read(buf)
					if err != nil {
						b.Fatal(err)
					}
					left -= n
				}
				v.log.Close()
				b.StopTimer()
				h.client.reset()
				h.server.reset()
				<-done
			})
		}
	}
}
