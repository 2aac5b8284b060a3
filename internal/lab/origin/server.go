package origin

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
)

// A Server serves any number of listeners. It owns them and the connections
// that they give it.
type Server struct {
	http *http.Server
	web  *http.ServeMux
	wg   sync.WaitGroup

	mu        sync.Mutex
	sessions  map[string]func(*Session) error
	listeners []net.Listener
	conns     []*Conn
	results   map[string][]byte
	changed   chan struct{} // closed and replaced when something above changes
	closed    bool
}

// New returns a server that listens nowhere yet.
func New() *Server {
	s := &Server{
		web:      http.NewServeMux(),
		sessions: make(map[string]func(*Session) error),
		results:  make(map[string][]byte),
		changed:  make(chan struct{}),
	}
	s.http = &http.Server{
		Handler:     s,
		ErrorLog:    log.New(io.Discard, "", 0),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) },
	}
	s.Handle("/echo", Echo)
	s.Handle("/deflate", Deflate)
	s.Handle("/replay", replay)
	s.Handle("/head", head)
	for name, f := range faults {
		s.Handle("/fault/"+name, f)
	}
	s.registerWeb()
	return s
}

type connKey struct{}

// Handle makes f speak for the server on requests for path that ask for an
// upgrade, or on all of them if path begins with /fault/. f gets a connection
// on which nothing was sent yet; it is closed in an orderly way after f.
func (s *Server) Handle(path string, f func(*Session) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sessions[path] = f
}

// HandleHTTP makes h answer ordinary requests for pattern, as http.ServeMux
// understands it.
func (s *Server) HandleHTTP(pattern string, h http.Handler) { s.web.Handle(pattern, h) }

// ServeTLS serves wss:// and https:// on ln, in the background, until Close.
func (s *Server) ServeTLS(ln net.Listener, config *tls.Config) {
	config = config.Clone()
	config.GetConfigForClient = noteHello
	s.serve(ln, config, s.http.Serve)
}

// ServePlain serves ws:// and http:// on ln, in the background, until Close.
func (s *Server) ServePlain(ln net.Listener) { s.serve(ln, nil, s.http.Serve) }

// Banner is what ServeBanner says.
const Banner = "220 mail.demo.test ready\r\n"

// ServeBanner serves a protocol in which the server speaks first: Banner, then
// nothing until the client has ended its direction, then everything that it
// sent.
func (s *Server) ServeBanner(ln net.Listener) {
	s.serve(ln, nil, func(ln net.Listener) error {
		for {
			c, err := ln.Accept()
			if err != nil {
				return err
			}
			s.wg.Go(func() {
				defer c.(*Conn).finish()
				if _, err := io.WriteString(c, Banner); err != nil {
					return
				}
				if said, err := io.ReadAll(c); err == nil {
					c.Write(said)
				}
			})
		}
	})
}

func (s *Server) serve(ln net.Listener, config *tls.Config, loop func(net.Listener) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		ln.Close()
		return
	}
	s.listeners = append(s.listeners, ln)
	s.wg.Go(func() { loop(&listener{ln, s, config}) })
}

// A listener accepts recorded connections. The TLS handshake happens with the
// first Read.
type listener struct {
	net.Listener
	server *Server
	config *tls.Config
}

func (l *listener) Accept() (net.Conn, error) {
	tcp, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := newConn(tcp, l.config)
	s := l.server
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		c.Close()
		return nil, net.ErrClosed
	}
	s.conns = append(s.conns, c)
	s.announce()
	return c, nil
}

// announce wakes whoever waits for a change. s.mu is held.
func (s *Server) announce() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// ServeHTTP takes every request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := r.Context().Value(connKey{}).(*Conn)
	f, ok := s.enter(c, r)
	if !ok {
		return
	}
	defer s.wg.Done()
	asked := strings.EqualFold(r.Header.Get("Upgrade"), "websocket")
	if f == nil || !asked && !strings.HasPrefix(r.URL.Path, "/fault/") {
		s.web.ServeHTTP(w, r)
		return
	}
	hijacked, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	session := &Session{Conn: hijacked.(*Conn), Request: r, r: rw.Reader}
	session.Head = lastHead(c.Received(), rw.Reader.Buffered(), r)
	defer session.finish()
	f(session)
}

// enter notes a request. After Close it refuses; otherwise the caller owes a
// wg.Done.
func (s *Server) enter(c *Conn, r *http.Request) (f func(*Session) error, ok bool) {
	c.mu.Lock()
	c.uris = append(c.uris, r.RequestURI)
	c.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, false
	}
	s.wg.Add(1)
	s.announce()
	return s.sessions[r.URL.Path], true
}

// lastHead cuts the head of request r out of what was received: all of that has
// been parsed, save the last bytes.
func lastHead(received []byte, unparsed int, r *http.Request) []byte {
	received = received[:len(received)-unparsed]
	start := bytes.LastIndex(received, []byte(r.Method+" "+r.RequestURI+" "))
	return received[max(start, 0):]
}

// Conns returns all connections accepted so far, oldest first.
func (s *Server) Conns() []*Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.conns)
}

// Find waits for a connection with a request whose target contains uri.
func (s *Server) Find(ctx context.Context, uri string) (*Conn, error) {
	var found *Conn
	err := s.wait(ctx, func() bool {
		for _, c := range s.conns {
			if slices.ContainsFunc(c.URIs(), func(u string) bool { return strings.Contains(u, uri) }) {
				found = c
			}
		}
		return found != nil
	})
	return found, err
}

// Result waits for the body that was posted to /result?run=ID.
func (s *Server) Result(ctx context.Context, run string) ([]byte, error) {
	var body []byte
	err := s.wait(ctx, func() (ok bool) {
		body, ok = s.results[run]
		return ok
	})
	return body, err
}

// wait waits until met, which is called with s.mu held.
func (s *Server) wait(ctx context.Context, met func() bool) error {
	for {
		s.mu.Lock()
		ok, changed := met(), s.changed
		s.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

// Close closes the listeners and every connection, and waits for their
// goroutines. The records stay. It may be called more than once.
func (s *Server) Close() error {
	s.mu.Lock()
	s.closed = true
	listeners, conns := s.listeners, s.conns
	s.listeners = nil
	s.mu.Unlock()
	var errs []error
	for _, ln := range listeners {
		errs = append(errs, ln.Close())
	}
	for _, c := range conns {
		c.Cut() // Close might wait for a peer that does not read its close_notify
	}
	s.http.Close()
	s.wg.Wait()
	return errors.Join(errs...)
}
