package capture

import (
	"net"
	"net/netip"
	"net/url"
	"strings"
	"time"
)

// A handshake is what an entry says of its connection.
type handshake struct {
	messages                 int
	url                      string
	host, authority, origin  string
	subprotocol, address, at string
}

func (s *handshake) field(h *har, key string) error {
	switch key {
	case "_webSocketMessages":
		return h.array(func() error {
			s.messages++
			return h.skip()
		})
	case "serverIPAddress":
		return h.decode(&s.address)
	case "startedDateTime":
		return h.decode(&s.at)
	case "request":
		return h.object(func(key string) error {
			switch key {
			case "url":
				return h.decode(&s.url)
			case "headers":
				return h.headers(map[string]*string{
					"host": &s.host, ":authority": &s.authority, "origin": &s.origin,
				})
			}
			return h.skip()
		})
	case "response":
		return h.object(func(key string) error {
			if key == "headers" {
				return h.headers(map[string]*string{"sec-websocket-protocol": &s.subprotocol})
			}
			return h.skip()
		})
	}
	return h.skip()
}

// headers reads the headers that are wanted, by their names in lower case.
func (h *har) headers(wanted map[string]*string) error {
	return h.array(func() error {
		var header struct{ Name, Value string }
		if err := h.decode(&header); err != nil {
			return err
		}
		if value := wanted[strings.ToLower(header.Name)]; value != nil {
			*value = header.Value
		}
		return nil
	})
}

// conn takes what is well-formed; the rest stays unknown.
func (s *handshake) conn() *Conn {
	c := &Conn{Host: s.host, Origin: s.origin, Subprotocol: s.subprotocol}
	c.Start, _ = time.Parse(time.RFC3339Nano, s.at)
	if c.Host == "" {
		c.Host = s.authority // HTTP/2, RFC 8441
	}
	u, err := url.Parse(s.url)
	if err != nil {
		return c
	}
	c.Path = u.EscapedPath()
	if c.Path == "" {
		c.Path = "/"
	}
	if c.Host == "" {
		c.Host = u.Host
	}
	port := u.Port()
	switch {
	case port != "":
	case u.Scheme == "wss" || u.Scheme == "https":
		port = "443"
	default:
		port = "80"
	}
	address := strings.Trim(s.address, "[]") // so Chrome writes IPv6
	c.Server, _ = netip.ParseAddrPort(net.JoinHostPort(address, port))
	return c
}
