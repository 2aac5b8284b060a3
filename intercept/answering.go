package intercept

import (
	"context"
	"net"
	"net/http"
	"sync"
)

// Answering counts the connections of an [http.Server], so that it can end
// without a client noticing. [http.Server.Shutdown] closes connections that were
// accepted and whose request is not read yet: for their clients nobody was there.
type Answering struct{ conns sync.WaitGroup }

// ConnState is that of the server.
func (a *Answering) ConnState(_ net.Conn, now http.ConnState) {
	switch now {
	case http.StateNew:
		a.conns.Add(1)
	case http.StateClosed, http.StateHijacked:
		a.conns.Done()
	}
}

// Finish has srv, whose Serve is back since its listener was closed, close idle
// connections, and each other one after its answer. It returns when there are none,
// or ctx is done. Hijacked ones are not the server's any more.
func (a *Answering) Finish(ctx context.Context, srv *http.Server) {
	srv.SetKeepAlivesEnabled(false)
	answered := make(chan struct{})
	go func() {
		a.conns.Wait()
		close(answered)
	}()
	select {
	case <-answered:
	case <-ctx.Done():
	}
}
