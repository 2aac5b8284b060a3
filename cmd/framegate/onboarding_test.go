package main

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"framegate/audit"
	"framegate/ca"
	"framegate/policy"
)

// TestOnboardingPage: the page is on the admin address, a socket included, with
// the roots of the authority in force; the leaf of our own name is recorded as such,
// and not made where the authority may not.
func TestOnboardingPage(t *testing.T) {
	dir := t.TempDir()
	gw := &gateway{config: defaultConfig(), console: slog.New(slog.DiscardHandler)}
	p, err := policy.Load(nil)
	if err != nil {
		t.Fatal(err)
	}
	gw.policy.Store(p)
	if gw.log, err = audit.Open(audit.Options{Dir: filepath.Join(dir, "log"), Level: audit.Connections, OnFailure: "block"}); err != nil {
		t.Fatal(err)
	}
	gw.page = gw.newPage(gw.config.Admin.Onboarding)
	ln, err := listenAdmin(t.Context(), "unix:"+filepath.Join(dir, "admin"))
	if err != nil {
		t.Fatal(err)
	}
	gw.admin = newAdmin(ln, func() error { return nil }, gw.page, http.NotFoundHandler(), false)
	gw.admin.serve()
	defer gw.admin.close()
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(dir, "admin"))
	}}}
	defer client.CloseIdleConnections()
	get := func(path string) (int, string) {
		answer, err := client.Get("http://localhost" + path)
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

	for i, exclude := range []string{"", "internal"} { // the second is in force after a reload
		o := gw.caOptions(gw.config)
		if exclude != "" {
			o.ExcludeDNS = []string{exclude}
		}
		a, err := ca.Create(filepath.Join(dir, "ca"+exclude), o)
		if err != nil {
			t.Fatal(err)
		}
		gw.authority.Store(a)
		for _, path := range []string{"/ca/", "/ca"} {
			status, body := get(path)
			if status != 200 || !strings.Contains(body, a.Fingerprint()) || strings.Contains(body, "https://framegate.internal/trusted") != (i == 0) {
				t.Errorf("%s: %d %s", path, status, body)
			}
			if i == 1 && !strings.Contains(body, "the name constraints of the authority exclude framegate.internal") {
				t.Errorf("%s: %s", path, body)
			}
		}
		if _, err := gw.local(gw.page).Leaf(t.Context(), nil); (err == nil) != (i == 0) {
			t.Errorf("authority %d: %v", i, err)
		}
	}
	if status, _ := get("/ca/linux/README.txt"); status != 200 {
		t.Errorf("README.txt: %d", status)
	}
	if status, body := get("/healthz"); status != 200 || body != "ok\n" {
		t.Errorf("/healthz: %d %s", status, body)
	}
	if err := gw.log.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := audit.NewReader(filepath.Join(dir, "log"), audit.Filter{Event: audit.CAIssue})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for rec, err := range r.Records() {
		if n++; err != nil || rec.Host != "framegate.internal" || !strings.Contains(rec.Reason, " origin=own ") {
			t.Errorf("%+v, %v", rec, err)
		}
	}
	if n != 1 {
		t.Errorf("%d leaves on record, expected one", n)
	}

	if gw.local(gw.newPage("")) != nil {
		t.Error("switched off, and there all the same")
	}
}

// TestOwnName: the explicit proxy knows our own name, and asks for all others.
func TestOwnName(t *testing.T) {
	own := ownName(func() string { return "framegate.internal" })
	none := ownName(func() string { return "" })
	for _, host := range []string{"framegate.internal", "FrameGate.Internal."} {
		if got, err := own.LookupNetIP(t.Context(), "ip", host); err != nil || !slices.Equal(got, []netip.Addr{ownAddress}) {
			t.Errorf("%s: %v, %v", host, got, err)
		}
	}
	for _, own := range []ownName{own, none} {
		if got, err := own.LookupNetIP(t.Context(), "ip", "localhost"); err != nil || slices.Contains(got, ownAddress) {
			t.Errorf("localhost: %v, %v", got, err)
		}
	}
}
