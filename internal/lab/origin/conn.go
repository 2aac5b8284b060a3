package origin

import (
	"crypto/tls"
	"io"
	"net"
	"slices"
	"sync"

	"framegate/internal/lab/wire"
)

// A Conn is one connection that a Server accepted, with its record.
type Conn struct {
	*wire.Conn

	once sync.Once
	done chan struct{}

	mu    sync.Mutex
	hello *tls.ClientHelloInfo
	uris  []string
}

// A helloConn leads from a ClientHello to the connection it came on.
type helloConn struct {
	net.Conn
	owner *Conn
}

func newConn(tcp net.Conn, config *tls.Config) *Conn {
	c := &Conn{done: make(chan struct{})}
	var over func(net.Conn) *tls.Conn
	if config != nil {
		over = func(tcp net.Conn) *tls.Conn { return tls.Server(helloConn{tcp, c}, config) }
	}
	c.Conn = wire.New(tcp, over)
	return c
}

// noteHello is a GetConfigForClient that changes nothing.
func noteHello(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	if h, ok := hello.Conn.(helloConn); ok {
		h.owner.mu.Lock()
		h.owner.hello = hello
		h.owner.mu.Unlock()
	}
	return nil, nil
}

// Hello returns what the client offered, or nil if no ClientHello came.
func (c *Conn) Hello() *tls.ClientHelloInfo {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.hello
}

// URIs returns the request targets seen on the connection, in order.
func (c *Conn) URIs() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.uris)
}

// Done is closed when the server has closed the connection.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Close closes the connection at once.
func (c *Conn) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() { close(c.done) })
	return err
}

// finish ends our direction, takes what the client still sends, and closes.
// To close with unread bytes would reset the connection, and the client might
// lose what we sent last.
func (c *Conn) finish() {
	c.CloseWrite()
	io.Copy(io.Discard, c)
	c.Close()
}
