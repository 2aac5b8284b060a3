package main

import (
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"
)

// newAdmin is newAdmin for this gateway.
func (gw *gateway) newAdmin(ln net.Listener) *admin {
	if ln == nil {
		return nil
	}
	if a, ok := ln.Addr().(*net.TCPAddr); ok && !a.IP.IsLoopback() {
		gw.console.Warn("the admin port can be reached from other machines, and asks nobody who they are: it has totals and the ids of rules, no hosts and no clients; a firewall or admin.listen = \"unix:PATH\" keeps it private",
			"addr", a.String())
	}
	return newAdmin(ln, gw.ready, gw.page, gw.metrics(), gw.config.Admin.Profile)
}

// A hostGuard answers only who calls the port by an address, as localhost or by
// the gateway's own name. A page in a browser that has its own name point here
// (DNS rebinding) would otherwise read what the browser's user may.
type hostGuard struct {
	handler http.Handler
	own     string // "": none
	next    atomic.Int64
	muted   atomic.Int64
}

// guardEvery is how far apart two lines about refused requests are: anybody can
// cause them.
const guardEvery = time.Second

func (g *hostGuard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if g.knows(r.Host) {
		g.handler.ServeHTTP(w, r)
		return
	}
	if now, next := time.Now().UnixNano(), g.next.Load(); now >= next && g.next.CompareAndSwap(next, now+int64(guardEvery)) {
		slog.Warn("the admin port was called by a name that is not its own", "host", printable(r.Host[:min(len(r.Host), 253)]), "client", r.RemoteAddr, "more", g.muted.Swap(0))
	} else {
		g.muted.Add(1)
	}
	names := "localhost"
	if g.own != "" {
		names += " or " + g.own
	}
	http.Error(w, "framegate: call this port by an IP address, or as "+names, http.StatusForbidden)
}

// knows reports whether host, a Host header, may be ours. Every browser sends
// one, and so none at all is nobody's trick.
func (g *hostGuard) knows(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if host == "" || host == "localhost" || host == g.own {
		return true
	}
	_, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil
}

// profiles adds what `go tool pprof` reads. It shows the inside of the process:
// who may open the socket, which is the gateway's user alone, may see that anyway.
func profiles(mux *http.ServeMux) {
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
}
