package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"
)

// An upgrade hands the listeners and the log to a new process, which runs what
// is then at the path of the program. The two have a stream for each other, and
// say on it, a line each:
//
//	new   prepared BUILD  all that can be checked is, and the listeners are there
//	old   yours           the log is nobody's
//	new   ready           the log is mine, and I accept connections
//	old   main            I accept no more, and systemd knows you
//	new   reload          as SIGHUP: your connections follow the policy, too
//	new   stop            as SIGTERM: end them within limits.drain_timeout
//	new   soon            end them now, spread over limits.drain_spread
//	new   cut             end them at once
//
// The last four come at any time while the old process has connections, and its
// end of the stream closes when it has none. Until "ready" the end of either
// process is the end of the upgrade, and the old one goes on as if nothing had
// been. The records of the old process have a stream of their own, see
// [audit.Log.Forward].
const (
	sayPrepared = "prepared"
	sayYours    = "yours"
	sayReady    = "ready"
	sayMain     = "main"
	sayReload   = "reload"
	sayStop     = "stop"
	saySoon     = "soon"
	sayCut      = "cut"
)

// handoverVar tells a process that it is to take over, and from what: a [bequest]
// as JSON. Its descriptors begin with those named here; the sockets follow.
const (
	handoverVar     = "FRAMEGATE_HANDOVER"
	handoverVersion = 1

	controlFD = 3 // the stream of words
	recordsFD = 4 // the stream of records
	consoleFD = 5 // what stderr is once the upgrade is done
	socketFD  = 6 // the first socket
)

// A bequest is what a process gets from the one before it.
type bequest struct {
	Version int         `json:"version"`
	Audit   string      `json:"audit"`            // the directory of the log
	Config  bool        `json:"config,omitempty"` // a configuration was read, and is to be there
	Sockets []inherited `json:"sockets"`
}

// An inherited is a listener that somebody else has bound, and what for.
type inherited struct {
	Name string `json:"name"`           // explicitSocket, adminSocket, or any other for redirected connections
	Addr string `json:"addr,omitempty"` // as it is configured; "": systemd has bound it
	ln   net.Listener
}

// A wordStream is the stream of words between two processes.
type wordStream struct {
	conn net.Conn
	in   *bufio.Reader
}

// newWordStream makes one of a copy of f.
func newWordStream(f *os.File) (*wordStream, error) {
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	return &wordStream{c, bufio.NewReaderSize(c, 4096)}, nil
}

// say says one line. The other process may be gone, which who reads will see.
func (s *wordStream) say(words ...string) {
	s.conn.SetWriteDeadline(time.Now().Add(time.Second))
	io.WriteString(s.conn, strings.Join(words, " ")+"\n")
}

// hear reads one line, the word and what is behind it.
func (s *wordStream) hear() (word, rest string, err error) {
	line, err := s.in.ReadSlice('\n')
	if err != nil {
		return "", "", err
	}
	word, rest, _ = strings.Cut(strings.TrimSuffix(string(line), "\n"), " ")
	return word, rest, nil
}

// expect reads the line that begins with word.
func (s *wordStream) expect(word string, timeout time.Duration) (rest string, err error) {
	if timeout > 0 {
		s.conn.SetReadDeadline(time.Now().Add(timeout))
		defer s.conn.SetReadDeadline(time.Time{})
	}
	got, rest, err := s.hear()
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "", fmt.Errorf("not %s within %v", word, timeout)
	case err != nil:
		return "", fmt.Errorf("ended before it was %s", word)
	case got != word:
		return "", fmt.Errorf("said %q, expected %q", got, word)
	}
	return rest, nil
}

// listen calls hear for each word, and returns when the other process is gone.
func (s *wordStream) listen(hear func(word string)) {
	for {
		word, _, err := s.hear()
		if err != nil {
			return
		}
		hear(word)
	}
}
