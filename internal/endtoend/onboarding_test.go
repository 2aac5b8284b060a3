package endtoend

import (
	"fmt"
	"image"
	"image/color"
	_ "image/png"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"framegate/audit"
	"framegate/internal/lab"
)

// ownHost is the gateway's own name. It is in no DNS: the device of the test has
// it in /etc/hosts, at addresses that nobody has and that lead to the gateway.
const (
	ownHost  = "framegate.internal"
	ownHosts = "192.0.2.1 " + ownHost + "\n2001:db8::1 " + ownHost
)

// TestOnboarding: a person on a device that does not trust the gateway finds the
// page, does what it says, and the page says that it worked.
func TestOnboarding(t *testing.T) {
	s := newSite(t, settings{policy: `
[[connection]]
id       = "nobody"
host     = ["` + ownHost + `"]
decision = "block"
`})
	g := s.start(t)
	d := newDevice(t, g)
	d.must(t, "echo '"+ownHosts+"' >> /etc/hosts")
	shown := s.framegate(t, "ca", "show")

	// A program gets text, by either family, by the explicit proxy, and on the
	// gateway itself by the admin address.
	page := ""
	for _, by := range []string{
		"-4 http://" + ownHost, "-6 http://" + ownHost, "http://FRAMEGATE.internal:80/",
		"--proxy http://" + g.proxyAddress("tcp4") + " http://" + ownHost + "/",
		"--proxytunnel --proxy http://" + g.proxyAddress("tcp6") + " http://" + ownHost + "/",
	} {
		out, err := d.run(t, "curl -fsS --noproxy '' "+by)
		_, print, _ := strings.Cut(out, "\n    SHA-256 ")
		if print, _, _ = strings.Cut(print, "\n"); err != nil || len(print) != 95 || !strings.Contains(shown, print) || !strings.Contains(out, "sudo sh install.sh") {
			t.Errorf("curl %s: %v\n%s", by, err, out)
		}
		page = out
	}
	out, err := g.Command(soon(t), lab.Gateway, "curl", "-fsS", "--noproxy", "*", "http://127.0.0.1:9470/ca/").CombinedOutput()
	if err != nil || string(out) != page {
		t.Errorf("the admin address: %v\n%s", err, out)
	}
	for request, want := range map[string]string{
		"-X POST -d x http://" + ownHost + "/":                            "405",
		"http://" + ownHost + "/issuing-ecdsa.key":                        "404",
		"http://" + ownHost + "/trusted":                                  "404",
		"-H 'Host: evil.example' http://" + ownHost + "/":                 "502", // not ours, and nobody is at the address
		"--insecure -H 'Host: evil.example' https://" + ownHost + "/":     "421",
		"--http1.1 -H 'Upgrade: websocket' http://" + ownHost + "/":       "200",
		"--path-as-is http://" + ownHost + "/../../../../../etc/hostname": "404",
	} {
		if out, _ := d.run(t, "curl -sS -o /dev/null -w '%{http_code}' "+request+" 2>/dev/null"); out != want {
			t.Errorf("curl %s: %s, expected %s", request, out, want)
		}
	}

	shots := t.ArtifactDir()
	check := "curl -sS https://" + ownHost + "/trusted"
	if out, err := d.run(t, check); err == nil || !strings.Contains(out, "SSL certificate problem") {
		t.Errorf("before: %v\n%s", err, out)
	}
	// The phone's browser runs no scripts.
	const noScripts = "/etc/chromium/policies/managed/no-scripts.json"
	withoutScripts := func() {
		d.must(t, `mkdir -p "$(dirname `+noScripts+`)"; echo '{"DefaultJavaScriptSetting": 2}' > `+noScripts)
		if out, err := d.chromium(t, "--dump-dom 'data:text/html,<p>said<script>document.write(1+1)</script>'"); err != nil || !strings.Contains(out, "<p>said<script>") {
			t.Errorf("scripts run: %v\n%s", err, out)
		}
	}
	withoutScripts()
	d.look(t, filepath.Join(shots, "before-phone.png"), "http://"+ownHost, 390, 844, false, "--disable-features=HttpsUpgrades")
	d.must(t, "rm "+noScripts)
	d.look(t, filepath.Join(shots, "before-desktop.png"), "http://"+ownHost, 1280, 900, false)
	g.log.wait(t, "a browser that refuses the check", func(l []record) bool {
		return slices.ContainsFunc(l, func(r record) bool { return r.Event == audit.TLSFail && r.SNI == ownHost })
	})

	steps := ""
	_, guide, _ := strings.Cut(page, "\nLinux")
	for line := range strings.Lines(guide[:strings.Index(guide, "\nFirefox")]) {
		if command, ok := strings.CutPrefix(line, "        "); ok {
			steps += command
		}
	}
	if strings.Count(steps, "\n") != 3 {
		t.Fatalf("steps for Linux:\n%s", steps)
	}
	d.must(t, "cd; "+steps)

	for _, family := range []string{"-4", "-6"} {
		if out, err := d.run(t, check+" "+family); err != nil || out != "trusted\n" {
			t.Errorf("after, %s: %v\n%s", family, err, out)
		}
	}
	if out, err := d.run(t, check+" --noproxy '' --proxy http://"+g.proxyAddress("tcp4")); err != nil || out != "trusted\n" {
		t.Errorf("after, by the proxy: %v\n%s", err, out)
	}
	withoutScripts()
	d.look(t, filepath.Join(shots, "after-phone.png"), "http://"+ownHost, 390, 844, true, "--disable-features=HttpsUpgrades")
	d.must(t, "rm "+noScripts)
	d.look(t, filepath.Join(shots, "after-desktop.png"), "https://"+ownHost, 1280, 900, true)

	g.log.wait(t, "the check of a browser that trusts", func(l []record) bool {
		return slices.ContainsFunc(l, func(r record) bool {
			return r.Event == audit.HTTPRequest && r.SNI == ownHost && r.Path == "/trusted.css" && r.Code == 200 && r.Reason == "own-host"
		})
	})
	for _, r := range g.log.all(t) {
		if r.Host == ownHost && (r.Event == audit.ConnBlock || slices.Contains(r.Rules, "nobody")) {
			t.Errorf("a rule was asked about our own name: %s", r)
		}
	}
}

// chromium runs a headless browser with a profile of its own.
func (d *device) chromium(t *testing.T, args string) (string, error) {
	t.Helper()
	return d.run(t, `chromium --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --disable-quic --no-first-run --hide-scrollbars \
		--disable-background-networking --disable-component-update --disable-sync --no-proxy-server \
		--user-data-dir="$(mktemp -d "$HOME/profile.XXXXXX")" `+args)
}

// look takes a screenshot of the page, and checks by its colours that it says
// whether the device trusts the gateway, and not the opposite.
func (d *device) look(t *testing.T, path string, site string, width, height int, trusted bool, flags ...string) {
	t.Helper()
	out, err := d.chromium(t, fmt.Sprintf("--window-size=%d,%d --screenshot='%s' %s %s/", width, height, path, strings.Join(flags, " "), site))
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	defer f.Close()
	shot, _, err := image.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	count := make(map[color.RGBA]int)
	size := shot.Bounds()
	for y := size.Min.Y; y < size.Max.Y; y++ {
		for x := size.Min.X; x < size.Max.X; x++ {
			count[color.RGBAModel.Convert(shot.At(x, y)).(color.RGBA)]++
		}
	}
	yes, no := count[color.RGBA{0x11, 0x63, 0x2f, 255}], count[color.RGBA{0x8a, 0x4b, 0x00, 255}]
	if size.Dx() != width || size.Dy() != height || (yes > 5000) != trusted || (no > 5000) == trusted || yes*no > 0 {
		t.Errorf("%s: %v, %d pixels say yes and %d no", filepath.Base(path), size, yes, no)
	}
}
