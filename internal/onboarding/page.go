// Package onboarding is the page by which a person makes a device trust the
// gateway: the root certificates in the form that the device takes, their
// fingerprints to compare, short instructions, and a check whether it worked.
//
// It is served over plain HTTP, since a device that needs it trusts no TLS of the
// gateway yet. So it proves nothing about itself and says so: what counts is the
// fingerprint that the operator reads off `framegate ca show`.
//
// The check needs no script. The page asks for a stylesheet over TLS under the
// gateway's own name, which turns "does not trust" into "trusts". A browser that
// does not trust the leaf does not load it.
//
// There are certificates here and what package ca/bundle makes of them, never a
// key: the page is given the certificates and nothing else. It takes GET and HEAD,
// runs no script, loads nothing from anywhere else and keeps no state but the
// bundles, which it renders anew when the roots change.
package onboarding

import (
	"bytes"
	"crypto/x509"
	_ "embed"
	"html/template"
	"log/slog"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	texttemplate "text/template"
)

// A Page serves the root certificates to devices. Its fields are set before the
// first request.
type Page struct {
	// Roots returns the certificates that a device should trust: one, or while
	// two overlap both. It is called for each request. It must be set.
	Roots func() []*x509.Certificate
	// Host is the gateway's own name, at which the page is at / and the check can
	// be made. If empty, there is none.
	Host string
	// Check returns why the check cannot be made, nil if it can. If it is nil, the
	// check can be made whenever there is a Host.
	Check func() error

	mu    sync.Mutex
	shelf *shelf // of the last roots
}

// policy allows the page its own stylesheet and that of the check, which it takes
// from host.
func policy(host string) string {
	styles := "'self'"
	if host != "" {
		styles += " https://" + host
	}
	return "default-src 'none'; style-src " + styles + "; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}

// ServeHTTP implements [http.Handler] with the page at /.
func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) { p.serve(w, r, "/") }

// Under returns a handler with the page at another path, which ends in a slash.
func (p *Page) Under(path string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { p.serve(w, r, path) })
}

func (p *Page) serve(w http.ResponseWriter, r *http.Request, at string) {
	h := w.Header()
	h.Set("Content-Security-Policy", policy(p.Host))
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store") // another gateway may have the same name, and roots change
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		h.Set("Allow", "GET, HEAD")
		answer(w, r, http.StatusMethodNotAllowed, plainText, []byte("framegate: expected GET or HEAD\n"))
		return
	}
	if !p.known(r.Host) {
		// Or a site could have its own name lead here, and read this as its own.
		answer(w, r, http.StatusMisdirectedRequest, plainText, []byte("framegate: ask by address or by the gateway's own name\n"))
		return
	}
	s, err := p.stock()
	if err != nil {
		slog.Error("the onboarding page has no bundles", "err", err)
		answer(w, r, http.StatusInternalServerError, plainText, []byte("framegate: no bundles, see the log of the gateway\n"))
		return
	}
	path, below := strings.CutPrefix(r.URL.Path, at)
	switch {
	case !below:
		path = "/" // which is the name of nothing
	case path == "":
		p.front(w, r, s, at)
		return
	}
	switch path {
	case "style.css":
		answer(w, r, http.StatusOK, "text/css; charset=utf-8", styles)
		return
	case "trusted.css", "trusted":
		if r.TLS == nil { // then it would say nothing
			answer(w, r, http.StatusNotFound, plainText, []byte("framegate: this has a meaning over https only\n"))
		} else if path == "trusted" {
			answer(w, r, http.StatusOK, plainText, []byte("trusted\n"))
		} else {
			answer(w, r, http.StatusOK, "text/css; charset=utf-8", trusted)
		}
		return
	}
	f, ok := s.files[path]
	if !ok {
		answer(w, r, http.StatusNotFound, plainText, []byte("framegate: there is no such file\n"))
		return
	}
	disposition := "inline"
	if f.save {
		disposition = "attachment"
	}
	h.Set("Content-Disposition", disposition+`; filename="`+f.name+`"`)
	answer(w, r, http.StatusOK, f.kind, f.data)
}

const plainText = "text/plain; charset=utf-8"

func answer(w http.ResponseWriter, r *http.Request, status int, kind string, body []byte) {
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		w.Write(body)
	}
}

// known reports whether a Host field is one by which this page is meant: the
// gateway's name, an address, or localhost, each with any port.
func (p *Page) known(host string) bool {
	name, port, ok := strings.Cut(host, ":")
	if strings.HasPrefix(host, "[") || strings.Count(host, ":") > 1 {
		if addr, err := netip.ParseAddrPort(host); err == nil {
			return addr.Addr().Zone() == ""
		}
		addr, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(host, "["), "]"))
		return err == nil && addr.Zone() == ""
	}
	if _, err := strconv.ParseUint(port, 10, 16); ok && err != nil {
		return false
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return true
	}
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	return name == "localhost" || p.own(name)
}

func (p *Page) own(name string) bool { return p.Host != "" && name == p.Host }

// stock returns the files of the present roots.
func (p *Page) stock() (*shelf, error) {
	roots := p.Roots()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.shelf == nil || !p.shelf.of(roots) {
		s, err := fill(roots)
		if err != nil {
			return nil, err
		}
		p.shelf = s
	}
	return p.shelf, nil
}

//go:embed style.css
var styles []byte

//go:embed trusted.css
var trusted []byte

//go:embed page.html
var pageHTML string

//go:embed page.txt
var pageText string

var (
	htmlPage = template.Must(template.New("page.html").Parse(pageHTML))
	textPage = texttemplate.Must(texttemplate.New("page.txt").Parse(pageText))
)

// A view is what the templates show.
type view struct {
	Roots  []rootView
	First  []*guide // for the device that asks
	Others []*guide
	Base   string // of commands: where the page is, with a slash at the end
	Host   string // of the check; "": it cannot be made
	Why    string // it cannot
	Secure bool   // the page itself came over TLS
}

// A part is one guide within a view.
type part struct {
	Guide *guide
	First bool // it is for this device
	View  *view
}

// With makes a part of the view.
func (v *view) With(g *guide, first bool) part { return part{g, first, v} }

// Here puts into a command where the page is.
func (v *view) Here(command string) string { return strings.ReplaceAll(command, "BASE/", v.Base) }

// Wrap breaks a step into lines for a terminal.
func (v *view) Wrap(text string) string {
	var b strings.Builder
	column := 0
	for word := range strings.FieldsSeq(text) {
		switch {
		case column == 0:
		case column+len(word) > 80:
			b.WriteString("\n    ")
			column = 0
		default:
			b.WriteString(" ")
		}
		b.WriteString(word)
		column += len(word) + 1
	}
	return b.String()
}

// front shows the page, as HTML to who asks for that, else as text.
func (p *Page) front(w http.ResponseWriter, r *http.Request, s *shelf, at string) {
	w.Header().Set("Vary", "Accept, User-Agent, Sec-CH-UA-Platform")
	v := &view{Roots: s.roots, Host: p.Host, Secure: r.TLS != nil, Base: "http://" + r.Host + at}
	v.First, v.Others = s.sort(detect(r.Header))
	if p.Host != "" {
		v.Base = "http://" + p.Host + "/" // where devices find it
	}
	if p.Host == "" {
		v.Why = "the gateway has no name of its own (admin.onboarding)"
	} else if p.Check != nil {
		if err := p.Check(); err != nil {
			v.Host, v.Why = "", err.Error()
		}
	}
	var b bytes.Buffer
	accept := strings.ToLower(strings.Join(r.Header.Values("Accept"), ","))
	kind, err := plainText, error(nil)
	if strings.Contains(accept, "text/html") {
		kind = "text/html; charset=utf-8"
		err = htmlPage.Execute(&b, v)
	} else {
		err = textPage.Execute(&b, v)
	}
	if err != nil {
		slog.Error("the onboarding page cannot be shown", "err", err)
		answer(w, r, http.StatusInternalServerError, plainText, []byte("framegate: the page cannot be shown, see the log of the gateway\n"))
		return
	}
	answer(w, r, http.StatusOK, kind, b.Bytes())
}
