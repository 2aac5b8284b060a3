package soak

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"framegate/frames"
	"framegate/internal/lab"
	"framegate/internal/lab/wire"
)

// A conversation is one connection of a client, as its side of the ledger has it.
type conversation struct {
	id         string // its path, too
	local      string // the client's address
	kind       *kind
	host       string
	secure     *tls.Config
	compressed bool
	stall      time.Duration // how long it stalls, at most

	begun, ended time.Time
	upgraded     bool
	outcome      string // the receiver's, as long as there is one
	fault        string // what the client itself made of it

	mu        sync.Mutex
	sent, got []sum
	withheld  map[sum]bool // what a rule keeps back

	end   *end
	news  chan struct{} // has room for one: something was received
	pongs chan string
	done  chan struct{} // the receiver has ended
	over  <-chan struct{}
}

// A kind is what a client does with its connection, and how that may end if
// nothing happens to it.
type kind struct {
	name    string
	act     func(*conversation, context.Context) // once the WebSocket is open
	expect  []string
	orderly [2]bool                       // all that was sent is delivered; by frames.Direction
	share   int                           // of so many clients
	long    bool                          // lasts until the end of the load
	raw     func(*conversation, net.Conn) // in place of a WebSocket
}

var both = [2]bool{true, true}

var kinds = []kind{
	{name: "idle", act: (*conversation).idle, expect: []string{closedBy(1000)}, orderly: both, share: 20, long: true},
	{name: "silent", act: (*conversation).silent, expect: []string{closedBy(1000)}, orderly: both, share: 20, long: true},
	{name: "chat", act: (*conversation).chat, expect: []string{closedBy(1000), closedBy(leaving)}, orderly: both, share: 24},
	{name: "ping flood", act: (*conversation).flood, expect: []string{closedBy(1000)}, orderly: both, share: 4},
	{name: "reset by client", act: (*conversation).resetHere, expect: []string{"our reset"}, share: 4},
	{name: "reset by server", act: (*conversation).resetThere, expect: []string{endReset}, share: 4},
	{name: "half-close by client", act: (*conversation).halfHere, expect: []string{endEOF}, orderly: both, share: 4},
	{name: "half-close by server", act: (*conversation).halfThere, expect: []string{endEOF}, orderly: both, share: 4},
	{name: "stalled reader", act: (*conversation).stallReading, expect: []string{closedBy(1000)}, orderly: both, share: 2},
	{name: "stalled writer", act: (*conversation).stallWriting, expect: []string{closedBy(1000)}, orderly: both, share: 4},
	{name: "refused message", act: (*conversation).refused, expect: []string{closedBy(1008)}, share: 4},
	{name: "dropped message", act: (*conversation).dropped, expect: []string{closedBy(1000)}, orderly: both, share: 4},
	{name: "slow handshake", raw: (*conversation).slowly, expect: []string{"cut", "given up"}, share: 2},
}

// noteGot and news are the receiver's.
func (c *conversation) noteGot(m []byte) {
	c.mu.Lock()
	c.got = append(c.got, sumOf(m))
	c.mu.Unlock()
	select {
	case c.news <- struct{}{}:
	default:
	}
}

func (c *conversation) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.got)
}

// run is one connection from its beginning to its end.
func (c *conversation) run(ctx context.Context, n *lab.Net) {
	defer func() {
		if c.ended.IsZero() {
			c.ended = time.Now()
		}
	}()
	c.begun = time.Now()
	network := []string{"tcp4", "tcp6"}[rand.IntN(2)]
	conn, err := n.Dial(context.Background(), lab.Client, network, c.host+":443")
	if err != nil {
		c.outcome = handshake + plain(err)
		return
	}
	defer conn.Close()
	c.local = conn.LocalAddr().String()
	conn.SetDeadline(time.Now().Add(patience))
	c.over = ctx.Done()
	if c.kind.raw != nil {
		c.kind.raw(c, conn)
		return
	}
	if err := c.upgrade(conn); err != nil {
		c.outcome = handshake + plain(err)
		return
	}
	c.upgraded = true
	conn.SetDeadline(time.Time{}) // none of them may end by itself
	if c.kind.name != "stalled reader" {
		go c.receive()
	}
	c.kind.act(c, ctx)
	select {
	case <-c.done:
	case <-time.After(patience):
		c.end.tcp.Close()
		<-c.done
		c.outcome = endTimeout + ", " + c.outcome
	}
	if c.fault != "" {
		c.outcome = c.fault
	}
}

// upgrade opens the WebSocket.
func (c *conversation) upgrade(conn net.Conn) error {
	config := c.secure.Clone()
	config.ServerName = c.host
	e := &end{Conn: tls.Client(conn, config), tcp: conn.(*net.TCPConn), mask: true}
	e.in = bufio.NewReader(e.Conn)
	e.noteSent = func(s sum) {
		c.mu.Lock()
		c.sent = append(c.sent, s)
		c.mu.Unlock()
	}
	c.end = e
	head := "GET /" + c.id + " HTTP/1.1\r\nHost: " + c.host + "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
	if c.compressed {
		head += "Sec-WebSocket-Extensions: " + compress + "\r\n"
	}
	if _, err := io.WriteString(e, head+"\r\n"); err != nil {
		return err
	}
	r, err := http.ReadResponse(e.in, nil)
	if err != nil {
		return err
	}
	if r.StatusCode != 101 {
		return fmt.Errorf("status %d", r.StatusCode)
	}
	if c.compressed {
		e.deflate = wire.NewDeflater(true, 0)
	}
	return nil
}

// receive receives until the end and says what that was.
func (c *conversation) receive() {
	defer close(c.done)
	defer func() {
		if c.ended.IsZero() {
			c.ended = time.Now()
		}
	}()
	for {
		op, m, err := c.end.receive()
		if err != nil {
			if c.outcome == "" {
				c.outcome = plain(err)
			}
			return
		}
		switch op {
		case frames.Ping:
			c.end.send(frames.Pong, m, 1, 0)
		case frames.Pong:
			select {
			case c.pongs <- string(m):
			default:
			}
		case frames.Close:
			code, _, _ := frames.ParseClose(m)
			c.outcome, c.ended = closedBy(code), time.Now() // the answer may have to wait for a writer that stalls
			c.end.send(frames.Close, m, 1, 0)
			c.end.bye()
			return
		default:
			c.noteGot(m)
		}
	}
}

// say sends a message, of text or not, in up to so many frames.
func (c *conversation) say(m []byte) { c.end.send(frames.Text, m, 1+rand.IntN(5), 0) }

// hear waits until so many messages were received, or the end.
func (c *conversation) hear(n int) {
	late := time.After(patience)
	for c.count() < n {
		select {
		case <-c.news:
		case <-c.done:
			return
		case <-late:
			return
		}
	}
}

// wait waits, but no longer than the connection lasts.
func (c *conversation) wait(d time.Duration) (alive bool) {
	select {
	case <-c.done:
		return false
	case <-time.After(d):
		return true
	}
}

func between(a, b time.Duration) time.Duration { return a + rand.N(b-a) }

// size is most often small, and sometimes large.
func size() int {
	if rand.IntN(20) == 0 {
		return rand.IntN(200 << 10)
	}
	return rand.IntN(2 << rand.IntN(12))
}

func (c *conversation) talk(n int) {
	for range n {
		c.say(randomText(size()))
		if !c.wait(between(10*time.Millisecond, 400*time.Millisecond)) {
			return
		}
		select {
		case <-c.over: // come to the point
			return
		default:
		}
	}
}

func (c *conversation) chat(context.Context) {
	c.talk(5 + rand.IntN(25))
	if rand.IntN(2) == 0 {
		c.say([]byte(askLeave))
		return
	}
	c.end.sendClose(frames.NormalClosure)
}

// idle says nothing until the end of the load, but for a ping now and then.
func (c *conversation) idle(ctx context.Context) {
	for every := time.NewTicker(between(time.Second, 20*time.Second)); ; {
		select {
		case <-every.C:
			c.end.send(frames.Ping, []byte("alive?"), 1, 0)
			continue
		case <-c.pongs:
			continue
		case <-ctx.Done():
		case <-c.done:
		}
		every.Stop()
		break
	}
	c.farewell()
}

func (c *conversation) silent(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-c.done:
	}
	c.farewell()
}

func (c *conversation) farewell() {
	n := c.count()
	c.say(randomText(100))
	c.hear(n + 1)
	c.end.sendClose(frames.NormalClosure)
}

// flood sends bursts of pings, each of which has to be answered in order.
func (c *conversation) flood(context.Context) {
	for range 5 {
		for i := range 100 {
			c.end.send(frames.Ping, fmt.Append(nil, i), 1, 0)
		}
		for i := range 100 {
			select {
			case pong := <-c.pongs:
				if pong != strconv.Itoa(i) {
					c.fault = "pong " + pong + " in place of " + strconv.Itoa(i)
					c.end.reset()
					return
				}
			case <-c.done:
				return
			case <-time.After(patience):
				return
			}
		}
		if !c.wait(between(100*time.Millisecond, time.Second)) {
			return
		}
	}
	c.end.sendClose(frames.NormalClosure)
}

func (c *conversation) resetHere(context.Context) {
	c.talk(1 + rand.IntN(8))
	select {
	case <-c.done: // something else was faster
	default:
		c.fault = "our reset"
		c.end.reset()
	}
}

func (c *conversation) resetThere(context.Context) {
	c.talk(1 + rand.IntN(8))
	c.say([]byte(askReset))
}

func (c *conversation) halfHere(context.Context) {
	c.talk(1 + rand.IntN(8))
	c.end.halfClose()
}

func (c *conversation) halfThere(context.Context) {
	c.talk(1 + rand.IntN(8))
	c.say([]byte(askHalf))
	select {
	case <-c.done:
	case <-time.After(patience):
	}
	for range 2 {
		c.say(randomText(300))
	}
	c.end.halfClose()
}

// stallReading asks for more than the sockets can hold and then reads nothing.
func (c *conversation) stallReading(context.Context) {
	c.say([]byte(askFlood))
	time.Sleep(between(c.stall/4, c.stall))
	go c.receive()
	c.hear(floodCount)
	c.end.sendClose(frames.NormalClosure)
}

func (c *conversation) stallWriting(context.Context) {
	for range 2 {
		c.end.send(frames.Binary, randomText(size()), 3, between(c.stall/4, c.stall))
	}
	c.end.sendClose(frames.NormalClosure)
}

func (c *conversation) refused(context.Context) {
	c.talk(1 + rand.IntN(4))
	c.offend(refusedWord)
}

func (c *conversation) dropped(context.Context) {
	for range 3 {
		c.talk(1 + rand.IntN(3))
		c.offend(droppedWord)
	}
	c.talk(2)
	c.end.sendClose(frames.NormalClosure)
}

// offend sends a message that does not pass.
func (c *conversation) offend(word string) {
	m := slices.Concat(randomText(50), []byte(word))
	c.withheld[sumOf(m)] = true
	c.say(m)
}

// slowly begins a ClientHello and goes on with a byte now and then, until the
// gateway has had enough, or the load is over.
func (c *conversation) slowly(conn net.Conn) {
	hello := []byte{22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3}
	for i := 0; ; i = min(i+1, len(hello)-1) {
		if _, err := conn.Write(hello[i : i+1]); err != nil {
			c.outcome = "cut"
			return
		}
		select {
		case <-c.over:
			c.outcome = "given up"
			return
		case <-time.After(300 * time.Millisecond):
		}
		if time.Since(c.begun) > patience {
			c.outcome = endTimeout
			return
		}
	}
}

// A crowd is all clients.
type crowd struct {
	net    *lab.Net
	secure *tls.Config
	hosts  [2]string // of the server that stays, and the one that is killed
	stall  time.Duration
	count  atomic.Int64

	mu  sync.Mutex
	all []*conversation
}

// load keeps n clients busy until ctx is done, and returns when they have ended.
func (w *crowd) load(ctx context.Context, n int) {
	var plan []*kind
	for i := range kinds {
		for range kinds[i].share {
			plan = append(plan, &kinds[i])
		}
	}
	rand.Shuffle(len(plan), func(i, j int) { plan[i], plan[j] = plan[j], plan[i] })
	var clients sync.WaitGroup
	for i := range n {
		clients.Go(func() {
			time.Sleep(between(0, time.Second))
			for ctx.Err() == nil {
				w.one(ctx, plan[i%len(plan)], i%2)
				select {
				case <-ctx.Done():
				case <-time.After(between(100*time.Millisecond, time.Second)):
				}
			}
		})
	}
	clients.Wait()
}

func (w *crowd) one(ctx context.Context, k *kind, host int) {
	c := &conversation{
		id: fmt.Sprint("c", w.count.Add(1)), kind: k, host: w.hosts[host], secure: w.secure,
		compressed: rand.IntN(3) == 0, stall: w.stall,
		withheld: map[sum]bool{},
		news:     make(chan struct{}, 1), pongs: make(chan string, 256), done: make(chan struct{}),
	}
	w.mu.Lock()
	w.all = append(w.all, c)
	w.mu.Unlock()
	c.run(ctx, w.net)
	c.end, c.secure = nil, nil // what takes memory
}
