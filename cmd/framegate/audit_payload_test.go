package main

import (
	"crypto/sha256"
	"net/netip"
	"os"
	"time"

	"filippo.io/age"
	"github.com/rogpeppe/go-internal/testscript"

	"framegate/audit"
)

// cmdWriteSealed makes a log with two messages whose payloads are sealed, and
// the file of the identity that opens them.
func cmdWriteSealed(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: writesealed DIR IDENTITY")
	}
	id, err := age.GenerateX25519Identity()
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(id.String()+"\n"), 0o600))
	recipients, err := audit.ParseRecipients([]string{id.Recipient().String()})
	ts.Check(err)
	log, err := audit.Open(audit.Options{Dir: ts.MkAbs(args[0]), Recipients: recipients})
	ts.Check(err)
	key, err := log.PayloadKey("c-1")
	ts.Check(err)
	conn := audit.Event{Event: audit.WSOpen, Conn: "c-1", Client: netip.MustParseAddrPort("10.0.0.7:40000"), Server: netip.MustParseAddrPort("192.0.2.1:443"), Host: "chat.example", Path: "/ws"}
	ts.Check(log.Record(conn))
	for _, payload := range []string{"card 4012 8888 8888 1881 ok", "\x1b[2Jhello"} {
		e := conn
		e.Event, e.Action = audit.WSMessage, "allow"
		e.Msg = &audit.Message{
			Dir: "to-server", Opcode: "text", Size: int64(len(payload)), WireSize: int64(len(payload)) + 6, Frames: 1,
			SHA256: sha256.Sum256([]byte(payload)),
		}
		e.Msg.Sealed = key.Seal(nil, e.Msg, []byte(payload), time.Now())
		ts.Check(log.Record(e))
	}
	ts.Check(log.Close())
}
