package ship

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"framegate/audit"
)

// witnessKey makes the key of a witness.
func witnessKey(t *testing.T, name string) (vkey string, key ed25519.PrivateKey) {
	t.Helper()
	public, key, err := ed25519.GenerateKey(rand.Reader)
	check(t, err)
	data := append([]byte{4}, public...)
	sum := sha256.Sum256(append([]byte(name+"\n"), data...))
	return fmt.Sprintf("%s+%x+%s", name, sum[:4], base64.StdEncoding.EncodeToString(data)), key
}

func parseWitness(t *testing.T, vkey string) *audit.Witness {
	t.Helper()
	w, err := audit.ParseWitness(vkey)
	check(t, err)
	return w
}

// cosign makes the line that a witness answers with.
func cosign(vkey string, key ed25519.PrivateKey, checkpoint string, at int64) string {
	name, rest, _ := strings.Cut(vkey, "+")
	text, _, _ := strings.Cut(checkpoint, "\n\n")
	msg := fmt.Sprintf("cosignature/v1\ntime %d\n%s\n", at, text)
	var id uint32
	fmt.Sscanf(rest[:8], "%x", &id)
	sig := binary.BigEndian.AppendUint32(nil, id)
	sig = binary.BigEndian.AppendUint64(sig, uint64(at))
	sig = append(sig, ed25519.Sign(key, []byte(msg))...)
	return fmt.Sprintf("— %s %s\n", name, base64.StdEncoding.EncodeToString(sig))
}

// litewitness is the witness of filippo.io/torchwood, which setup.sh builds.
const litewitness = "../../bin/litewitness"

// startLitewitness runs it with a database that knows nobody. It signs through an
// agent, which the test is.
func startLitewitness(t *testing.T) (addr, vkey, db string) {
	t.Helper()
	dir := t.TempDir()
	vkey, key := witnessKey(t, "witness.example/lab")
	ring := agent.NewKeyring()
	check(t, ring.Add(agent.AddedKey{PrivateKey: key}))
	signer, err := ssh.NewSignerFromKey(key)
	check(t, err)
	socket := filepath.Join(dir, "agent")
	ln, err := net.Listen("unix", socket)
	check(t, err)
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go agent.ServeAgent(ring, c)
		}
	}()
	addr, db = freePort(t), filepath.Join(dir, "db")
	run(t, []string{addr}, litewitness, "-name", "witness.example/lab", "-db", db, "-ssh-agent", socket,
		"-listen", addr, "-key", ssh.FingerprintSHA256(signer.PublicKey()))
	return addr, vkey, db
}

// admit makes a log known to a witness, as its operator does.
func admit(t *testing.T, db string, f *fixture) {
	t.Helper()
	empty := sha256.Sum256(nil)
	sqlite(t, db, `INSERT INTO log VALUES (?, 0, ?)`, f.log.Origin(), base64.StdEncoding.EncodeToString(empty[:]))
	sqlite(t, db, `INSERT INTO key VALUES (?, ?)`, f.log.Origin(), strings.TrimSpace(readFile(t, filepath.Join(f.dir, "key.pub"))))
}

func sqlite(t *testing.T, db string, args ...string) {
	t.Helper()
	const script = "import sqlite3,sys\nc=sqlite3.connect(sys.argv[1],timeout=10)\nc.execute(sys.argv[2],sys.argv[3:])\nc.commit()"
	if out, err := exec.Command("python3", append([]string{"-c", script, db}, args...)...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// A real witness cosigns what it is sent, also after a restart that has forgotten
// how far it was, and verify proves it.
func TestLitewitness(t *testing.T) {
	addr, vkey, db := startLitewitness(t)
	key := parseWitness(t, vkey)
	dir := filepath.Join(t.TempDir(), "log")
	cfg := Config{Checkpoints: []Target{checkpoint(t, "http://"+addr)}, Witnesses: []*audit.Witness{key}}
	f := startIn(t, dir, cfg)
	f.record(events(1)...)
	f.wait("a refusal of the unknown log", func() bool { return strings.Contains(f.shipper.Status()[0].Failing, "404") })
	admit(t, db, f)
	cosigned := func() string { b, _ := audit.ReadCosigned(dir, key); return string(b) }
	f.wait("a cosignature", func() bool { return cosigned() != "" })
	for range 3 { // several blocks, so that proofs have something to prove
		f.record(events(1)...)
		time.Sleep(60 * time.Millisecond)
	}
	f.stop(20 * time.Second)
	isLast := func() bool { return strings.HasPrefix(cosigned(), readFile(t, filepath.Join(dir, "checkpoint"))) }
	if !isLast() {
		t.Errorf("the last checkpoint was not cosigned before the end:\n%s", f.console)
	}

	check(t, os.RemoveAll(filepath.Join(dir, "witness"))) // it knows nothing now, and is told by a 409
	f = startIn(t, dir, cfg)
	f.record(events(1)...)
	f.stop(20 * time.Second)
	if !isLast() || f.shipper.Status()[0].Failures > 0 {
		t.Errorf("not cosigned at once: %+v", f.shipper.Status())
	}
	r := f.verify(audit.VerifyOptions{Old: [][]byte{[]byte(cosigned())}, Witnesses: []*audit.Witness{key}})
	if len(r.Witnessed) != 1 || r.Witnessed[0].Size != r.Checkpoint.Size || time.Since(r.Witnessed[0].Time) > time.Hour {
		t.Errorf("witnessed %+v", r.Witnessed)
	}

	// The log is begun anew with the same key and name: the witness refuses.
	for _, name := range []string{"seg", "tile", "checkpoint", "checkpoints", "witness"} {
		check(t, os.RemoveAll(filepath.Join(dir, name)))
	}
	f = startIn(t, dir, cfg)
	f.record(events(1)...)
	f.wait("a refusal of the forged log", func() bool { return strings.Contains(f.shipper.Status()[0].Failing, "has seen") })
	f.stop(100 * time.Millisecond)
	if cosigned() != "" {
		t.Error("a cosignature of a forged log")
	}
}

// A witness that errs or lies is told of, believed in nothing, and not asked
// without a pause.
func TestLyingWitness(t *testing.T) {
	vkey, key := witnessKey(t, "w.example")
	otherVkey, other := witnessKey(t, "w.example")
	newest := func(body string) string { _, c, _ := strings.Cut(body, "\n\n"); return c }
	size := func(body string) string { return strings.Split(newest(body), "\n")[1] }
	answer := func(w http.ResponseWriter, status int, kind, body string) {
		w.Header().Set("Content-Type", kind)
		w.WriteHeader(status)
		io.WriteString(w, body)
	}
	for name, tt := range map[string]struct {
		answer func(w http.ResponseWriter, body string)
		want   string
	}{
		"403":               {func(w http.ResponseWriter, _ string) { w.WriteHeader(403) }, "(403): give its operator"},
		"404":               {func(w http.ResponseWriter, _ string) { w.WriteHeader(404) }, "(404): give its operator"},
		"422":               {func(w http.ResponseWriter, _ string) { w.WriteHeader(422) }, "may have been rewritten"},
		"500":               {func(w http.ResponseWriter, _ string) { w.WriteHeader(500) }, "500 Internal Server Error"},
		"elsewhere":         {func(w http.ResponseWriter, _ string) { w.Header().Set("Location", "/x"); w.WriteHeader(307) }, "307"},
		"409, no size":      {func(w http.ResponseWriter, _ string) { w.WriteHeader(409) }, "409 without a size"},
		"409, as html":      {func(w http.ResponseWriter, _ string) { answer(w, 409, "text/html", "1\n") }, "409 without a size"},
		"409, what we said": {func(w http.ResponseWriter, _ string) { answer(w, 409, "text/x.tlog.size", "0\n") }, "says that this is what it has seen"},
		"409, larger":       {func(w http.ResponseWriter, _ string) { answer(w, 409, "text/x.tlog.size", "999999\n") }, "put back to an older state"},
		"409, the same size": {func(w http.ResponseWriter, body string) { answer(w, 409, "text/x.tlog.size", size(body)+"\n") },
			"another log of"},
		"endless":      {func(w http.ResponseWriter, _ string) { io.WriteString(w, strings.Repeat("x", 1<<20)) }, "more than 65536 bytes"},
		"no signature": {func(w http.ResponseWriter, _ string) {}, "no cosignature by a key"},
		"not base64":   {func(w http.ResponseWriter, _ string) { io.WriteString(w, "— w.example %%%\n") }, "no cosignature by a key"},
		"another key": {func(w http.ResponseWriter, body string) {
			io.WriteString(w, cosign(otherVkey, other, newest(body), 1e9))
		},
			"no cosignature by a key"},
		"signed something else": {func(w http.ResponseWriter, body string) {
			io.WriteString(w, cosign(vkey, key, "framegate/x"+newest(body), 1e9))
		}, "cosignature of the witness is not good"},
		"no time": {func(w http.ResponseWriter, body string) {
			io.WriteString(w, cosign(vkey, key, newest(body), -1))
		}, "cosignature of the witness is not good"},
	} {
		t.Run(name, func(t *testing.T) {
			var asked atomic.Int64
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked.Add(1)
				body, _ := io.ReadAll(r.Body)
				if r.URL.Path != "/lab/add-checkpoint" || r.Method != http.MethodPost {
					t.Errorf("%s %s", r.Method, r.URL)
				}
				tt.answer(w, string(body))
			}))
			defer server.Close()
			f := start(t, Config{Checkpoints: []Target{checkpoint(t, server.URL+"/lab/")}, Witnesses: []*audit.Witness{parseWitness(t, vkey)}})
			f.record(audit.Event{Event: audit.PolicyLoad}) // is signed at once
			f.wait("a failure", func() bool { return strings.Contains(f.shipper.Status()[0].Failing, tt.want) })
			f.stop(50 * time.Millisecond)
			st := f.shipper.Status()[0]
			if n := asked.Load(); n > 2*st.Failures+2 {
				t.Errorf("asked %d times in %d tries", n, st.Failures)
			}
			if _, err := os.Stat(filepath.Join(f.dir, "witness")); !os.IsNotExist(err) {
				t.Error("something was kept")
			}
			f.verify(audit.VerifyOptions{})
		})
	}
}
