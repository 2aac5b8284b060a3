package ship

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"framegate/audit"
)

// startRsyslog runs a rsyslogd of its own: plain TCP on one port, TLS with
// client certificates on another. It writes what it has parsed, a line each.
func startRsyslog(t *testing.T, ca *authority) (plain, secure, out string) {
	t.Helper()
	dir := t.TempDir()
	_, cert, key := ca.issue(t, "127.0.0.1")
	for name, data := range map[string][]byte{"ca.pem": ca.pem, "cert.pem": cert, "key.pem": key} {
		check(t, os.WriteFile(filepath.Join(dir, name), data, 0o600))
	}
	plain, secure, out = freePort(t), freePort(t), filepath.Join(dir, "out")
	port := func(addr string) string { _, p, _ := net.SplitHostPort(addr); return p }
	conf := filepath.Join(dir, "rsyslog.conf")
	check(t, os.WriteFile(conf, fmt.Appendf(nil, `
global(workDirectory="%[1]s" maxMessageSize="512k" defaultNetstreamDriverCAFile="%[1]s/ca.pem"
  defaultNetstreamDriverCertFile="%[1]s/cert.pem" defaultNetstreamDriverKeyFile="%[1]s/key.pem")
template(name="parsed" type="string" string="%%syslogpriority%%|%%syslogfacility%%|%%app-name%%|%%msgid%%|%%structured-data%%|%%msg%%\n")
module(load="imtcp")
ruleset(name="all") { action(type="omfile" file="%[4]s" template="parsed") }
input(type="imtcp" address="127.0.0.1" port="%[2]s" ruleset="all")
input(type="imtcp" address="127.0.0.1" port="%[3]s" ruleset="all"
  streamDriver.name="gtls" streamDriver.mode="1" streamDriver.authMode="x509/certvalid")
`, dir, port(plain), port(secure), out), 0o600))
	run(t, []string{plain, secure}, "rsyslogd", "-n", "-f", conf, "-i", filepath.Join(dir, "pid"))
	return plain, secure, out
}

// run starts a program that listens on addresses, for as long as the test lasts.
func run(t *testing.T, listens []string, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	var output console
	cmd.Stdout, cmd.Stderr = &output, &output
	check(t, cmd.Start())
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Logf("%s:\n%s", name, output.String())
		}
	})
	for end := time.Now().Add(20 * time.Second); len(listens) > 0; time.Sleep(10 * time.Millisecond) {
		if c, err := net.Dial("tcp", listens[0]); err == nil {
			c.Close()
			listens = listens[1:]
		} else if time.Now().After(end) {
			t.Fatalf("%s does not listen: %v\n%s", name, err, output.String())
		}
	}
}

// A real receiver gets every record and the last checkpoint, over TCP and TLS,
// and the log verifies against what it has written.
func TestRsyslog(t *testing.T) {
	ca := newAuthority(t)
	plain, secure, out := startRsyslog(t, ca)
	client, _, _ := ca.issue(t, "gateway.example")
	for _, url := range []string{"syslog+tcp://" + plain, "syslog+tls://" + secure} {
		t.Run(url[:10], func(t *testing.T) {
			before := len(readFile(t, out))
			f := start(t, Config{
				Records: []Target{record(t, url)}, Checkpoints: []Target{checkpoint(t, url)},
				Roots: ca.pool(), Certificate: &client,
			})
			f.record(events(5000)...)
			f.record(audit.Event{Event: audit.ConnBlock, Conn: "c-x", Path: `/a"]\b`, Reason: "plain"})
			f.wait("all of them", func() bool { return f.shipper.Status()[1].Sent == 5001 })
			f.stop(10 * time.Second)
			written := func() string { return readFile(t, out)[before:] }
			newest := strings.ReplaceAll(strings.ReplaceAll(readFile(t, filepath.Join(f.dir, "checkpoint")), "\n", `\n`), "—", `\u2014`)
			f.wait("the last record and the last checkpoint", func() bool {
				return strings.Contains(written(), `"event":"conn.block"`) && strings.Contains(written(), newest)
			})
			text := written()
			if strings.Contains(text, "cret") {
				t.Error("a payload has left")
			}
			var shipped []string
			for _, line := range f.lines() {
				shipped = append(shipped, string(withoutPayload([]byte(line))))
			}
			if line := missing(text, shipped); line != "" {
				t.Errorf("not there: %s", line)
			}
			if want := `4|13|framegate|conn.block|[framegate@32473 log="` + f.log.Origin() + `" seq="5001" conn="c-x"]|`; !strings.Contains(text, want) {
				t.Errorf("not parsed as sent: %s", want)
			}
			if r := f.verify(audit.VerifyOptions{Old: [][]byte{[]byte(text)}}); r.Compared < 2 {
				t.Errorf("compared with %d checkpoints", r.Compared)
			}
			if st := f.shipper.Status()[1]; st.Sent != 5001 || st.Lost != 0 || st.LastSuccess.IsZero() {
				t.Errorf("status %+v", st)
			}
		})
	}
}

// What does not prove to be the receiver gets nothing, and the log says why.
func TestSyslogUnverified(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	_, secure, out := startRsyslog(t, ca)
	client, _, _ := ca.issue(t, "gateway.example")
	_, port, _ := net.SplitHostPort(secure)
	for name, c := range map[string]Config{
		"another authority": {Records: []Target{record(t, "syslog+tls://"+secure)}, Roots: other.pool(), Certificate: &client},
		"another name":      {Records: []Target{record(t, "syslog+tls://localhost:"+port)}, Roots: ca.pool(), Certificate: &client},
	} {
		t.Run(name, func(t *testing.T) {
			f := start(t, c)
			f.record(events(3)...)
			f.wait("two failures", func() bool { return f.shipper.Status()[0].Failures > 1 })
			if st := f.shipper.Status()[0]; st.Sent != 0 || !strings.Contains(st.Failing, "x509: certificate") {
				t.Errorf("status %+v", st)
			}
			if n := strings.Count(f.console.String(), "do not reach"); n != 1 {
				t.Errorf("told %d times:\n%s", n, f.console)
			}
			f.stop(100 * time.Millisecond)
			f.verify(audit.VerifyOptions{})
			if last := f.lines()[len(f.lines())-1]; !strings.Contains(last, `"unshipped":{"target":"syslog+tls://`) || !strings.Contains(last, `"count":3,"from":1,"to":3}`) {
				t.Errorf("the last record is %s", last)
			}
		})
	}
	if s := readFile(t, out); s != "" {
		t.Errorf("the receiver has %q", s)
	}
}
