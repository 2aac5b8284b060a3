package mitm

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"sync"

	"github.com/elazarl/goproxy"

	"framegate/mitm/chain"
)

// roundTrip is goproxy's way to the server.
func roundTrip(r *http.Request, _ *goproxy.ProxyCtx) (*http.Response, error) {
	x := r.Context().Value(flowKey{}).(*exchange)
	trace := r.Context().Value(traceKey{}).(*exchangeTrace)
	resp, err := x.transport.RoundTrip(r)
	trace.answered()
	var verify *chain.Error
	fault := x.conn.fault()
	status, reason := refusal(fault)
	switch {
	case err != nil && status != 0:
		trace.cut = fault
		resp := errorResponse(r, status, "framegate: "+reason)
		resp.Header.Set("Connection", "close")
		return resp, nil
	case err != nil:
		trace.cut = err
		if errors.As(err, &verify) {
			reason, _ := tlsReason(err)
			x.flow.tlsFail(reason, err)
		}
		return errorResponse(r, http.StatusBadGateway, "framegate: the server did not answer"), nil
	case resp.StatusCode < 200:
		// A 101 that nobody asked for, or no status at all: this never becomes
		// a tunnel.
		resp.Body.Close()
		trace.cut = fmt.Errorf("final status %d without being asked", resp.StatusCode)
		return errorResponse(r, http.StatusBadGateway, "framegate: the server switched protocols without being asked"), nil
	}
	resp.Body = &cutBody{resp.Body, trace}
	for _, name := range []string{"Date", "Content-Type"} { // net/http would make them up
		if _, ok := resp.Header[name]; !ok {
			resp.Header[name] = nil
		}
	}
	for _, value := range resp.Header["Connection"] {
		for name := range strings.SplitSeq(value, ",") {
			// "A server that sends a 426 response MUST send an Upgrade header
			// field" (RFC 9110, Section 7.8).
			if name = strings.Trim(name, " \t"); resp.StatusCode != http.StatusUpgradeRequired || !strings.EqualFold(name, "Upgrade") {
				resp.Header.Del(name)
			}
		}
	}
	resp.Header.Del("Connection")
	resp.Header.Del("Keep-Alive")
	return resp, nil
}

func errorResponse(r *http.Request, status int, text string) *http.Response {
	return goproxy.NewResponse(r, goproxy.ContentTypeText, status, text+"\n")
}

// cutBody notices when the body of an answer breaks off, which goproxy does
// not pass on.
type cutBody struct {
	io.ReadCloser
	trace *exchangeTrace
}

func (b *cutBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		b.trace.cut, b.trace.broken = err, true
	}
	return n, err
}

type traceKey struct{}

// exchangeTrace is what the round trip of one exchange tells its handler.
type exchangeTrace struct {
	w      http.ResponseWriter
	cut    error // why there is no answer, or not all of it
	broken bool  // the body of the answer broke off

	mu      sync.Mutex // the transport's goroutine may outlive the round trip
	interim bool       // interim answers may be passed on
	count   int        // of interim answers
}

// answered ends the time of interim answers.
func (t *exchangeTrace) answered() {
	t.mu.Lock()
	t.interim = false
	t.mu.Unlock()
}

// hooks pass interim answers such as 103 on as they come. 100 is the server's
// own business with us: the client gets its own when its body is read.
func (t *exchangeTrace) hooks() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		Got1xxResponse: func(code int, header textproto.MIMEHeader) error {
			t.mu.Lock()
			defer t.mu.Unlock()
			if t.count++; t.count > maxInterim {
				return errInterim
			}
			// RFC 9110, Section 15.2: "a server MUST NOT send a 1xx response to
			// an HTTP/1.0 client"
			if code == http.StatusContinue || !t.interim {
				return nil
			}
			h := t.w.Header()
			for k, v := range header {
				h[k] = v
			}
			t.w.WriteHeader(code)
			clear(h)
			return nil
		},
	}
}

// statusWriter remembers the status, and passes on at once, head included, what
// comes without a length: nobody knows what else its reader waits for.
type statusWriter struct {
	http.ResponseWriter
	status int
	stream bool
	failed error // of writing
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.stream = w.Header().Get("Content-Length") == ""
	w.ResponseWriter.WriteHeader(status)
	if w.stream {
		http.NewResponseController(w.ResponseWriter).Flush() // the first write fails if this does
	}
}

func (w *statusWriter) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p)
	if w.stream && err == nil {
		err = http.NewResponseController(w.ResponseWriter).Flush()
	}
	if err != nil {
		w.failed = err
	}
	return n, err
}

// Unwrap is for http.ResponseController.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
