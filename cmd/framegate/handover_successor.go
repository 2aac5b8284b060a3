package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"framegate/intercept"
)

// How long a successor may take to be prepared, with all its files to read, and
// then to open the log, for which every record waits.
var (
	prepareTimeout = 60 * time.Second // tests shorten it
	takeTimeout    = 20 * time.Second
)

// A successor is the process that takes over from this one.
type successor struct {
	process *os.Process
	words   *wordStream
	records net.Conn
	said    *lastWords
	build   string

	exited chan struct{}
	exit   error // valid once exited is closed
}

// startedFrom is where the program of this process is, by the name that it was
// started by: what an upgrade puts there is another file, or a link to one.
func startedFrom() string {
	path, err := exec.LookPath(os.Args[0])
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		path, _ = os.Executable()
	}
	return path
}

// handOver starts a successor and gives it the log. With an error, which says
// why, everything is as it was before.
func (gw *gateway) handOver(ctx context.Context) (*successor, error) {
	s, err := gw.startSuccessor()
	if err != nil {
		return nil, err
	}
	// To give up is to end it, which whoever waits for its word will see.
	stop := context.AfterFunc(ctx, func() { s.process.Kill() })
	yielded := false
	err = func() (err error) {
		if s.build, err = s.words.expect(sayPrepared, prepareTimeout); err != nil {
			return err
		}
		if err := gw.log.Yield(); err != nil {
			return err
		}
		yielded = true
		s.words.say(sayYours)
		_, err = s.words.expect(sayReady, takeTimeout)
		return err
	}()
	if !stop() && err == nil {
		err = ctx.Err() // it has been killed
	}
	if err == nil {
		if err = gw.log.Forward(s.records); err != nil {
			err = fmt.Errorf("the log: %w", err)
		}
	}
	if err == nil {
		gw.stderr.Write(s.said.all())
		return s, nil
	}
	err = s.failed(ctx, err)
	if yielded {
		if e := gw.log.Retake(); e != nil {
			err = errors.Join(err, fmt.Errorf("the log: %w", e))
		}
	}
	return nil, err
}

// startSuccessor starts the program anew, with the arguments of this process,
// its listeners, and streams for words and records.
func (gw *gateway) startSuccessor() (_ *successor, err error) {
	var files []*os.File // which are copies, ours and theirs
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	words, theirWords, err := socketPair()
	if err != nil {
		return nil, err
	}
	files = append(files, words, theirWords)
	records, theirRecords, err := socketPair()
	if err != nil {
		return nil, err
	}
	files = append(files, records, theirRecords)
	said, console, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	files = append(files, console)
	theirs := []*os.File{theirWords, theirRecords, os.Stderr}
	for _, socket := range gw.sockets {
		f, err := intercept.Descriptor(socket.ln)
		if err != nil {
			said.Close()
			return nil, err
		}
		files = append(files, f)
		theirs = append(theirs, f)
	}
	s := &successor{said: listenTo(said), exited: make(chan struct{})}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if s.words, err = newWordStream(words); err != nil {
		return nil, err
	}
	if s.records, err = net.FileConn(records); err != nil {
		return nil, err
	}
	will := bequest{Version: handoverVersion, Config: gw.source.read, Sockets: gw.sockets}
	if will.Audit, err = filepath.Abs(gw.config.Audit.Dir); err != nil {
		return nil, err
	}
	text, err := json.Marshal(will)
	if err != nil {
		return nil, err
	}
	cmd := &exec.Cmd{
		Path: gw.program, Args: os.Args, ExtraFiles: theirs,
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: console,
		// The watchdog of systemd is for who is told by WATCHDOG_PID, or for
		// whoever reads this.
		Env: append(slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "WATCHDOG_PID=") }),
			handoverVar+"="+string(text)),
	}
	if err = keepPrivileges(cmd); err != nil {
		return nil, err
	}
	if err = cmd.Start(); err != nil {
		return nil, err
	}
	s.process = cmd.Process
	go func() {
		s.exit = cmd.Wait()
		close(s.exited)
	}()
	return s, nil
}

// close ends the streams.
func (s *successor) close() {
	if s.words != nil {
		s.words.conn.Close()
	}
	if s.records != nil {
		s.records.Close()
	}
}

// failed ends the process, and returns err with how that ended and what it had
// to say.
func (s *successor) failed(ctx context.Context, err error) error {
	early := false
	select {
	case <-s.exited:
		early = true
	case <-time.After(time.Second): // of one that is about to
	}
	s.process.Kill()
	<-s.exited
	s.close()
	if ctx.Err() != nil {
		return errors.New("given up, since the gateway stops")
	}
	if early && s.exit != nil {
		err = fmt.Errorf("%w: %v", err, s.exit)
	}
	if said := strings.TrimSpace(string(s.said.all())); said != "" {
		err = fmt.Errorf("%w%s%s", err, lastWordsAre, said)
	}
	return err
}

// lastWordsAre is between an error and what the process had to say.
const lastWordsAre = "; its last words:\n"

// lastWords are the last bytes that a process wrote.
type lastWords struct {
	mu    sync.Mutex
	text  []byte
	ended chan struct{}
	from  *os.File
}

// mostWords is how many of them are kept.
const mostWords = 8 << 10

// listenTo keeps the last of what comes from f, and closes it.
func listenTo(f *os.File) *lastWords {
	l := &lastWords{ended: make(chan struct{}), from: f}
	go func() {
		defer close(l.ended)
		defer f.Close()
		b := make([]byte, mostWords)
		for {
			n, err := f.Read(b)
			l.mu.Lock()
			l.text = append(l.text, b[:n]...)
			l.text = l.text[max(0, len(l.text)-mostWords):]
			l.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return l
}

// all returns what came until the process closed its end, which it has done or
// is about to.
func (l *lastWords) all() []byte {
	l.from.SetReadDeadline(time.Now().Add(time.Second)) // what it has started may have it open
	<-l.ended
	return l.text
}

// handoverTimeout is how long the connections of a process live on that another
// one has taken over from.
func (c *config) handoverTimeout() time.Duration {
	return cmp.Or(c.Limits.HandoverTimeout, c.Limits.DrainTimeout)
}
