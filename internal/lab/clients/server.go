package clients

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
)

// ServerOptions say where a real server listens, with TLS.
type ServerOptions struct {
	Addresses   []string `json:"addresses"`
	Port        uint16   `json:"port"`
	Certificate string   `json:"certificate"` // a PEM file
	Key         string   `json:"key"`         // a PEM file, PKCS #8
}

// A Served is one connection as a real server experienced it.
type Served struct {
	Path       string   `json:"path"`
	Extensions string   `json:"extensions"` // of its answer
	Heard      []string `json:"heard"`      // the SHA-256 of each message, in hex
	Close      *Closing `json:"close"`      // by the client
	Error      string   `json:"error"`      // also of what looks like JSON and is none
}

// A Server is a real server, which sends back what it gets.
type Server struct {
	cmd    *exec.Cmd
	cancel context.CancelFunc
	stderr bytes.Buffer

	mu      sync.Mutex
	served  map[string]Served
	changed chan struct{} // closed and replaced with each news
	ended   chan struct{}
}

// NodeServer runs the server of the ws package until ctx ends or Close.
func (h Host) NodeServer(ctx context.Context, o ServerOptions) (*Server, error) {
	return h.serve(ctx, o, "node", "node/server.js")
}

// PythonServer runs the server of the websockets library until ctx ends or
// Close.
func (h Host) PythonServer(ctx context.Context, o ServerOptions) (*Server, error) {
	return h.serve(ctx, o, "/usr/bin/python3", "python/server.py")
}

// serve returns when the server listens.
func (h Host) serve(ctx context.Context, o ServerOptions, interpreter, script string) (*Server, error) {
	argument, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	dir, err := scripts()
	if err != nil {
		return nil, err
	}
	s := &Server{served: make(map[string]Served), changed: make(chan struct{}), ended: make(chan struct{})}
	ctx, s.cancel = context.WithCancel(ctx)
	s.cmd = h.Command(ctx, interpreter, filepath.Join(dir, script), string(argument))
	s.cmd.Env = append(os.Environ(), "HOME="+h.Home)
	s.cmd.Stderr = &s.stderr
	stdout, err := s.cmd.StdoutPipe()
	if err == nil {
		err = s.cmd.Start()
	}
	if err != nil {
		s.cancel()
		return nil, err
	}
	go s.listen(stdout)
	if _, err = s.Wait(ctx, ""); err != nil {
		s.Close()
		return nil, fmt.Errorf("%s: %w: %s", script, err, strings.TrimSpace(s.stderr.String()))
	}
	return s, nil
}

// listen takes down what the server says. Its first line, which says that it
// listens, has no path.
func (s *Server) listen(stdout io.Reader) {
	defer close(s.ended)
	for lines := json.NewDecoder(stdout); ; {
		var served Served
		if lines.Decode(&served) != nil {
			break
		}
		s.mu.Lock()
		s.served[served.Path] = served
		close(s.changed)
		s.changed = make(chan struct{})
		s.mu.Unlock()
	}
	s.cancel() // one that cannot be understood need not go on
	s.cmd.Wait()
}

// Wait waits until a connection for path has ended.
func (s *Server) Wait(ctx context.Context, path string) (Served, error) {
	for {
		s.mu.Lock()
		served, ok := s.served[path]
		changed := s.changed
		s.mu.Unlock()
		if ok {
			return served, nil
		}
		select {
		case <-ctx.Done():
			return served, ctx.Err()
		case <-s.ended:
			return served, errors.New("the server has ended")
		case <-changed:
		}
	}
}

// Close ends the server and waits for that.
func (s *Server) Close() {
	s.cancel()
	<-s.ended
}
