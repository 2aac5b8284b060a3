package onboarding

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"framegate/ca/bundle"
)

const host = "framegate.internal"

func certificate(t *testing.T, name string) *x509.Certificate {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("../../ca/bundle/testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(b)
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func pageOf(roots ...*x509.Certificate) *Page {
	return &Page{Host: host, Roots: func() []*x509.Certificate { return roots }}
}

// ask makes a request with header fields "Name: value" and returns the answer.
func ask(t *testing.T, h http.Handler, method, target string, fields ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(method, target, nil)
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		r.Header.Add(name, value)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

const (
	wantHTML = "Accept: text/html,application/xhtml+xml,*/*;q=0.8"
	home     = "http://" + host + "/"
)

// The right file comes first, whoever asks.
func TestDevices(t *testing.T) {
	p := pageOf(certificate(t, "root.pem"))
	const (
		chrome = "User-Agent: Mozilla/5.0 (%s) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36"
		iphone = "User-Agent: Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.6 Mobile/15E148 Safari/604.1"
	)
	main := regexp.MustCompile(`<a class="get main" href="([^"]*)"`)
	for _, tt := range []struct{ name, field, more, first string }{
		{"windows", fmt.Sprintf(chrome, "Windows NT 10.0; Win64; x64"), "", `windows/framegate-root-\w{8}\.cer`},
		{"mac", fmt.Sprintf(chrome, "Macintosh; Intel Mac OS X 10_15_7"), "", `macos/framegate\.mobileconfig`},
		{"iphone", iphone, "", `ios/framegate\.mobileconfig`},
		{"ipad", strings.Replace(iphone, "iPhone", "iPad", 1), "", `ios/framegate\.mobileconfig`},
		{"android", fmt.Sprintf(chrome, "Linux; Android 10; K"), "", `android/framegate-root-\w{8}\.crt`},
		{"chromeos", fmt.Sprintf(chrome, "X11; CrOS x86_64 14541.0.0"), "", `chromeos/framegate-root-\w{8}\.crt`},
		{"linux", fmt.Sprintf(chrome, "X11; Linux x86_64"), "", `framegate-linux\.tar`},
		{"firefox", "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", "", `framegate-firefox\.tar`},
		{"firefox on windows", "User-Agent: Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:140.0) Gecko/20100101 Firefox/140.0", "", `windows/.*\.cer`},
		{"hint", fmt.Sprintf(chrome, "X11; Linux x86_64"), `Sec-CH-UA-Platform: "Android"`, `android/.*`},
		{"unknown hint", fmt.Sprintf(chrome, "Windows NT 10.0"), `Sec-CH-UA-Platform: "Unknown"`, `windows/.*\.cer`},
		{"java", "User-Agent: Java-http-client/21.0.1", "", `framegate-java\.tar`},
		{"python", "User-Agent: python-requests/2.32", "", `framegate-python\.tar`},
		{"node", "User-Agent: node", "", `framegate-node\.tar`},
		{"nobody", "User-Agent: \"><script>alert(1)</script>", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := ask(t, p, "GET", home, wantHTML, tt.field, tt.more)
			body := w.Body.String()
			got := main.FindStringSubmatch(body)
			if tt.first == "" {
				if got != nil || strings.Contains(body, "it seems") {
					t.Errorf("offers %q first", got)
				}
			} else if got == nil || !regexp.MustCompile("^"+tt.first+"$").MatchString(got[1]) {
				t.Errorf("offers %q first, expected %s", got, tt.first)
			}
			for _, name := range bundle.Platforms() { // all the others are below
				if n := strings.Count(body, `href="`+name+`/README.txt"`); n != 1 {
					t.Errorf("%s is there %d times", name, n)
				}
			}
			for _, href := range regexp.MustCompile(`href="([^"]*)"`).FindAllStringSubmatch(body, -1) {
				if strings.Contains(href[1], ":") || href[1] == "style.css" {
					continue
				}
				if w := ask(t, p, "GET", home+href[1]); w.Code != 200 {
					t.Errorf("%s: %d", href[1], w.Code)
				}
			}
			if strings.Contains(body, "<script") || regexp.MustCompile(`\s(on\w+|style)=`).MatchString(body) {
				t.Error("there is a script or a style inline")
			}
			if vary := w.Header().Get("Vary"); vary != "Accept, User-Agent, Sec-CH-UA-Platform" {
				t.Errorf("Vary: %s", vary)
			}
		})
	}
}

// Every answer, whatever it is, has the fields that keep a browser from making
// something else of it.
func TestFields(t *testing.T) {
	p := pageOf(certificate(t, "root.pem"))
	name := "framegate-root-" + fmt.Sprintf("%x", sha256.Sum256(certificate(t, "root.pem").Raw))[:8]
	for _, tt := range []struct {
		method, path string
		status       int
		kind, saved  string
	}{
		{"GET", "/", 200, plainText, ""},
		{"HEAD", "/", 200, plainText, ""},
		{"GET", "/style.css", 200, "text/css; charset=utf-8", ""},
		{"GET", "/windows/" + name + ".cer", 200, "application/x-x509-ca-cert", "inline; filename=" + name + ".cer"},
		{"GET", "/linux/" + name + ".crt", 200, "application/x-x509-ca-cert", "inline; filename=" + name + ".crt"},
		{"GET", "/ios/framegate.mobileconfig", 200, "application/x-apple-aspen-config", "inline; filename=framegate.mobileconfig"},
		{"GET", "/framegate-windows.zip", 200, "application/zip", "attachment; filename=framegate-windows.zip"},
		{"GET", "/framegate-linux.tar", 200, "application/x-tar", "attachment; filename=framegate-linux.tar"},
		{"HEAD", "/framegate-linux.tar", 200, "application/x-tar", "attachment; filename=framegate-linux.tar"},
		{"GET", "/linux/install.sh", 200, plainText, "attachment; filename=install.sh"},
		{"GET", "/linux/README.txt", 200, plainText, "inline; filename=README.txt"},
		{"GET", "/node/framegate-roots.pem", 200, "application/x-pem-file", "attachment; filename=framegate-roots.pem"},
		{"GET", "/firefox/policies.json", 200, "application/json", "attachment; filename=policies.json"},
		{"GET", "/trusted", 404, plainText, ""}, // not over TLS
		{"GET", "/trusted.css", 404, plainText, ""},
		{"GET", "/linux/", 404, plainText, ""},
		{"GET", "/linux/../../etc/passwd", 404, plainText, ""},
		{"GET", "//", 404, plainText, ""},
		{"GET", "/issuing-ecdsa.key", 404, plainText, ""},
		{"GET", "/%3Cscript%3E", 404, plainText, ""},
		{"POST", "/", 405, plainText, ""},
		{"PUT", "/framegate-linux.tar", 405, plainText, ""},
		{"OPTIONS", "/", 405, plainText, ""},
		{"TRACE", "/", 405, plainText, ""},
	} {
		t.Run(tt.method+" "+tt.path, func(t *testing.T) {
			w := ask(t, p, tt.method, "http://"+host+tt.path)
			h := w.Header()
			if w.Code != tt.status || h.Get("Content-Type") != tt.kind {
				t.Errorf("%d %s", w.Code, h.Get("Content-Type"))
			}
			saved := ""
			if how, params, err := mime.ParseMediaType(h.Get("Content-Disposition")); err == nil {
				saved = how + "; filename=" + params["filename"]
			}
			if saved != tt.saved {
				t.Errorf("Content-Disposition: %s", saved)
			}
			for name, want := range map[string]string{
				"Content-Security-Policy": "default-src 'none'; style-src 'self' https://framegate.internal; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
				"X-Content-Type-Options":  "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store",
			} {
				if h.Get(name) != want {
					t.Errorf("%s: %s", name, h.Get(name))
				}
			}
			if (tt.status == 405) != (h.Get("Allow") == "GET, HEAD") {
				t.Errorf("Allow: %s", h.Get("Allow"))
			}
			if tt.method == "HEAD" && (w.Body.Len() > 0 || h.Get("Content-Length") == "0") {
				t.Errorf("HEAD: %d bytes, Content-Length %s", w.Body.Len(), h.Get("Content-Length"))
			}
			if tt.status != 200 && strings.Contains(w.Body.String(), "script") {
				t.Errorf("comes back: %s", w.Body)
			}
		})
	}
}

func TestHosts(t *testing.T) {
	p := pageOf(certificate(t, "root.pem"))
	for h, want := range map[string]int{
		host: 200, "FrameGate.Internal.": 200, host + ":80": 200, "localhost": 200, "localhost:9470": 200,
		"127.0.0.1": 200, "127.0.0.1:9470": 200, "[::1]": 200, "[::1]:9470": 200, "192.0.2.1": 200,
		"evil.example": 421, "evil.example:9470": 421, "": 421, host + ".evil.example": 421, "framegate.internal:evil": 421,
		"[::1%25lo]:80": 421, "127.0.0.1.evil.example": 421, "[::1].evil.example": 421,
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Host = h
		w := httptest.NewRecorder()
		if p.ServeHTTP(w, r); w.Code != want {
			t.Errorf("%q: %d, expected %d", h, w.Code, want)
		}
	}
}

// The page for programs is text with commands, and says how to compare.
func TestText(t *testing.T) {
	c := certificate(t, "root.pem")
	w := ask(t, pageOf(c), "GET", home, "User-Agent: curl/8.14.1", "Accept: */*")
	body := w.Body.String()
	for _, want := range []string{
		viewOf(c).Fingerprint, "plain HTTP", "framegate ca show", "\n    http://framegate.internal/framegate-linux.tar\n",
		"\n        curl -fsS http://framegate.internal/framegate-linux.tar | tar -x && cd framegate-linux\n", "\n        sudo sh install.sh\n",
		"\n    curl -sS https://framegate.internal/trusted\n",
	} {
		if !strings.Contains(body, want) {
			t.Errorf("no %q in\n%s", want, body)
		}
	}
	if strings.Contains(body, "BASE/") || strings.Contains(body, "&#") || strings.Contains(body, "\n\n\n\n") {
		t.Errorf("bad text:\n%s", body)
	}
	for line := range strings.Lines(body) {
		if line != strings.TrimRight(line, " \t\n")+"\n" || !strings.HasPrefix(line, "    ") && len(line) > 100 {
			t.Errorf("line %q", line)
		}
	}
}

// Over TLS, what says that the device trusts the gateway can be had.
func TestTrusted(t *testing.T) {
	p := pageOf(certificate(t, "root.pem"))
	for path, want := range map[string]string{"trusted": "trusted\n", "trusted.css": "Yes. This device trusts the gateway."} {
		r := httptest.NewRequest("GET", "https://"+host+"/"+path, nil)
		r.TLS = new(tls.ConnectionState)
		w := httptest.NewRecorder()
		if p.ServeHTTP(w, r); w.Code != 200 || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
	check := `<link rel="stylesheet" href="https://framegate.internal/trusted.css">`
	if body := ask(t, p, "GET", home, wantHTML).Body.String(); strings.Count(body, check) != 1 {
		t.Error("the page has no check")
	}
	p.Check = func() error { return errors.New("<it> is out of bounds") }
	body := ask(t, p, "GET", home, wantHTML).Body.String()
	if strings.Contains(body, "trusted.css") || !strings.Contains(body, "cannot be checked here: &lt;it&gt; is out of bounds") {
		t.Error("the page has a check that cannot be made, or does not say why there is none")
	}
	if body = ask(t, p, "GET", home).Body.String(); strings.Contains(body, "/trusted") || !strings.Contains(body, "cannot be checked here: <it> is out of bounds") {
		t.Error("so has the text")
	}
}

// While two roots overlap, the page has both, and each file has both or is there
// for both; a change is seen by the next request.
func TestOverlap(t *testing.T) {
	old, next := certificate(t, "root.pem"), certificate(t, "next.pem")
	roots := []*x509.Certificate{old}
	p := &Page{Host: host, Roots: func() []*x509.Certificate { return roots }}
	count := func(path, what string) int {
		return strings.Count(ask(t, p, "GET", home+path, wantHTML, "User-Agent: Windows").Body.String(), what)
	}
	if n := count("", `class="print"`); n != 1 {
		t.Errorf("%d fingerprints", n)
	}
	roots = []*x509.Certificate{next, old}
	if n := count("", `class="print"`); n != 2 {
		t.Errorf("overlap: %d fingerprints", n)
	}
	if n := count("", `<a class="get main" href="windows/framegate-root-`); n != 2 {
		t.Errorf("overlap: %d certificates", n)
	}
	if n := count("ios/framegate.mobileconfig", "com.apple.security.root"); n != 2 {
		t.Errorf("overlap: %d in the profile", n)
	}
	if n := count("node/framegate-roots.pem", "BEGIN CERTIFICATE"); n != 2 {
		t.Errorf("overlap: %d in the PEM file", n)
	}
	roots = []*x509.Certificate{next}
	body := ask(t, p, "GET", home).Body.String()
	if strings.Contains(body, viewOf(old).Fingerprint) || !strings.Contains(body, viewOf(next).Fingerprint) {
		t.Error("the old root is still there")
	}
}

// What an imported authority calls itself is text, on every page.
func TestSubject(t *testing.T) {
	c := *certificate(t, "root.pem")
	c.Subject = pkix.Name{CommonName: "<script>alert(1)</script>\x1b[2J\u202e\r\nSet-Cookie: x"}
	p := pageOf(&c)
	html, text := ask(t, p, "GET", home, wantHTML).Body.String(), ask(t, p, "GET", home).Body.String()
	if strings.Contains(html, "<script>") || !strings.Contains(html, "&lt;script") {
		t.Error("the subject is markup")
	}
	for _, bad := range []string{"\x1b", "\u202e", "\nSet-Cookie"} {
		if strings.Contains(html, bad) || strings.Contains(text, bad) {
			t.Errorf("%q comes through", bad)
		}
	}
}

// Elsewhere than at the gateway's own name, paths are below another one.
func TestUnder(t *testing.T) {
	p := pageOf(certificate(t, "root.pem"))
	p.Host = ""
	h := p.Under("/ca/")
	for path, want := range map[string]int{"/ca/": 200, "/ca/linux/README.txt": 200, "/linux/README.txt": 404, "/": 404, "/ca/healthz": 404} {
		if w := ask(t, h, "GET", "http://127.0.0.1:9470"+path); w.Code != want {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
	w := ask(t, h, "GET", "http://127.0.0.1:9470/ca/", wantHTML)
	for _, want := range []string{"curl -fsS http://127.0.0.1:9470/ca/framegate-linux.tar", "cannot be checked here: the gateway has no name"} {
		if !strings.Contains(w.Body.String(), want) {
			t.Errorf("no %q", want)
		}
	}
	if csp := w.Header().Get("Content-Security-Policy"); !strings.Contains(csp, "style-src 'self';") {
		t.Error(csp)
	}
}

// Without a usable root there is no page, and no panic.
func TestNoRoots(t *testing.T) {
	for _, p := range []*Page{pageOf(), pageOf(certificate(t, "root.pem"), certificate(t, "root.pem"))} {
		if w := ask(t, p, "GET", home); w.Code != 500 || !strings.Contains(w.Body.String(), "see the log") {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	}
}
