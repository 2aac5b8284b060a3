package mitm

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"framegate/audit"
	"framegate/frames"
)

// A tunnelling is an attempt at a connection to the server that nobody looks
// into. Behind its request comes another one, which is meant to pass unseen.
type tunnelling struct {
	name, source string
	request      string
	answer       string // of the server; "": it must never hear of the request
	status       int    // of the answer to the client
}

// The request of the second scenario: the server is made to fetch a 101 from
// somewhere else, and to hand on its status.
const healthCheck = "GET /healthcheck?u=http://attacker.test/101 HTTP/1.1\r\nHost: " + originName + "\r\n"

const http2Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

var tunnellings = []tunnelling{
	{"wrong WebSocket version", "0ang3el, Challenge 1; RFC 6455, 4.2.1", with(upgradeRequest, "Sec-WebSocket-Version: 1337"), "", 426},
	{"two WebSocket versions", "0ang3el, Challenge 1", with(upgradeRequest, "+Sec-WebSocket-Version: 1337"), "", 400},
	{"101 from elsewhere", "0ang3el, Challenge 2; RFC 6455, 4.1", healthCheck + upgradeRequest[strings.Index(upgradeRequest, "Upgrade"):], "HTTP/1.1 101 Switching Protocols\r\n\r\n", 502},
	{"101 from elsewhere, asked by POST", "0ang3el, Challenge 2", strings.Replace(with(upgradeRequest, "+Content-Length: 0"), "GET", "POST", 1), "", 400},
	{"101 that was not asked for", "CVE-2024-23326; RFC 9110, 7.8", healthCheck + "\r\n", upgradeAnswer, 502},
	{"upgrade with a body", "0ang3el, Challenge 2", with(upgradeRequest, "+Content-Length: 4") + "body", "", 400},
	{"upgrade with chunks", "0ang3el, Challenge 2", with(upgradeRequest, "+Transfer-Encoding: chunked") + "0\r\n\r\n", "", 400},
	{"letters that fold", "RFC 9110, 5.6.2", with(upgradeRequest, "Upgrade: websoc\u212aet"), upgradeAnswer, 502},
	{"an answer whose letters fold", "RFC 6455, 4.1", upgradeRequest, with(upgradeAnswer, "Upgrade: websoc\u212aet"), 502},

	{"h2c", "Bishop Fox 2020", "GET / HTTP/1.1\r\nHost: " + originName + "\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n",
		"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n", 502},
	{"h2c, prior knowledge", "Bishop Fox 2020; RFC 9113, 3.4", http2Preface, "", 400},
	{"h2c beside websocket", "Bishop Fox 2020", with(upgradeRequest, "Upgrade: websocket, h2c"), "", 400},
	{"h2c on another line", "Bishop Fox 2020", with(upgradeRequest, "+Upgrade: h2c"), "", 400},
	{"HTTP2-Settings beside websocket", "Bishop Fox 2020", with(upgradeRequest, "+HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA"), "", 400},

	{"Connection names the key", "Davison 2019; RFC 9110, 7.6.1", with(upgradeRequest, "Connection: Upgrade, Sec-WebSocket-Key"), "", 400},
	{"Connection names Host", "Davison 2019", with(upgradeRequest, "Connection: host,upgrade"), "", 400},
	{"Connection names Origin", "Davison 2019", with(upgradeRequest, "Connection: Upgrade, origin", "+Origin: https://a.test"), "", 400},
	{"Connection names the cookie, on a line of its own", "Davison 2019", with(upgradeRequest, "+Connection: COOKIE", "+Cookie: a=b"), "", 400},
	{"Connection names who asks", "Davison 2019", with(upgradeRequest, "Connection: Upgrade, X-Forwarded-For", "+X-Forwarded-For: 127.0.0.1"), "", 400},
	{"Connection of the 101 names the extensions", "RFC 9110, 7.6.1", with(upgradeRequest, "+Sec-WebSocket-Extensions: permessage-deflate"),
		with(upgradeAnswer, "Connection: Upgrade, Sec-WebSocket-Extensions", "+Sec-WebSocket-Extensions: permessage-deflate"), 502},

	{"interim answer with a length", "RFC 9110, 8.6", upgradeRequest, "HTTP/1.1 103 Early Hints\r\nContent-Length: 500\r\n\r\n" + upgradeAnswer, 502},
	{"declined, two lengths", "RFC 9112, 6.3", upgradeRequest, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 502},
	{"declined, letters that fold", "RFC 9112, 6.1", upgradeRequest, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chun\u212aed\r\n\r\n0\r\n\r\n", 502},
}

func TestAttackTunnel(t *testing.T) {
	for _, tt := range tunnellings {
		t.Run(tt.name, func(t *testing.T) {
			schemes(t, func(t *testing.T, scheme string) {
				s := newStage(t, scheme)
				client := s.connect()
				client.send(tt.request + smuggled)
				seen := 0
				if tt.answer != "" || scheme == "wss" { // with TLS the server is asked first
					server := <-s.servers
					if tt.answer != "" {
						head, err := readRawHead(server)
						if err != nil {
							t.Fatalf("%q (%v)", head, err)
						}
						for _, name := range []string{"h2c", "HTTP2-Settings"} {
							if strings.Contains(strings.ToLower(head), strings.ToLower(name)) {
								t.Errorf("the server got %q", head)
							}
						}
						seen = 1
						server.send(tt.answer)
					}
					defer func() {
						if rest, err := io.ReadAll(server); len(rest) > 0 || err != nil && !isReset(err) {
							t.Errorf("the server got %q (%v) behind %d requests", rest, err, seen)
						}
					}()
				} else {
					defer func() {
						if list := s.destinations(); len(list) > 0 {
							t.Errorf("dialled %v", list)
						}
					}()
				}
				status, body := answer(t, newReader(client))
				if status != tt.status || !strings.HasPrefix(body, "framegate: ") {
					t.Errorf("answered %d %q, want %d", status, body, tt.status)
				}
				client.Close()
				s.ended(1)
				list := s.ledger.of(audit.HTTPRequest)
				if list[0].Code != tt.status || list[0].Reason == "" || len(s.ledger.of(audit.WSOpen)) > 0 {
					t.Errorf("%s", s.ledger)
				}
			})
		})
	}
}

// What a client sends before the 101 waits for it, and is then judged as what
// the server's answer makes of it.
func TestAttackPrematureTunnel(t *testing.T) {
	request := "GET /smuggled HTTP/1.1\r\nHost: " + originName + "\r\n\r\n"
	schemes(t, func(t *testing.T, scheme string) {
		t.Run("agreed", func(t *testing.T) {
			s := newStage(t, scheme)
			client := s.connect()
			client.send(upgradeRequest + request)
			server := <-s.servers
			server.expectHead(upgradeRequest)
			server.send(upgradeAnswer)
			client.expect(upgradeAnswer)
			// RFC 6455, Section 5.1: "The server MUST close the connection upon
			// receiving a frame that is not masked."
			h, payload, _ := client.read()
			if code, _, err := frames.ParseClose([]byte(payload)); h.Opcode != frames.Close || code != frames.ProtocolErrorCode || err != nil {
				t.Errorf("%v %q", h, payload)
			}
			server.expectClose(frames.GoingAway, "")
			server.send(server.closing(frames.GoingAway, ""))
			client.Close()
			server.closeWrite()
			if rest, err := io.ReadAll(server); len(rest) > 0 || err != nil && !isReset(err) {
				t.Errorf("the server got %q (%v)", rest, err)
			}
			if e := s.ended(1); e.State != audit.StateFailed || len(s.ledger.of(audit.WSViolation)) != 1 {
				t.Errorf("%s", s.ledger)
			}
		})
		t.Run("declined", func(t *testing.T) {
			s := newStage(t, scheme)
			client := s.connect()
			client.send(upgradeRequest + request)
			server := <-s.servers
			server.expectHead(upgradeRequest)
			server.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			client.expect("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			if head, err := readRawHead(server); err != nil || head != request {
				t.Errorf("%q (%v)", head, err)
			}
			server.send("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
			if status, _ := answer(t, newReader(client)); status != 404 {
				t.Errorf("status %d", status)
			}
			client.Close()
			s.ended(1)
			if list := s.ledger.of(audit.HTTPRequest); len(list) != 2 || list[1].Path != "/smuggled" || list[1].Code != 404 {
				t.Errorf("%s", s.ledger)
			}
		})
		t.Run("flood", func(t *testing.T) {
			s := newStage(t, scheme)
			client, server := s.ask(upgradeRequest)
			// More than all buffers of two sockets hold; the gateway adds none.
			frame := client.frame(frames.Text, strings.Repeat("x", 1<<20))
			client.SetWriteDeadline(time.Now().Add(time.Second))
			sent := 0
			for err := error(nil); err == nil && sent < 64<<20; {
				var n int
				n, err = io.WriteString(client, frame)
				sent += n
			}
			if sent >= 64<<20 {
				t.Errorf("%d bytes were taken before the 101", sent)
			}
			client.reset()
			server.Close()
			if e := s.ended(1); e.State != audit.StateFailed {
				t.Errorf("%s", s.ledger)
			}
		})
	})
}

// A server that has more to say than was asked for is heard by nobody: what is
// left over never becomes the answer to the next request.
func TestAttackAnswers(t *testing.T) {
	const left = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
	for _, tt := range []struct{ name, method, reply, body string }{
		{"HEAD with a body", "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 40\r\n\r\n" + left, ""},
		{"204 with a body", "GET", "HTTP/1.1 204 No Content\r\n\r\n" + left, ""},
		{"304 with a body", "GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 40\r\n\r\n" + left, ""},
		{"two answers", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood" + left, "good"},
		{"two answers, the first in chunks", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ngood\r\n0\r\n\r\n" + left, "good"},
		{"two lengths", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 40\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ngood\r\n0\r\n\r\n" + left, "good"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			hungUp := make(chan int, 2)
			o := newOrigin(t, func(c *tap) {
				head, err := readRawHead(c)
				if err != nil {
					return
				}
				reply := tt.reply
				if strings.Contains(head, "/second") {
					reply = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecond"
				}
				io.WriteString(c, reply)
				n, _ := io.Copy(io.Discard, c)
				hungUp <- int(n)
			})
			g := newGateway(t, o.addr, "")
			c := g.dial()
			r := newReader(c)
			send(t, c, tt.method+" / HTTP/1.1\r\nHost: a\r\n\r\n")
			resp, err := http.ReadResponse(r, &http.Request{Method: tt.method})
			if err != nil {
				t.Fatal(err)
			}
			if body := readAll(t, resp.Body); body != tt.body {
				t.Errorf("%q", body)
			}
			if _, lengths := resp.Header["Content-Length"]; lengths && len(resp.TransferEncoding) > 0 {
				t.Errorf("%v %v", resp.Header, resp.TransferEncoding)
			}
			if n := <-hungUp; n > 0 {
				t.Errorf("%d bytes followed on the same connection", n)
			}
			send(t, c, "GET /second HTTP/1.1\r\nHost: a\r\n\r\n")
			if status, body := answer(t, r); status != 200 || body != "second" {
				t.Errorf("%d %q", status, body)
			}
			c.Close()
			g.ended(1)
		})
	}
}

// Interim answers come to an end.
func TestAttackInterimFlood(t *testing.T) {
	for _, code := range []int{100, 102, 103} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			o := newOrigin(t, func(c *tap) {
				readRawHead(c)
				for err := error(nil); err == nil; {
					_, err = fmt.Fprintf(c, "HTTP/1.1 %d Soon\r\nLink: </a>\r\n\r\n", code)
				}
			})
			g := newGateway(t, o.addr, "")
			c := g.dial()
			send(t, c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
			var codes []int
			for r := newReader(c); !slices.Contains(codes, 502) && len(codes) < 100; {
				status, _ := answer(t, r)
				codes = append(codes, status)
			}
			if len(codes) > maxInterim+1 || codes[len(codes)-1] != 502 {
				t.Errorf("the client got %v", codes)
			}
			c.Close()
			g.ended(1)
			if list := g.ledger.of(audit.HTTPRequest); len(list) != 1 || list[0].Code != 502 || !strings.Contains(list[0].Reason, errInterim.Error()) {
				t.Errorf("%s", g.ledger)
			}
		})
	}
}
