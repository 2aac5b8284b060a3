package mitm

import (
	"cmp"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/chacha20poly1305"

	"framegate/audit"
	"framegate/mitm/chain"
)

// from connects as a client at another address of loopback.
func (g *gateway) from(addr string) *net.TCPConn {
	g.t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(addr)}}
	c, err := d.Dial("tcp", g.addr)
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	return c.(*net.TCPConn)
}

// learner is a gateway that bypasses what is pinned, with a clock of its own.
type learner struct {
	*gateway
	t     *testing.T
	past  atomic.Int64                // nanoseconds that its clock is ahead
	other atomic.Pointer[chain.Trust] // in place of the usual one
	conns int
}

func newLearner(t *testing.T, rules string, changes ...func(*Proxy)) *learner {
	o := newHTTPOrigin(t, secure("valid"), http.NotFoundHandler())
	l := &learner{t: t}
	l.gateway = newGateway(t, o.addr, rules, func(p *Proxy) {
		p.Settings().BypassPinned = true
		p.Trust = func() *chain.Trust { return cmp.Or(l.other.Load(), originPKI().trust) }
		p.clock = func() time.Time { return time.Now().Add(time.Duration(l.past.Load())) }
		for _, change := range changes {
			change(p)
		}
	})
	return l
}

// pinned makes a connection from addr of an application that trusts nothing but
// the origin's root, and returns how that ended.
func (l *learner) pinned(addr, name string) audit.Event {
	l.t.Helper()
	c := tls.Client(l.from(addr), &tls.Config{RootCAs: originPKI().roots, ServerName: name})
	err := c.Handshake()
	c.Close()
	l.conns++
	e := l.ended(l.conns)
	if (err == nil) != (e.State == audit.StateBypassed) {
		l.t.Errorf("client: %v, %+v", err, e)
	}
	return e
}

// trusting makes a request from addr of an application that trusts our root.
func (l *learner) trusting(addr, name string) audit.Event {
	l.t.Helper()
	c := tls.Client(l.from(addr), l.trust(name))
	get(l.t, c, name)
	c.Close()
	l.conns++
	return l.ended(l.conns)
}

// rejections fails the test unless n connections end as rejected with reason.
func (l *learner) rejections(n int, addr, name, reason string) (last audit.Event) {
	l.t.Helper()
	for range n {
		if last = l.pinned(addr, name); last.State != audit.StateFailed || !strings.HasPrefix(last.Reason, reason+": ") {
			l.t.Errorf("%s: %s %q, want %s", addr, last.State, last.Reason, reason)
		}
	}
	return last
}

// bypassed fails the test unless a connection is bypassed as pinned.
func (l *learner) bypassed(addr, name string) {
	l.t.Helper()
	if e := l.pinned(addr, name); e.State != audit.StateBypassed || !slices.Equal(e.Rules, []string{tlsPinned}) || !strings.HasPrefix(e.Reason, tlsPinned+": ") {
		l.t.Errorf("%+v", e)
	}
}

const one, two, otherName = "127.0.0.11", "127.0.0.12", "www." + originName

func TestPinnedBypass(t *testing.T) {
	l := newLearner(t, "")
	l.past.Store(-int64(pinWindow) * 5 / 6) // or the origin's certificate would end on the way
	l.trusting(one, otherName)
	if e := l.rejections(1, one, originName, tlsPinned); strings.Contains(e.Reason, "bypassed for this client") || !strings.Contains(e.Reason, `host = ["origin.test"], decision = "bypass"`) {
		t.Errorf("%q", e.Reason)
	}
	l.rejections(1, one, originName, tlsPinned)
	if e := l.rejections(1, one, originName, tlsPinned); !strings.Contains(e.Reason, "rejection 3 ") || !strings.Contains(e.Reason, "bypassed for this client until ") {
		t.Errorf("%q", e.Reason)
	}
	l.bypassed(one, originName)
	list := l.ledger.of(audit.ConnBypass)
	if len(list) != 1 || list[0].Action != "bypass" || !slices.Equal(list[0].Rules, []string{tlsPinned}) || !strings.HasPrefix(list[0].Reason, tlsPinned+": ") {
		t.Errorf("%s", l.ledger)
	}

	// Nobody else is, and for no other name.
	l.rejections(1, two, originName, tlsNoCA)
	if e := l.trusting(two, originName); e.State != audit.StateInspected {
		t.Errorf("%+v", e)
	}
	if e := l.trusting(one, otherName); e.State != audit.StateInspected {
		t.Errorf("%+v", e)
	}

	// Nor for ever.
	l.past.Add(int64(pinWindow - time.Minute))
	l.bypassed(one, originName)
	l.past.Add(int64(2 * time.Minute))
	l.rejections(2, one, originName, tlsPinned)
	// A success begins the counting again, and ends it for good.
	if e := l.trusting(one, originName); e.State != audit.StateInspected {
		t.Errorf("%+v", e)
	}
	if e := l.rejections(2*pinFailures, one, originName, tlsPinned); !strings.Contains(e.Reason, "another application on this client accepts") {
		t.Errorf("%q", e.Reason)
	}
}

// What was learned ends with the policy and with the trust under which it was.
func TestPinnedBypassEnds(t *testing.T) {
	l := newLearner(t, "")
	l.trusting(one, otherName)
	l.rejections(pinFailures, one, originName, tlsPinned)
	l.bypassed(one, originName)
	l.reload("[policy]\nname = \"another\"\n")
	// That the device has our root is no matter of policy.
	l.rejections(pinFailures, one, originName, tlsPinned)
	l.bypassed(one, originName)

	changed := *originPKI().trust
	changed.Version = "another"
	l.other.Store(&changed)
	// A device that has shown nothing of our root under the trust in force is
	// bypassed nowhere, however often it tries.
	l.rejections(2*pinFailures, one, originName, tlsNoCA)
	l.trusting(one, otherName)
	l.rejections(1, one, originName, tlsPinned)
	l.bypassed(one, originName)
}

// What a rule says of a name goes before what a client does.
func TestPinnedBypassRules(t *testing.T) {
	for _, tt := range []struct{ rules, state, reason string }{
		{connectionRule("inspect", `host = ["`+originName+`"]`), audit.StateFailed, tlsPinned + ": "},
		{connectionRule("block", `host = ["`+originName+`"]`), audit.StateBlocked, ""},
	} {
		l := newLearner(t, tt.rules)
		l.trusting(one, otherName)
		for range 2 * pinFailures {
			if e := l.pinned(one, originName); e.State != tt.state || !strings.HasPrefix(e.Reason, tt.reason) {
				t.Errorf("%+v", e)
			}
		}
	}
}

// Nothing is learned of a name that may be one of a front, and what was learned
// in the open is not applied to it.
func TestPinnedBypassECH(t *testing.T) {
	_, list := echKeys(t)
	l := newLearner(t, "")
	l.trusting(one, otherName)
	rejected := func(n int) {
		t.Helper()
		for range n {
			c := tls.Client(l.from(one), &tls.Config{RootCAs: originPKI().roots, ServerName: otherName, EncryptedClientHelloConfigList: list})
			if err := c.Handshake(); err == nil {
				t.Error("the client was let in")
			}
			c.Close()
			l.conns++
			if e := l.ended(l.conns); e.State != audit.StateFailed || e.SNI != originName || !strings.HasPrefix(e.Reason, tlsPinned+": ") {
				t.Errorf("%+v", e)
			}
		}
	}
	rejected(2 * pinFailures)
	l.rejections(1, one, originName, tlsPinned)
	l.bypassed(one, originName)
	rejected(1)
}

// By default it is recorded and counted, and that is all.
func TestPinnedBlock(t *testing.T) {
	l := newLearner(t, "", func(p *Proxy) { p.Settings().BypassPinned = false })
	l.trusting(one, otherName)
	if e := l.rejections(2*pinFailures, one, originName, tlsPinned); !strings.Contains(e.Reason, fmt.Sprintf("rejection %d ", 2*pinFailures)) {
		t.Errorf("%q", e.Reason)
	}
}

// Clients say in several ways that they do not like a certificate, and some of
// the ways mean something else.
func TestRejections(t *testing.T) {
	for _, tt := range []struct {
		alert  byte // 0: the client closes; 255: it resets
		reason [pinFailures]string
		ends   string // of the connection that follows
	}{
		{42, [3]string{tlsPinned + ": bad_certificate, rejection 1", tlsPinned, tlsPinned}, audit.StateBypassed},
		{43, [3]string{tlsPinned + ": unsupported_certificate, ", tlsPinned, tlsPinned}, audit.StateBypassed},
		{44, [3]string{tlsPinned + ": certificate_revoked, ", tlsPinned, tlsPinned}, audit.StateBypassed},
		{45, [3]string{tlsClock + ": certificate_expired, ", tlsClock, tlsClock}, audit.StateFailed},
		{46, [3]string{tlsPinned + ": certificate_unknown, ", tlsPinned, tlsPinned}, audit.StateBypassed},
		{48, [3]string{tlsPinned + ": unknown_ca, ", tlsPinned, tlsPinned}, audit.StateBypassed},
		{0, [3]string{tlsClient, tlsClient, tlsPinned + ": no alert, rejection 3"}, audit.StateBypassed},
		{255, [3]string{tlsClient, tlsClient, tlsPinned + ": no alert, rejection 3"}, audit.StateBypassed},
		{40, [3]string{tlsRejected, tlsRejected, tlsRejected}, audit.StateFailed},
		{80, [3]string{tlsRejected, tlsRejected, tlsRejected}, audit.StateFailed},
		{alertECHRequired, [3]string{tlsECH, tlsECH, tlsECH}, audit.StateFailed},
	} {
		t.Run(fmt.Sprint(tt.alert), func(t *testing.T) {
			l := newLearner(t, "")
			l.trusting(one, otherName)
			config := l.trust(originName)
			config.MaxVersion = tls.VersionTLS12 // in which the client's alert is in the clear
			for _, want := range tt.reason {
				c := l.from(one)
				send(t, c, helloOf(config))
				expect(t, c, "\x16\x03\x03")
				switch tt.alert {
				case 0:
					c.CloseWrite()
					io.Copy(io.Discard, c)
				case 255:
					c.SetLinger(0)
				default:
					send(t, c, "\x15\x03\x03\x00\x02\x02"+string(rune(tt.alert)))
					io.Copy(io.Discard, c)
				}
				c.Close()
				l.conns++
				if e := l.ended(l.conns); e.State != audit.StateFailed || !strings.HasPrefix(e.Reason, want) {
					t.Errorf("%s %q, want %q", e.State, e.Reason, want)
				}
			}
			if e := l.pinned(one, originName); e.State != tt.ends {
				t.Errorf("%+v", e)
			}
		})
	}
}

// Real clients that lack our root say so by an alert of their own.
func TestRejectionsOfClients(t *testing.T) {
	l := newLearner(t, "", func(p *Proxy) { p.Settings().BypassPinned = false })
	host, port, _ := net.SplitHostPort(l.addr)
	url := "https://" + originName + ":" + port + "/"
	for _, tt := range []struct {
		command []string
		alert   string
	}{
		{[]string{"curl", "--silent", "--resolve", originName + ":" + port + ":" + host, url}, "unknown_ca"},
		{[]string{"openssl", "s_client", "-verify_return_error", "-brief", "-servername", originName, "-connect", l.addr}, "unknown_ca"},
		{[]string{"/usr/bin/python3", "-c", "import socket, ssl, sys; ssl.create_default_context().wrap_socket(socket.create_connection((sys.argv[1], int(sys.argv[2]))), server_hostname=sys.argv[3])",
			host, port, originName}, "unknown_ca"},
		{[]string{"node", "-e", "require('tls').connect({host: process.argv[1], port: process.argv[2], servername: process.argv[3]}).on('error', () => process.exit(1))",
			host, port, originName}, ""}, // closes before its Finished
	} {
		if out, err := exec.Command(tt.command[0], tt.command[1:]...).CombinedOutput(); err == nil {
			t.Errorf("%s was let in: %s", tt.command[0], out)
		}
		l.conns++
		want := tlsNoCA + ": " + tt.alert + ", "
		if tt.alert == "" {
			want = tlsNoCA + ": no alert, "
		}
		if e := l.ended(l.conns); !strings.HasPrefix(e.Reason, want) {
			t.Errorf("%s: %q", tt.command[0], e.Reason)
		}
	}
}

// In TLS 1.3 a server has done with the handshake before it can know that its
// certificate is refused: here the client looks at it afterwards.
func TestRejectionAfterHandshake(t *testing.T) {
	l := newLearner(t, "")
	l.trusting(one, otherName)
	for range pinFailures {
		var secrets strings.Builder
		config := l.trust(originName)
		config.MinVersion, config.KeyLogWriter = tls.VersionTLS13, &secrets
		raw := l.from(one)
		c := tls.Client(raw, config)
		if err := c.Handshake(); err != nil {
			t.Fatal(err)
		}
		send(t, raw, sealedAlert(t, c.ConnectionState().CipherSuite, secrets.String(), 46))
		io.Copy(io.Discard, raw)
		c.Close()
		l.conns++
		if e := l.ended(l.conns); e.State != audit.StateFailed || !strings.HasPrefix(e.Reason, tlsPinned+": certificate_unknown, ") {
			t.Errorf("%+v", e)
		}
	}
	if n := len(l.ledger.of(audit.TLSFail)); n != pinFailures {
		t.Errorf("%d of tls.fail", n)
	}
	l.bypassed(one, originName)
}

// sealedAlert makes the first record that a client sends after its handshake
// (RFC 8446, Sections 5.2 and 7.3) of an alert.
func sealedAlert(t *testing.T, suite uint16, keyLog string, description byte) string {
	t.Helper()
	_, line, _ := strings.Cut(keyLog, "CLIENT_TRAFFIC_SECRET_0 ")
	_, secret, _ := strings.Cut(strings.SplitN(line, "\n", 2)[0], " ")
	traffic, err := hex.DecodeString(secret)
	if err != nil {
		t.Fatal(err)
	}
	expand := func(label string, n int) []byte {
		info := binary.BigEndian.AppendUint16(nil, uint16(n))
		info = append(append(info, byte(len("tls13 "+label))), "tls13 "+label+"\x00"...)
		b, err := hkdf.Expand(sha256.New, traffic, string(info), n)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	var aead cipher.AEAD
	if suite == tls.TLS_CHACHA20_POLY1305_SHA256 { // which Go takes where AES is slow
		aead, err = chacha20poly1305.New(expand("key", chacha20poly1305.KeySize))
	} else if block, bad := aes.NewCipher(expand("key", 16)); bad == nil {
		aead, err = cipher.NewGCM(block)
	}
	if err != nil {
		t.Fatal(err)
	}
	head := []byte{23, 3, 3, 0, 3 + 16}
	return string(aead.Seal(head, expand("iv", 12), []byte{2, description, 21}, head))
}

// A connection that is opened and not used says nothing about the certificate.
func TestUnusedIsNoSuccess(t *testing.T) {
	l := newLearner(t, "")
	for range pinFailures + 1 {
		c := tls.Client(l.from(one), l.trust(originName))
		if err := c.Handshake(); err != nil {
			t.Fatal(err)
		}
		c.Close()
		l.conns++
		if e := l.ended(l.conns); e.State != audit.StateInspected || e.Reason != "" {
			t.Errorf("%+v", e)
		}
	}
	l.rejections(1, one, originName, tlsNoCA)
}

func TestPins(t *testing.T) {
	e := &epoch{version: "trust policy", trust: &chain.Trust{Version: "trust"}}
	now := time.Now()
	fail := func(p *pins, addr netip.Addr, name string) rejection { return p.failed(addr, name, e, now, true) }
	learn := func(p *pins, addr netip.Addr, name string) {
		p.accepted(addr, "another", e)
		for range pinFailures {
			fail(p, addr, name)
		}
	}
	bypassed := func(p *pins, addr netip.Addr, name string) bool { return !p.bypassed(addr, name, e, now).IsZero() }
	client := netip.MustParseAddr("10.0.0.1")

	t.Run("window", func(t *testing.T) {
		p := newPins()
		p.accepted(client, "another", e)
		for i := range 3 * pinFailures {
			if r := p.failed(client, "a", e, now.Add(time.Duration(i)*pinWindow/2), true); r.learned || r.failures > 2 {
				t.Errorf("rejection %d: %+v", i, r)
			}
		}
	})
	t.Run("not twice", func(t *testing.T) {
		p := newPins()
		learn(p, client, "a")
		if r := fail(p, client, "a"); r.learned {
			t.Errorf("%+v", r)
		}
		if until := p.bypassed(client, "a", e, now.Add(pinWindow)); !until.IsZero() {
			t.Errorf("bypassed until %v", until)
		}
	})
	t.Run("names of one client", func(t *testing.T) {
		p := newPins()
		learn(p, client, "pinned")
		for i := range 10 * pinNames {
			fail(p, client, fmt.Sprint(i))
		}
		if !bypassed(p, client, "pinned") {
			t.Error("names that were rejected once have pushed out one that is pinned")
		}
		for i := range 10 * pinNames {
			learn(p, client, fmt.Sprint(i))
		}
		s, c := p.client(client, e, false)
		s.mu.Unlock()
		if len(c.names) != pinNames {
			t.Errorf("%d names", len(c.names))
		}
	})
	t.Run("clients", func(t *testing.T) {
		p := newPins()
		learn(p, client, "a")
		for i := range 100000 { // of one IPv6 network, so all of one shard
			a := netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 12: byte(i >> 24), byte(i >> 16), byte(i >> 8), byte(i)})
			fail(p, a, "a")
		}
		sum, most := 0, 0
		for i := range p.shards {
			n := p.shards[i].recent.Len()
			if n != len(p.shards[i].clients) {
				t.Errorf("%d places, %d clients", n, len(p.shards[i].clients))
			}
			sum, most = sum+n, max(most, n)
		}
		if most != pinClients || sum > pinClients+1 {
			t.Errorf("%d clients, %d in one shard", sum, most)
		}
		for i := range 200000 {
			fail(p, netip.AddrFrom4([4]byte{11, byte(i >> 16), byte(i >> 8), byte(i)}), "a")
		}
		sum = 0
		for i := range p.shards {
			sum += p.shards[i].recent.Len()
		}
		if sum > pinShards*pinClients {
			t.Errorf("%d clients", sum)
		}
	})
}

// The cost for a client that accepts what it is shown.
func BenchmarkPinsAccepted(b *testing.B) {
	p := newPins()
	e := &epoch{version: "trust policy", trust: &chain.Trust{Version: "trust"}}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			p.accepted(netip.AddrFrom4([4]byte{10, 0, byte(i>>8) & 15, byte(i)}), originName, e)
		}
	})
}
