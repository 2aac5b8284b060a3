package mitm

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime/pprof"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"framegate/audit"
	"framegate/frames"
	"framegate/mitm/chain"
	"framegate/policy"
)

// A still is a connection through a gateway in a bubble of testing/synctest, where
// time passes when nobody has anything to do.
type still struct {
	t        *testing.T
	ledger   *ledger
	proxy    *Proxy
	policy   atomic.Pointer[policy.Policy]
	trust    atomic.Pointer[chain.Trust]
	settings atomic.Pointer[Settings]

	client, server *peer
	legs           [2]*pipeEnd // the gateway's ends: to the client, to the server
	stop           context.CancelFunc
	ended          chan struct{}
}

// A world is what exists outside of the bubble.
type world struct {
	now    time.Time
	client *tls.Config
	server *tls.Config
}

func newWorld(t *testing.T) world {
	t.Helper()
	root, err := x509.ParseCertificate(authority.RootDER())
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(root)
	return world{time.Now(), &tls.Config{RootCAs: roots, ServerName: originName, NextProtos: []string{"http/1.1"}}, secure("valid")}
}

// bubble runs test in a bubble whose clock, which begins in 2000, shows the time
// in which the certificates are valid.
func bubble(t *testing.T, test func(t *testing.T, w world)) {
	t.Helper()
	w := newWorld(t)
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(w.now.Round(0)))
		test(t, w)
	})
}

// newStill connects a client and a server, and has neither say anything.
func newStill(t *testing.T, w world, scheme, rules string, adjust ...func(*Proxy)) *still {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	s := &still{t: t, ledger: &ledger{changed: make(chan struct{})}, stop: stop, ended: make(chan struct{})}
	s.trust.Store(originPKI().trust)
	s.settings.Store(&Settings{Level: audit.Messages})
	s.reload(rules)
	servers := make(chan net.Conn, 1)
	s.proxy = &Proxy{
		Certs: authority, Policy: s.policy.Load, Audit: s.ledger, Trust: s.trust.Load, Settings: s.settings.Load,
		Stats: NewStats(), Log: slog.New(slog.DiscardHandler),
		dial: func(context.Context, string, string) (net.Conn, error) {
			near, far := newPipe(t, "192.0.2.9:2000", "192.0.2.1:443")
			s.legs[1] = near
			servers <- far
			return near, nil
		},
	}
	for _, f := range adjust {
		f(s.proxy)
	}
	far, near := newPipe(t, "192.0.2.2:1000", "192.0.2.1:443")
	s.legs[0] = near
	s.client = &peer{Conn: far, dir: frames.ToServer, t: t}
	if scheme == "wss" {
		s.client.Conn = tls.Client(far, w.client)
	}
	go pprof.Do(ctx, pprof.Labels("gateway", t.Name()), func(ctx context.Context) {
		defer close(s.ended)
		s.proxy.ServeConn(ctx, near, netip.MustParseAddrPort("192.0.2.1:443"))
	})
	s.server = &peer{dir: frames.ToClient, t: t}
	arrived := make(chan struct{})
	go func() {
		defer close(arrived)
		s.server.Conn = <-servers
		if scheme == "wss" {
			c := tls.Server(s.server.Conn, w.server)
			c.Handshake()
			s.server.Conn = c
		}
	}()
	io.WriteString(s.client, upgradeRequest)
	<-arrived
	t.Cleanup(func() {
		stop()
		s.client.Close()
		s.server.Close()
		<-s.ended
	})
	return s
}

func (s *still) reload(rules string) {
	s.t.Helper()
	p, err := policy.Parse("test.toml", []byte(rules))
	if err != nil {
		s.t.Fatal(err)
	}
	s.policy.Store(p)
}

// open takes the request to the server and the answer to the client, each of
// them only just in time.
func (s *still) open() {
	s.t.Helper()
	if _, err := readRawHead(s.server); err != nil {
		s.t.Fatal(err)
	}
	time.Sleep(9 * time.Second)
	s.server.send(upgradeAnswer)
	s.client.expect(upgradeAnswer)
	synctest.Wait()
}

// goroutines counts those of the gateway.
func (s *still) goroutines() (n int) {
	var all bytes.Buffer
	pprof.Lookup("goroutine").WriteTo(&all, 1)
	for stack := range strings.SplitSeq(all.String(), "\n\n") {
		if strings.Contains(stack, fmt.Sprintf("%q:%q", "gateway", s.t.Name())) {
			for line := range strings.Lines(stack) {
				var k int
				if _, err := fmt.Sscanf(line, "%d @", &k); err == nil {
					n += k
				}
			}
		}
	}
	return n
}

// talk sends a message either way.
func (s *still) talk(text string) {
	s.t.Helper()
	for _, p := range [][2]*peer{{s.client, s.server}, {s.server, s.client}} {
		m := p[0].frame(frames.Text, text)
		p[0].send(m)
		p[1].expect(m)
	}
}

// ping has both peers send a ping to the other, which answers.
func (s *still) ping() {
	s.t.Helper()
	for _, p := range [][2]*peer{{s.client, s.server}, {s.server, s.client}} {
		ping, pong := p[0].frame(frames.Ping, "?"), p[1].frame(frames.Pong, "?")
		p[0].send(ping)
		p[1].expect(ping)
		p[1].send(pong)
		p[0].expect(pong)
	}
}

// finish closes the WebSocket in good order and returns its last records.
func (s *still) finish() (closed, entry audit.Event) {
	s.t.Helper()
	for _, p := range [][2]*peer{{s.client, s.server}, {s.server, s.client}} {
		bye := p[0].closing(frames.NormalClosure, "")
		p[0].send(bye)
		p[1].expect(bye)
	}
	s.client.Close()
	s.server.Close()
	<-s.ended
	return s.ledger.wait(s.t, audit.WSClose, 1)[0], s.ledger.wait(s.t, audit.ConnClose, 1)[0]
}

const (
	days  = 30
	month = days * 24 * time.Hour
)

// An upgraded connection stays for ever: nothing of the gateway looks at one on
// which nothing happens, whatever else changes meanwhile, and what was a deadline
// of the handshake is none any more.
func TestIdleForAMonth(t *testing.T) {
	for _, scheme := range []string{"ws", "wss"} {
		for _, pings := range []time.Duration{0, 20 * time.Second} {
			t.Run(fmt.Sprintf("%s pings=%v", scheme, pings), func(t *testing.T) {
				v, sealed := openVault(t, audit.PayloadFull)
				bubble(t, func(t *testing.T, w world) {
					s := newStill(t, w, scheme, idleRules(0), sealed)
					synctest.Wait()
					if _, limited := s.legs[0].state(); !limited {
						t.Error("no deadline before the upgrade")
					}
					s.open()
					s.talk("first")
					synctest.Wait()
					before := s.goroutines()
					// The handler and one goroutine for each direction.
					if before != 3 {
						t.Errorf("%d goroutines for a connection, expected 3", before)
					}
					woken := s.checkLegs(t)
					for day := range days {
						s.live(t, day, pings)
					}
					synctest.Wait()
					if again := s.checkLegs(t); pings == 0 && again != woken {
						t.Errorf("the gateway was woken %d times", again[0]+again[1]-woken[0]-woken[1])
					}
					if after := s.goroutines(); after != before {
						t.Errorf("%d goroutines after a month, %d before", after, before)
					}
					if n := len(s.ledger.of(audit.WSClose)); n > 0 {
						t.Fatalf("it was closed: %s", s.ledger)
					}
					s.talk("last")
					closed, entry := s.finish()
					if closed.Code != 1000 || closed.Action != "" {
						t.Errorf("ws.close: %+v", closed)
					}
					checkEnd(t, entry, audit.StateInspected, tallyOf("first", "last"), tallyOf("first", "last"))
					// The last was judged by the rules of the last day.
					last := s.ledger.of(audit.WSMessage)[2]
					if want := fmt.Sprint("day", days-1); fmt.Sprint(last.Rules) != "["+want+"]" {
						t.Errorf("judged by %v, expected %s", last.Rules, want)
					}
				})
				if err := v.log.Close(); err != nil {
					t.Fatal(err)
				}
				if keys, _ := os.ReadDir(v.dir + "/keys"); len(keys) != 2 {
					t.Errorf("keys of %d days, expected those of the two with messages", len(keys))
				}
				for i, k := range v.kept(t, v.identity) {
					if want := []string{"first", "first", "last", "last"}; k.err != nil || i >= len(want) || k.payload != want[i] {
						t.Errorf("message %d opens to %q (%v)", i, k.payload, k.err)
					}
				}
			})
		}
	}
}

func idleRules(day int) string {
	return fmt.Sprintf("[[rule]]\nid = \"day%d\"\naction = \"log\"\nmatch.contains = [\"st\"]\n", day)
}

// live is one day, at whose beginning all is loaded anew that can be. The peers
// send pings in the first hours of the first day and of the last: all the others
// would cost a minute and show nothing else.
func (s *still) live(t *testing.T, day int, pings time.Duration) {
	s.reload(idleRules(day))
	trust := *s.trust.Load()
	s.trust.Store(&trust)
	settings := *s.settings.Load()
	settings.HandshakeTimeout = time.Duration(1+day) * time.Second
	s.settings.Store(&settings)
	var passed time.Duration
	for pings > 0 && passed < 6*time.Hour && (day == 0 || day == days-1) {
		time.Sleep(pings)
		passed += pings
		s.ping()
	}
	time.Sleep(24*time.Hour - passed)
}

// checkLegs fails the test if there is a deadline on a side of the gateway, and
// returns how often either was woken.
func (s *still) checkLegs(t *testing.T) (wakes [2]int) {
	t.Helper()
	for i, l := range s.legs {
		var limited bool
		if wakes[i], limited = l.state(); limited {
			t.Errorf("the side of the %s has a deadline", []string{"client", "server"}[i])
		}
	}
	return wakes
}

// What is passed through unseen stays, too.
func TestIdleBypassed(t *testing.T) {
	bubble(t, func(t *testing.T, w world) {
		s := newStill(t, w, "ws", "[[connection]]\nid = \"by\"\nhost = [\"**\"]\ndecision = \"bypass\"\n")
		s.server.expect(upgradeRequest)
		synctest.Wait()
		woken := s.checkLegs(t)
		time.Sleep(month)
		synctest.Wait()
		if again := s.checkLegs(t); again != woken {
			t.Errorf("woken %v times, and %v before", again, woken)
		}
		s.server.send("after a month")
		s.client.expect("after a month")
		s.client.Close()
		s.server.Close()
		<-s.ended
		if e := s.ledger.wait(t, audit.ConnClose, 1)[0]; e.State != audit.StateBypassed {
			t.Errorf("ended as %s: %s", e.State, e.Reason)
		}
	})
}

// IdleTimeout ends a connection when no byte has passed for so long, in neither
// direction, and not a moment sooner or later. A longer one that comes into force
// spares it.
func TestIdleTimeoutExact(t *testing.T) {
	for _, scheme := range []string{"ws", "wss"} {
		t.Run(scheme, func(t *testing.T) {
			bubble(t, func(t *testing.T, w world) {
				s := newStill(t, w, scheme, "", func(p *Proxy) { p.Settings().IdleTimeout = time.Hour })
				s.open()
				for range 48 {
					time.Sleep(time.Hour - time.Millisecond)
					s.talk("still here")
				}
				time.Sleep(30 * time.Minute)
				s.server.send(s.server.frame(frames.Ping, "")) // of one side only
				last := time.Now()
				s.client.expect(s.server.frame(frames.Ping, ""))

				time.Sleep(59 * time.Minute)
				s.settings.Store(&Settings{IdleTimeout: 3 * time.Hour})
				s.client.expectClose(frames.GoingAway, "")
				if d := time.Since(last); d != 3*time.Hour {
					t.Errorf("closed after %v, expected 3h", d)
				}
				s.server.expectClose(frames.GoingAway, "")
				s.client.send(s.client.closing(frames.GoingAway, ""))
				s.server.send(s.server.closing(frames.GoingAway, ""))
				s.client.Close()
				s.server.Close()
				<-s.ended
				if e := s.ledger.wait(t, audit.WSClose, 1)[0]; e.Reason != "idle timeout" || e.Action != "close" {
					t.Errorf("ws.close: %+v", e)
				}
			})
		})
	}
}

// The timers of an end, each to the moment: what ends is over when they say.
func TestEndsInTime(t *testing.T) {
	for _, c := range []struct {
		name string
		act  func(s *still) // nobody does anything after it
		want time.Duration  // from there to the end of the connection
	}{
		{"the 101 does not come", nil, 10*time.Second + tlsEnd},
		{"the client ends without Close", func(s *still) { s.client.endLine() }, halfWait},
		{"the server ends without Close", func(s *still) { s.server.endLine() }, halfWait},
		{"a Close is not answered", func(s *still) { s.client.send(s.client.closing(frames.NormalClosure, "")) }, halfWait},
		{"a Close is answered, and nobody ends", func(s *still) {
			s.client.send(s.client.closing(frames.NormalClosure, ""))
			s.server.send(s.server.closing(frames.NormalClosure, ""))
		}, halfWait},
		{"a drain that is not answered", func(s *still) { s.stop() }, closeWait},
		{"a message that breaks the protocol", func(s *still) { s.client.send(s.client.frame(3, "reserved")) }, closeWait},
		{"the other direction goes on for an hour", func(s *still) {
			s.client.endLine()
			for range 400 {
				time.Sleep(halfWait - time.Second)
				s.server.send(s.server.frame(frames.Text, "more"))
				s.client.expect(s.server.frame(frames.Text, "more"))
			}
		}, halfWait},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w world) {
				s := newStill(t, w, "ws", "")
				if c.act == nil {
					synctest.Wait()
				} else {
					s.open()
					time.Sleep(month)
					c.act(s)
				}
				begun := time.Now()
				var reading sync.WaitGroup
				for _, p := range []*peer{s.client, s.server} {
					reading.Go(func() { io.Copy(io.Discard, p) })
				}
				<-s.ended
				if d := time.Since(begun); d != c.want {
					t.Errorf("over after %v, expected %v: %s", d, c.want, s.ledger)
				}
				s.client.Close()
				s.server.Close()
				reading.Wait()
			})
		})
	}
}

// endLine ends what a peer sends, without a word.
func (p *peer) endLine() { p.Conn.(*pipeEnd).CloseWrite() }
