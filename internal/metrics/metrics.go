// Package metrics presents the numbers of a gateway to Prometheus. It keeps none
// of its own: with each scrape it asks those who count, for plain values, so that
// no other package knows of Prometheus and nothing is paid for between scrapes.
//
// # What a stranger learns
//
// A label is a word from a list that is fixed, the id of a rule, the version of
// the policy, or a number. There is no host name in it, no address, no path, and
// nothing else that a peer has sent. So the number of series has a bound that
// only the operator moves: some 300, and one or two for each rule.
//
// # Histograms
//
// They are classic ones, with fixed buckets. Native histograms would be finer,
// but the text format does not carry them: a server that is not set to ask for
// protobuf would see none, and neither would a person with curl.
//
// docs/METRICS.md lists all metrics; a test holds the list and the table of this
// package together.
package metrics

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"framegate/audit"
	"framegate/audit/ship"
	"framegate/ca"
	"framegate/mitm"
	"framegate/policy"
)

// A Source is where the numbers come from. Each function is called once for a
// scrape, from any goroutine; none may be nil.
type Source struct {
	Build     Build
	Traffic   func() mitm.Snapshot
	Log       func() audit.Status
	Targets   func() []ship.Status // checkpoints before records, each in the order of the configuration
	Policy    func() *policy.Policy
	Authority func() *ca.Authority
	Gateway   func() Gateway
}

// A Build says which program this is.
type Build struct{ Version, Commit, Go string }

// A Gateway is what the process knows of itself.
type Gateway struct {
	Ready        bool
	Connections  int64            // limit of
	Refused      map[string]int64 // by reason
	MemoryUsed   uint64           // bytes
	MemoryLimit  uint64           // bytes
	Rungs        map[string]int   // of the overload ladder, by cause: 0 normal, 1 soft, 2 hard
	Sheddings    int64            // times that caches were shed
	PolicyLoaded time.Time
	Reloads      []Reloads
}

// Reloads counts the loads of one thing after the start.
type Reloads struct {
	What                        string
	Loaded, Unchanged, Rejected int64
}

// NewHandler serves /metrics.
func NewHandler(s Source) http.Handler {
	r := prometheus.NewRegistry()
	r.MustRegister(collector{s},
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return promhttp.HandlerFor(r, promhttp.HandlerOpts{
		MaxRequestsInFlight: 4, // a scrape is answered in a few milliseconds; who asks more often gets a 503
	})
}

// A collector implements [prometheus.Collector].
type collector struct{ Source }

// Describe implements [prometheus.Collector].
func (collector) Describe(to chan<- *prometheus.Desc) {
	for _, m := range all {
		to <- m.desc
	}
}

// Collect implements [prometheus.Collector].
func (c collector) Collect(to chan<- prometheus.Metric) {
	begin := time.Now()
	s := sender{to}
	s.send(buildInfo, 1, c.Build.Version, c.Build.Commit, c.Build.Go)
	s.gateway(c.Gateway())
	s.traffic(c.Traffic())
	s.log(c.Log())
	s.targets(c.Targets())
	s.policy(c.Policy())
	s.authority(c.Authority())
	s.send(collectionTime, time.Since(begin).Seconds())
}

// A sender makes metrics of values.
type sender struct{ to chan<- prometheus.Metric }

func (s sender) send(m *metric, v float64, labels ...string) {
	s.to <- prometheus.MustNewConstMetric(m.desc, m.kind, v, labels...)
}

func (s sender) counts(m *metric, list []mitm.Count) {
	for _, c := range list {
		s.send(m, float64(c.N), c.Labels...)
	}
}

func (s sender) histograms(m *metric, list []mitm.Histogram) {
	for _, h := range list {
		buckets := make(map[float64]uint64, len(h.Within))
		for d, n := range h.Within {
			buckets[d.Seconds()] = uint64(n)
		}
		s.to <- prometheus.MustNewConstHistogram(m.desc, uint64(h.Count), h.Sum.Seconds(), buckets, h.Labels...)
	}
}

func (s sender) gateway(g Gateway) {
	s.send(ready, truth(g.Ready))
	s.send(limit, float64(g.Connections))
	for reason, n := range g.Refused {
		s.send(refused, float64(n), reason)
	}
	s.send(memoryUsed, float64(g.MemoryUsed))
	s.send(memoryLimit, float64(g.MemoryLimit))
	for cause, rung := range g.Rungs {
		s.send(overloadRung, float64(rung), cause)
	}
	s.send(sheddings, float64(g.Sheddings))
	s.send(policyLoaded, unix(g.PolicyLoaded))
	for _, r := range g.Reloads {
		s.send(reloads, float64(r.Loaded), r.What, "loaded")
		s.send(reloads, float64(r.Unchanged), r.What, "unchanged")
		s.send(reloads, float64(r.Rejected), r.What, "rejected")
	}
}

func (s sender) traffic(x mitm.Snapshot) {
	s.send(opened, float64(x.Opened))
	s.counts(closed, x.Closed)
	s.send(live, float64(x.Live))
	s.send(halfOpen, float64(x.HalfOpen))
	s.send(websockets, float64(x.WebSockets))
	s.counts(handshakes, x.Handshakes)
	s.counts(tlsFail, x.TLSFail)
	s.counts(verify, x.Verify)
	s.counts(messages, x.Messages)
	s.counts(bytes, x.Bytes)
	s.counts(unseen, x.Unseen)
	s.counts(hits, x.Rules)
	s.histograms(inspect, x.Inspect)
	s.histograms(hold, x.Hold)
	s.send(heldBytes, float64(x.Held.Bytes))
	s.send(heldLimit, float64(x.Held.Limit))
	s.send(heldWaiting, float64(x.Held.Waiting))
	s.send(heldWaits, float64(x.Held.Waits))
	s.send(heldEnded, float64(x.Held.Ended))
}

func (s sender) log(l audit.Status) {
	s.send(auditWritable, truth(l.Failing == nil))
	s.send(auditQueue, float64(l.Queued))
	s.send(auditQueueMax, float64(l.QueueSize))
	s.send(auditLag, l.Behind.Seconds())
	s.send(auditRecords, float64(l.Written))
	s.send(auditLost, float64(l.Lost))
	s.send(auditGaps, float64(l.Gaps))
	s.send(checkpointed, unix(l.Checkpoint))
}

// targets names targets by kind and position: their URLs are host names.
func (s sender) targets(list []ship.Status) {
	position := map[string]int{}
	for _, t := range list {
		kind := "checkpoints"
		if t.Records {
			kind = "records"
		}
		position[kind]++
		labels := []string{kind, strconv.Itoa(position[kind])}
		s.send(shipSuccess, unix(t.LastSuccess), labels...)
		s.send(shipFailing, truth(t.Failing != ""), labels...)
		s.send(shipFailures, float64(t.Failures), labels...)
		s.send(shipSent, float64(t.Sent), labels...)
		if t.Records {
			s.send(shipLost, float64(t.Lost), labels...)
			s.send(shipQueued, float64(t.Queued), labels...)
		}
	}
}

func (s sender) policy(p *policy.Policy) {
	s.send(policyInfo, 1, p.Version())
	shadow := 0
	for _, r := range p.Rules() {
		if r.Shadow {
			shadow++
		}
	}
	s.send(policyRules, float64(len(p.Rules())-shadow), "enforce")
	s.send(policyRules, float64(shadow), "shadow")
	s.send(policyRules, float64(len(p.Connections())), "connection")
}

func (s sender) authority(a *ca.Authority) {
	for _, d := range a.Describe() {
		s.send(caExpiry, unix(d.NotAfter), d.Role)
	}
	x := a.Stats()
	s.send(leaves, float64(x.Entries))
	s.send(leavesLimit, float64(x.Size))
	s.send(leafHits, float64(x.Hits))
	s.send(leafMisses, float64(x.Misses))
	s.send(leafEvictions, float64(x.Evictions))
	s.send(leavesMinted, float64(x.Minted))
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// unix is t as Prometheus has times; the zero time is 0.
func unix(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}
