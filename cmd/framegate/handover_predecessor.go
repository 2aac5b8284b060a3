package main

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"

	"framegate/audit"
	"framegate/intercept"
)

// A predecessor is the process that this one takes over from. A nil one is
// none, and its methods do nothing.
type predecessor struct {
	words   *wordStream
	records net.Conn // which is the log's once that is open
	console *os.File // what is to be our stderr
	sockets []inherited
	audit   string        // the directory of the log
	config  bool          // it has read a configuration
	gone    chan struct{} // closed once its last record is ours, or it has died
}

// inheritGateway finds out, once, whether this process was started to take
// over: the environment that tells of it is emptied.
func inheritGateway() (p *predecessor, err error) {
	text, ok := os.LookupEnv(handoverVar)
	if !ok {
		return nil, nil
	}
	os.Unsetenv(handoverVar)
	var will bequest
	if err := json.Unmarshal([]byte(text), &will); err != nil {
		return nil, fmt.Errorf("%s, which a gateway sets for its successor: %w", handoverVar, err)
	}
	if will.Version != handoverVersion {
		return nil, fmt.Errorf("the gateway that runs hands over by version %d, this one takes %d: restart it instead", will.Version, handoverVersion)
	}
	p = &predecessor{audit: will.Audit, config: will.Config, gone: make(chan struct{})}
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	words, err := inheritedFile(controlFD, "words")
	if err != nil {
		return nil, err
	}
	defer words.Close()
	if p.words, err = newWordStream(words); err != nil {
		return nil, err
	}
	records, err := inheritedFile(recordsFD, "records")
	if err != nil {
		return nil, err
	}
	defer records.Close()
	if p.records, err = net.FileConn(records); err != nil {
		return nil, err
	}
	if p.console, err = inheritedFile(consoleFD, "stderr"); err != nil {
		return nil, err
	}
	for i, s := range will.Sockets {
		f, err := inheritedFile(socketFD+i, s.Name)
		if err != nil {
			return nil, err
		}
		s.ln, err = net.FileListener(f) // a copy
		f.Close()
		if _, isUnix := s.ln.(*net.UnixListener); err == nil && !isUnix {
			s.ln, err = intercept.Inherit(s.ln)
		}
		if err != nil {
			return nil, fmt.Errorf("socket %q %s of the gateway that runs: %w", s.Name, s.Addr, err)
		}
		p.sockets = append(p.sockets, s)
	}
	return p, nil
}

// hadConfig reports whether the other process has read a configuration, which to
// be without is a mistake then.
func (p *predecessor) hadConfig() bool { return p != nil && p.config }

// take returns the listener for an address of the configuration, nil if there
// is none.
func (p *predecessor) take(addr string) net.Listener {
	if p == nil {
		return nil
	}
	i := slices.IndexFunc(p.sockets, func(s inherited) bool { return s.Addr == addr })
	if i < 0 {
		return nil
	}
	s := p.sockets[i]
	p.sockets = slices.Delete(p.sockets, i, i+1)
	return s.ln
}

// fromSystemd takes those that systemd has bound.
func (p *predecessor) fromSystemd() (list []inherited) {
	if p == nil {
		return nil
	}
	p.sockets = slices.DeleteFunc(p.sockets, func(s inherited) bool {
		if s.Addr == "" {
			list = append(list, s)
		}
		return s.Addr == ""
	})
	return list
}

// leave closes the listeners that nobody has taken.
func (p *predecessor) leave() {
	if p == nil {
		return
	}
	for _, s := range p.sockets {
		s.ln.Close()
	}
	p.sockets = nil
}

// ownPath says whether the path of a listener of the file system, which we have
// bound or inherited from who has, goes with it.
func (s inherited) ownPath(own bool) {
	if u, ok := s.ln.(*net.UnixListener); ok && s.Addr != "" {
		u.SetUnlinkOnClose(own)
	}
}

// prepared waits until the log may be opened; dir is where we have it.
func (p *predecessor) prepared(dir string) error {
	if p == nil {
		return nil
	}
	before, err := os.Stat(p.audit)
	if err != nil {
		return err
	}
	if now, err := os.Stat(dir); err != nil || !os.SameFile(before, now) {
		return usage(fmt.Errorf("audit.dir: %s, and the gateway that runs has %s: one log has the records of both", dir, p.audit)).
			hint("restart the gateway instead")
	}
	p.words.say(sayPrepared, versionLine())
	_, err = p.words.expect(sayYours, 0)
	if err != nil {
		return fmt.Errorf("the gateway that runs does not hand over: %w", err)
	}
	return nil
}

// ready tells that we serve, takes the records of the other process into log,
// and returns when it accepts no more, or is gone.
func (p *predecessor) ready(log *audit.Log) {
	if p == nil {
		return
	}
	go func() {
		defer close(p.gone)
		if n, err := log.Accept(p.records); err != nil {
			slog.Error("the gateway before this one has not ended in order", "records", n, "err", err)
		}
	}()
	if err := speakTo(p.console); err != nil {
		slog.Error("stderr of the gateway before this one", "err", err)
	}
	p.console.Close()
	p.words.say(sayReady)
	if _, err := p.words.expect(sayMain, takeTimeout); err != nil {
		slog.Error("the gateway before this one", "err", err)
	}
}

// say says a word, unless nobody is there to hear it.
func (p *predecessor) say(word string) {
	if p != nil {
		p.words.say(word)
	}
}

// left is closed when the other process is gone; nil if there is none.
func (p *predecessor) left() <-chan struct{} {
	if p == nil {
		return nil
	}
	return p.gone
}

// close gives back what a start that fails had taken.
func (p *predecessor) close() {
	if p == nil {
		return
	}
	p.leave()
	if p.words != nil {
		p.words.conn.Close()
	}
	if p.records != nil {
		p.records.Close()
	}
}
