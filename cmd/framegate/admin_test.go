package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"framegate/internal/onboarding"
)

// serveAdmin serves on ln until the test ends, and returns what asks it as host.
func serveAdmin(t *testing.T, ln net.Listener, profile bool) func(host, path string) (int, string) {
	t.Helper()
	metrics := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "numbers") })
	a := newAdmin(ln, func() error { return refusals[refuseConnections].err }, &onboarding.Page{Host: "framegate.internal"}, metrics, profile)
	a.serve()
	t.Cleanup(a.close)
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, ln.Addr().Network(), ln.Addr().String())
		},
	}}
	return func(host, path string) (int, string) {
		t.Helper()
		r, err := http.NewRequest("GET", "http://localhost"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = host
		answer, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		return answer.StatusCode, string(body)
	}
}

func tcpListener(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

// said returns what the program says to people from here on.
func said(t *testing.T) *bytes.Buffer {
	var b bytes.Buffer
	old := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&b, nil)))
	t.Cleanup(func() { slog.SetDefault(old) })
	return &b
}

// A page of somebody else whose name is made to point at the port gets nothing.
func TestAdminHost(t *testing.T) {
	log := said(t)
	get := serveAdmin(t, tcpListener(t), false)
	for _, host := range []string{"127.0.0.1", "127.0.0.1:9470", "192.0.2.1:9470", "[::1]:9470", "[::1]", "[2001:db8::1]:1", "localhost", "localhost:9470", "LocalHost.", "framegate.internal", "framegate.internal:9470"} {
		if status, body := get(host, "/metrics"); status != 200 || body != "numbers\n" {
			t.Errorf("%s: %d %q", host, status, body)
		}
	}
	if log.Len() > 0 {
		t.Errorf("said: %s", log)
	}
	for i, host := range []string{"evil.example", "evil.example:9470", "localhost.evil.example", "127.0.0.1.evil.example", "framegate.internal.evil.example", "x.localhost", "1.2.3", "0x7f000001"} {
		for _, path := range []string{"/metrics", "/healthz", "/readyz", "/ca/", "/debug/pprof/", "/"} {
			if status, body := get(host, path); status != 403 || !strings.HasPrefix(body, "framegate: call this port by an IP address, or as localhost or framegate.internal") {
				t.Errorf("%s%s: %d %q", host, path, status, body)
			}
		}
		if i == 0 && !strings.Contains(log.String(), "host=evil.example") {
			t.Errorf("said: %s", log)
		}
	}
	if n := strings.Count(log.String(), "\n"); n == 0 || n > 3 {
		t.Errorf("%d lines about 48 requests: %s", n, log)
	}
	if status, body := get("localhost", "/readyz"); status != 503 || body != "limits.max_connections reached\n" {
		t.Errorf("/readyz: %d %q", status, body)
	}
	if status, body := get("localhost", "/healthz"); status != 200 || body != "ok\n" {
		t.Errorf("/healthz: %d %q", status, body)
	}
}

// Profiles are there on a socket of the file system, if they are asked for, and
// on TCP never.
func TestProfiles(t *testing.T) {
	for _, profile := range []bool{false, true} {
		ln, err := listenAdmin(t.Context(), "unix:"+filepath.Join(t.TempDir(), "admin"))
		if err != nil {
			t.Fatal(err)
		}
		get := serveAdmin(t, ln, profile)
		status, body := get("whoever", "/debug/pprof/goroutine?debug=1")
		if want := map[bool]int{false: 404, true: 200}[profile]; status != want || profile != strings.Contains(body, "goroutine profile") {
			t.Errorf("pprof = %t: %d %.60q", profile, status, body)
		}
		if status, body := get("whoever", "/metrics"); status != 200 {
			t.Errorf("/metrics: %d %s", status, body)
		}
		if status, _ := serveAdmin(t, tcpListener(t), profile)("localhost", "/debug/pprof/"); status != 404 {
			t.Errorf("pprof = %t on TCP: %d", profile, status)
		}
	}
	for src, want := range map[string]string{
		"[admin]\npprof = true\n":                                  "f.toml:2:9: admin.pprof: profiles are served on a socket of the file system only, expected admin.listen = \"unix:PATH\"",
		"[admin]\nlisten = \"[::]:1\"\npprof = true\n":             "f.toml:3:9: admin.pprof: profiles are served on a socket of the file system only, expected admin.listen = \"unix:PATH\"",
		"[admin]\nlisten = \"unix:/run/x\"\npprof = \"yes\"\n":     "f.toml:3:10: admin.pprof: got \"yes\", expected true or false",
		"[admin]\nlisten = \"unix:/run/x\"\npprof = true\n":        "",
		"[admin]\nlisten = \"\"\npprof = false\nonboarding = \"\"": "",
	} {
		_, err := parseConfig("f.toml", []byte(src))
		if got := fmt.Sprint(err); want != "" && got != want || want == "" && err != nil {
			t.Errorf("%q: %v, want %v", src, err, want)
		}
	}
}

// An admin port that others can reach is told of.
func TestAdminWarning(t *testing.T) {
	for addr, want := range map[string]bool{"127.0.0.1:0": false, "[::1]:0": false, "0.0.0.0:0": true, ":0": true} {
		ln, err := net.Listen("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		gw := &gateway{config: defaultConfig(), console: slog.New(slog.NewTextHandler(&b, nil))}
		gw.page = gw.newPage(gw.config.Admin.Onboarding)
		gw.newAdmin(ln).close()
		if got := strings.Contains(b.String(), "can be reached from other machines"); got != want {
			t.Errorf("%s: %q", addr, &b)
		}
	}
}

// Whoever can reach the port takes maxAdmin descriptors, and no more; the next one
// waits for another to end.
func TestAdminConnections(t *testing.T) {
	ln := tcpListener(t)
	serveAdmin(t, ln, false)
	conns := make([]net.Conn, maxAdmin+1)
	for i := range conns {
		c, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		conns[i] = c
	}
	last := conns[maxAdmin]
	io.WriteString(last, "GET /healthz HTTP/1.0\r\nHost: localhost\r\n\r\n")
	last.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	if n, err := last.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("%d bytes, %v: one more than the limit is answered", n, err)
	}
	conns[0].Close()
	last.SetReadDeadline(time.Now().Add(10 * time.Second))
	if answer, err := io.ReadAll(last); !strings.HasSuffix(string(answer), "ok\n") {
		t.Errorf("%q, %v", answer, err)
	}
}
