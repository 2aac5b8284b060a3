package intercept

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
)

// A connection that was accepted before the end gets its answer, though it asks
// only afterwards. One that is idle does not keep the server.
func TestAnswering(t *testing.T) {
	var open Answering
	states := make(chan http.ConnState, 10)
	srv := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "here") }),
		ConnState: func(c net.Conn, s http.ConnState) {
			open.ConnState(c, s)
			states <- s
		},
	}
	defer srv.Close()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go serveHTTP(srv, ln, served)
	dial := func() net.Conn {
		c, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		for s := range states {
			if s == http.StateNew {
				break
			}
		}
		return c
	}
	ask := func(c net.Conn) *http.Response {
		fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		answer, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		if body, err := io.ReadAll(answer.Body); err != nil || string(body) != "here" {
			t.Errorf("%q, %v", body, err)
		}
		return answer
	}
	idle := dial()
	ask(idle)
	for s := range states {
		if s == http.StateIdle {
			break
		}
	}
	late := dial()

	ln.Close()
	<-served
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		open.Finish(t.Context(), srv)
	}()
	if _, err := idle.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the idle one: %v", err)
	}
	if answer := ask(late); !answer.Close {
		t.Error("the late one is not told that its connection ends")
	}
	<-finished
}
