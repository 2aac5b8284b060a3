package ship

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"framegate/audit"
)

// A Config says what goes where.
type Config struct {
	Checkpoints []Target // of ParseCheckpointTarget
	Records     []Target // of ParseRecordTarget

	// Queue is how many bytes of records may wait for one target. Zero: 16 MiB.
	Queue int64

	// Every is the least time between two checkpoints to one target, but for
	// those of a start, a stop, a new segment and a policy. Zero: 10 s.
	Every time.Duration

	// Witnesses are the keys by one of which a witness must cosign. Without any,
	// no target may be a witness.
	Witnesses []*audit.Witness

	// Roots verify servers. Nil: those of the system.
	Roots *x509.CertPool

	// Certificate is ours, for servers that ask for one. Nil: none.
	Certificate *tls.Certificate

	// Dial makes connections. Nil: as package net does. A gateway marks its own
	// sockets, so that they are not redirected to itself.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)

	// Dir is that of the log: tiles for proofs are read there, cosigned
	// checkpoints kept.
	Dir string

	Version string       // of the gateway, for collectors. Empty: unknown
	Logger  *slog.Logger // nil: slog.Default()

	pause       time.Duration // the first after a failure; zero: firstPause
	reportEvery time.Duration // zero: reportEvery
}

// reportEvery is how far apart two audit.unshipped records for one target are
// at least.
const reportEvery = 10 * time.Second

// A Shipper is the audit.Follower that brings what a log has written to others.
type Shipper struct {
	cfg    Config
	sinks  []*sink
	pushes []*push

	log    *audit.Log
	stop   context.CancelFunc
	work   sync.WaitGroup // of targets
	report chan struct{}  // closed: end the reporter
	ended  chan struct{}  // the reporter has ended
}

// New makes a shipper for the log in c.Dir, to be passed to audit.Open and then
// started, or forgotten if there is no log.
func New(c Config) (*Shipper, error) {
	if c.Queue == 0 {
		c.Queue = 16 << 20
	}
	if c.Every == 0 {
		c.Every = 10 * time.Second
	}
	if c.Dial == nil {
		c.Dial = new(net.Dialer).DialContext
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.reportEvery == 0 {
		c.reportEvery = reportEvery
	}
	s := &Shipper{cfg: c, report: make(chan struct{}), ended: make(chan struct{})}
	for _, t := range c.Records {
		s.sinks = append(s.sinks, &sink{health: s.health("records", t), queue: newQueue(c.Queue), hurry: make(chan struct{})})
	}
	for _, t := range c.Checkpoints {
		if (t.kind == "https" || t.kind == "http") && len(c.Witnesses) == 0 {
			return nil, fmt.Errorf("%s: a witness, and no key to check what it signs", t.text)
		}
		p := newPush(c.Every, t.kind == "file")
		p.health = s.health("checkpoints", t)
		s.pushes = append(s.pushes, p)
	}
	return s, nil
}

func (s *Shipper) health(what string, t Target) health {
	return health{what: what, target: t, log: s.cfg.Logger, pause: s.cfg.pause}
}

// tls is the configuration for one target. RFC 5425 section 5.2 and RFC 9110
// section 4.3.4 have the certificate match the host that was configured.
func (s *Shipper) tls(t Target) *tls.Config {
	if !t.Encrypted() {
		return nil
	}
	c := &tls.Config{ServerName: t.host, RootCAs: s.cfg.Roots, MinVersion: tls.VersionTLS12}
	if s.cfg.Certificate != nil {
		c.Certificates = []tls.Certificate{*s.cfg.Certificate}
	}
	return c
}

// Start begins to send, with log for the records of what is lost.
func (s *Shipper) Start(log *audit.Log) {
	s.log = log
	host, err := os.Hostname()
	if err != nil {
		host = ""
	}
	format := &syslogFormat{host: printUSASCII(host, 255), pid: strconv.Itoa(os.Getpid()), origin: log.Origin()}
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	for _, k := range s.sinks {
		t := k.target
		if strings.HasPrefix(t.kind, "otlp") {
			path := t.path
			if strings.Trim(path, "/") == "" {
				path = "/v1/logs" // the default of the protocol
			}
			k.carrier = &otlpCarrier{
				client: newClient(s.cfg.Dial, s.tls(t)), url: t.endpoint(path),
				format: &otlpFormat{host: host, version: s.cfg.Version, origin: log.Origin()},
			}
		} else {
			k.carrier = &syslogCarrier{stream: stream{target: t, dial: s.cfg.Dial, tls: s.tls(t)}, format: format}
		}
		s.work.Go(func() { k.run(ctx) })
	}
	for _, p := range s.pushes {
		switch t := p.target; t.kind {
		case "file":
			p.pusher = filePusher(t.path)
		case "https", "http":
			p.pusher = &witnessPusher{
				client: newClient(s.cfg.Dial, s.tls(t)), url: t.endpoint(strings.TrimSuffix(t.path, "/") + "/add-checkpoint"),
				dir: s.cfg.Dir, version: s.cfg.Version, keys: s.cfg.Witnesses,
			}
		default:
			p.pusher = &syslogPusher{stream: stream{target: t, dial: s.cfg.Dial, tls: s.tls(t)}, format: format}
		}
		s.work.Go(func() { p.run(ctx) })
	}
	go s.reportLosses()
}

// Block implements audit.Follower.
func (s *Shipper) Block(seq uint64, count int, records []byte) {
	if len(s.sinks) == 0 {
		return
	}
	b := &batch{seq, count, bytes.Clone(records)} // one copy for all targets
	for _, k := range s.sinks {
		if k.queue.offer(b) {
			k.log.Warn("audit records are not shipped: the queue is full", "target", k.target.text, "from_seq", seq)
		}
	}
}

// Checkpoint implements audit.Follower.
func (s *Shipper) Checkpoint(msg []byte, keep bool) {
	for _, p := range s.pushes {
		p.offer(msg, keep)
	}
}

// Status says how each target fares, those of checkpoints first.
func (s *Shipper) Status() (all []Status) {
	for _, p := range s.pushes {
		all = append(all, p.snapshot())
	}
	for _, k := range s.sinks {
		all = append(all, k.snapshot())
	}
	return all
}

// reportLosses records what is lost, until the shipper stops. It is no part of
// the goroutine that writes the log, which would wait for itself.
func (s *Shipper) reportLosses() {
	defer close(s.ended)
	t := time.NewTicker(s.cfg.reportEvery)
	defer t.Stop()
	for {
		select {
		case <-s.report:
			return
		case <-t.C:
			s.recordLosses(false)
		}
	}
}

func (s *Shipper) recordLosses(all bool) {
	for _, k := range s.sinks {
		l, ok := k.due(all)
		if !ok {
			continue
		}
		s.tell(k, l)
		s.log.Record(audit.Event{Event: audit.AuditUnshipped, Unshipped: &audit.Unshipped{
			Target: k.target.text, Count: l.count, From: l.from, To: l.to,
		}})
	}
}

func (s *Shipper) tell(k *sink, l loss) {
	k.log.Warn("audit records were not shipped; the log has them", "target", k.target.text, "count", l.count, "from_seq", l.from, "to_seq", l.to)
}

// Stop gives what waits half of the time to arrive, has what does not recorded,
// ends the log by finish, and gives its last records and its last checkpoint the
// rest of the time. It returns what finish does.
func (s *Shipper) Stop(timeout time.Duration, finish func() error) error {
	for _, k := range s.sinks {
		close(k.hurry)
	}
	s.settle(timeout/2, s.sinks, nil)
	for _, k := range s.sinks {
		k.queue.giveUp()
	}
	close(s.report)
	<-s.ended
	s.recordLosses(true)
	err := finish()
	for _, p := range s.pushes {
		close(p.hurry)
	}
	s.settle(timeout/2, s.sinks, s.pushes)
	for _, k := range s.sinks {
		k.queue.giveUp()
		if l, ok := k.due(true); ok {
			s.tell(k, l)
		}
	}
	for _, p := range s.pushes {
		if waiting, _ := p.waiting(); len(waiting) > 0 {
			p.log.Warn("the last audit checkpoint did not reach the target", "target", p.target.text, "err", errors.New(p.snapshot().Failing))
		}
	}
	s.stop()
	s.settleWork(time.Second)
	return err
}

// settle waits until nothing waits any more, or the time is over.
func (s *Shipper) settle(timeout time.Duration, sinks []*sink, pushes []*push) {
	over := time.After(timeout)
	var all []<-chan struct{}
	for _, k := range sinks {
		all = append(all, k.queue.drained())
	}
	for _, p := range pushes {
		all = append(all, p.done())
	}
	for _, c := range all {
		select {
		case <-c:
		case <-over:
			return
		}
	}
}

// settleWork waits for the goroutines of the targets, but not for one that the
// kernel holds.
func (s *Shipper) settleWork(timeout time.Duration) {
	done := make(chan struct{})
	go func() { s.work.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(timeout):
	}
}
