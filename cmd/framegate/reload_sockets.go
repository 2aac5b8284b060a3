package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"syscall"

	"framegate/intercept"
)

// A place is an address of the configuration that a gateway listens on.
type place struct{ name, addr string } // name is that of the socket, see inherited

// keyOf has the key by the name of a socket.
var keyOf = map[string]string{
	redirectedSocket: "intercept.listen", explicitSocket: "intercept.explicit", adminSocket: "admin.listen",
}

func (c *config) places() (all []place) {
	for _, addr := range c.Intercept.Listen {
		all = append(all, place{redirectedSocket, addr})
	}
	if addr := c.Intercept.Explicit; addr != "" {
		all = append(all, place{explicitSocket, addr})
	}
	if addr := c.Admin.Listen; addr != "" {
		all = append(all, place{adminSocket, addr})
	}
	return all
}

// use says what the socket is for, whatever systemd calls it.
func (s inherited) use() string {
	if s.Name == explicitSocket || s.Name == adminSocket {
		return s.Name
	}
	return redirectedSocket
}

// has reports whether the gateway listens on p: systemd's sockets stand for their
// key, whatever its value is.
func (gw *gateway) has(p place) bool {
	return slices.ContainsFunc(gw.sockets, func(s inherited) bool {
		return s.use() == p.name && (s.Addr == p.addr || s.Addr == "")
	})
}

// bindNew binds the addresses of c that the gateway does not listen on. With an
// error it has bound none.
func (gw *gateway) bindNew(c *config) (bound []inherited, err error) {
	defer func() {
		if err != nil {
			for _, s := range bound {
				s.ln.Close()
			}
			bound = nil
		}
	}()
	for _, p := range c.places() {
		if gw.has(p) || slices.ContainsFunc(bound, func(s inherited) bool { return s.Name == p.name && s.Addr == p.addr }) {
			continue
		}
		listen := intercept.Listen
		if p.name == adminSocket {
			listen = listenAdmin
		}
		ln, err := listen(context.Background(), p.addr)
		if errors.Is(err, syscall.EADDRINUSE) && gw.holds(p.addr) {
			return bound, usage(fmt.Errorf("%s: %s: this gateway listens on the port by another address", keyOf[p.name], p.addr)).
				hint("change the port as well, or restart the gateway")
		}
		if err != nil {
			return bound, fmt.Errorf("%s: %w", keyOf[p.name], err)
		}
		bound = append(bound, inherited{Name: p.name, Addr: p.addr, ln: ln})
		if p.name == redirectedSocket && c.Intercept.Mode == "tproxy" {
			if err := intercept.Transparent(ln); err != nil {
				return bound, err
			}
		}
	}
	return bound, nil
}

// holds reports whether the gateway has a socket with the port of addr.
func (gw *gateway) holds(addr string) bool {
	_, port, _ := net.SplitHostPort(addr)
	return slices.ContainsFunc(gw.sockets, func(s inherited) bool {
		_, p, err := net.SplitHostPort(s.ln.Addr().String())
		return err == nil && p == port
	})
}

// exchangeSockets stops accepting where the configuration in force no longer says
// so, and begins on what was bound for it. What was accepted before goes on.
func (s *service) exchangeSockets(bound []inherited, changed changes) {
	gw := s.gateway
	wanted := gw.config.places()
	for _, socket := range gw.sockets {
		if socket.Addr == "" && changed.in(keyOf[socket.use()]) {
			gw.console.Warn("the socket of systemd stands for the key and stays", "key", keyOf[socket.use()], "addr", socket.ln.Addr().String())
		}
	}
	gw.sockets = slices.DeleteFunc(gw.sockets, func(socket inherited) bool {
		if s.next != nil || socket.Addr == "" || slices.ContainsFunc(wanted, func(p place) bool { return p.name == socket.use() && p.addr == socket.Addr }) {
			return false
		}
		gw.console.Info("no longer listening", "addr", socket.ln.Addr().String())
		switch socket.use() {
		case adminSocket:
			s.closing.Go(gw.admin.finish)
			gw.admin = nil
			return true
		case explicitSocket:
			gw.explicit = nil
		default:
			gw.listeners = slices.DeleteFunc(gw.listeners, func(ln net.Listener) bool { return ln == socket.ln })
		}
		s.stops[socket.ln]()
		delete(s.stops, socket.ln)
		return true
	})
	for _, socket := range bound {
		gw.use(socket) // has no error for one of each
		switch socket.Name {
		case adminSocket:
			gw.admin.serve()
			gw.console.Info("listening", "addr", socket.ln.Addr().String(), "mode", "admin")
		case explicitSocket:
			s.serveExplicit(socket.ln)
		default:
			s.serveRedirected(socket.ln)
		}
	}
}
