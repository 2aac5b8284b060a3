package soak

import (
	"bufio"
	"bytes"
	"crypto/sha1"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"framegate/frames"
	"framegate/internal/lab/wire"
)

// What a client asks of a server, in a message of text.
const (
	askReset = "SOAK-RESET" // break the connection off
	askHalf  = "SOAK-HALF"  // end your direction, without Close, and hear the rest
	askLeave = "SOAK-LEAVE" // begin the closing handshake
	askFlood = "SOAK-FLOOD" // send more than all sockets on the way can hold
)

const (
	floodCount = 128
	floodSize  = 64 << 10
	lateCount  = 3 // messages of a server after the end of the client's direction
)

// serve is the role of a server: a process of its own, so that it can be killed.
// It answers every message with another one and tells its ledger on standard
// output, each line before or after what it speaks of, see [end].
func serve(addrs []string, certificate string) error {
	cert, err := tls.LoadX509KeyPair(certificate, certificate)
	if err != nil {
		return err
	}
	config := &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"http/1.1"}}
	var mu sync.Mutex
	note := func(what string, id string, text any) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Printf("%s %s %v\n", what, id, text)
	}
	for _, addr := range addrs {
		ln, err := net.Listen("tcp", addr)
		if err != nil {
			return err
		}
		go func() {
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				go converse(c.(*net.TCPConn), config, note)
			}
		}()
	}
	fmt.Println("ready")
	io.Copy(io.Discard, os.Stdin)
	return nil
}

// converse serves one connection.
func converse(tcp *net.TCPConn, config *tls.Config, note func(what, id string, text any)) {
	e := &end{Conn: tls.Server(tcp, config), tcp: tcp}
	defer tcp.Close()
	e.in = bufio.NewReader(e.Conn)
	r, err := http.ReadRequest(e.in)
	if err != nil {
		return
	}
	id := strings.TrimPrefix(r.URL.Path, "/")
	e.noteSent = func(s sum) { note("sent", id, s) }
	sum := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	answer := "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " +
		base64.StdEncoding.EncodeToString(sum[:]) + "\r\n"
	if r.Header.Get("Sec-WebSocket-Extensions") == compress {
		answer += "Sec-WebSocket-Extensions: " + compress + "\r\n"
		e.deflate = wire.NewDeflater(true, 0)
	}
	note("open", id, "")
	if _, err := io.WriteString(e, answer+"\r\n"); err != nil {
		note("end", id, plain(err))
		return
	}
	note("end", id, e.answer(func(m []byte) { note("got", id, sumOf(m)) }))
}

// answer answers until the end, and says what that was.
func (e *end) answer(got func([]byte)) string {
	ended := false // our direction is
	for {
		op, m, err := e.receive()
		if err != nil {
			if plain(err) == endEOF && !ended {
				for range lateCount { // the other direction goes on
					e.send(frames.Text, randomText(200), 1, 0)
				}
			}
			e.bye()
			return plain(err)
		}
		switch op {
		case frames.Ping:
			e.send(frames.Pong, m, 1, 0)
			continue
		case frames.Pong:
			continue
		case frames.Close:
			code, _, _ := frames.ParseClose(m)
			if !ended {
				e.send(frames.Close, m, 1, 0)
			}
			e.bye()
			return closedBy(code)
		}
		if got(m); ended {
			continue
		}
		switch string(bytes.TrimSpace(m)) {
		case askReset:
			e.reset()
			return askReset
		case askHalf:
			e.halfClose()
			ended = true
			continue
		case askLeave:
			e.sendClose(leaving)
			ended = true
			continue
		case askFlood:
			for range floodCount {
				if err := e.send(frames.Binary, randomText(floodSize), 1+rand.IntN(3), 0); err != nil {
					break
				}
			}
			continue
		}
		// An answer of about the same size; what a rule looks for does not come back.
		if err := e.send(op, randomText(len(m)), 1+rand.IntN(4), 0); err != nil {
			time.Sleep(10 * time.Millisecond) // receive tells why
		}
	}
}

// leaving is the code with which servers close.
const leaving = frames.Code(4000)

// randomText makes a message that no other one is equal to, with something in
// it for a compressor.
func randomText(size int) []byte {
	b := make([]byte, 0, size+24)
	b = fmt.Appendf(b, "%016x ", rand.Uint64())
	for len(b) < size {
		b = fmt.Appendf(b, "%s%x ", words[rand.IntN(len(words))], rand.Uint32N(1<<12))
	}
	return b[:max(size, 17)]
}

var words = strings.Fields("the gateway passes on what it was given and says so in a log that others can read")
