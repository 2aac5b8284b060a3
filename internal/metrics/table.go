package metrics

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// A metric is one row of docs/METRICS.md.
type metric struct {
	name, help string
	labels     []string
	kind       prometheus.ValueType // of a histogram: untyped
	desc       *prometheus.Desc
}

// all has every metric of the gateway's own, in the order of the table.
var all []*metric

func add(kind prometheus.ValueType, name, help string, labels ...string) *metric {
	m := &metric{name, help, labels, kind, prometheus.NewDesc(name, help, labels, nil)}
	all = append(all, m)
	return m
}

func counter(name, help string, labels ...string) *metric {
	return add(prometheus.CounterValue, name, help, labels...)
}

func gauge(name, help string, labels ...string) *metric {
	return add(prometheus.GaugeValue, name, help, labels...)
}

func histogram(name, help string, labels ...string) *metric {
	return add(prometheus.UntypedValue, name, help, labels...)
}

// typeName is the word that Prometheus has for the kind.
func (m *metric) typeName() string {
	switch m.kind {
	case prometheus.CounterValue:
		return "counter"
	case prometheus.GaugeValue:
		return "gauge"
	}
	return "histogram"
}

// row is the line of docs/METRICS.md.
func (m *metric) row() string {
	labels := "-"
	if len(m.labels) > 0 {
		labels = "`" + strings.Join(m.labels, "` `") + "`"
	}
	return "| `" + m.name + "` | " + m.typeName() + " | " + labels + " | " + m.help + " |"
}

var (
	buildInfo = gauge("framegate_build_info", "Always 1; the labels say which program this is.", "version", "commit", "goversion")
	ready     = gauge("framegate_ready", "1 if a new connection would be served, else 0, as /readyz says.")

	opened     = counter("framegate_connections_opened_total", "Connections that have a conn.open record.")
	closed     = counter("framegate_connections_closed_total", "Connections that have a conn.close record, by ledger state.", "state")
	live       = gauge("framegate_connections", "Connections that are opened and not closed.")
	halfOpen   = gauge("framegate_connections_half_open", "Live connections that have not sent their first request, nor were bypassed.")
	websockets = gauge("framegate_websockets", "WebSockets that are open and inspected.")
	limit      = gauge("framegate_connections_limit", "How many live connections there may be: limits.max_connections, or what the limit of open files allows.")
	refused    = counter("framegate_connections_refused_total", "Connections that were refused, by reason (max_connections, descriptors, memory, client_connections, client_rate: reset on arrival, without a record; client_handshakes: by an alert, with a tls.fail).", "reason")

	handshakes = counter("framegate_tls_handshakes_total", "TLS handshakes, by leg, version (none: it failed before one was agreed) and outcome (full, resumed, failed).", "leg", "version", "outcome")
	tlsFail    = counter("framegate_tls_failures_total", "tls.fail records, by the side at fault and reason; verification stands for all of framegate_tls_verify_failures_total.", "side", "reason")
	verify     = counter("framegate_tls_verify_failures_total", "Servers whose certificate was refused, by code; docs/TRUST.md explains each.", "code")

	messages = counter("framegate_messages_total", "Messages that were judged, by direction and what was done; those of conn.close, without control frames.", "direction", "action")
	bytes    = counter("framegate_message_bytes_total", "Inflated bytes of these messages.", "direction", "action")
	unseen   = counter("framegate_uninspected_bytes_total", "Bytes that were passed on unseen, by direction and ledger state, added when their connection ends.", "direction", "state")
	hits     = counter("framegate_rule_hits_total", "Messages, and with mode connection connections, that a rule has matched; of the rules in force. A rule keeps its count over reloads.", "rule", "mode")
	inspect  = histogram("framegate_inspect_duration_seconds", "How long a batch of received messages was judged and recorded before it was sent, by direction.", "direction")
	hold     = histogram("framegate_hold_duration_seconds", "How long the part of a message was held that came before the rest, by direction; messages that come whole are not in it.", "direction")

	heldBytes   = gauge("framegate_held_bytes", "What messages over 64 KiB may come to that are held now, as received, unmasked and inflated.")
	heldLimit   = gauge("framegate_held_limit_bytes", "How much that may be; who would hold more waits. 0: no limit.")
	heldWaiting = gauge("framegate_held_waiting", "Directions of connections that wait for others to hold less, and do not read.")
	heldWaits   = counter("framegate_held_waits_total", "Messages that had to wait for that.")
	heldEnded   = counter("framegate_held_ended_total", "Messages that stood still while others waited, whose WebSocket was ended with 1013.")

	policyInfo     = gauge("framegate_policy_info", "Always 1; version is the SHA-256 of the policy in force.", "version")
	policyRules    = gauge("framegate_policy_rules", "Rules in force, by mode (enforce, shadow, connection).", "mode")
	policyLoaded   = gauge("framegate_policy_load_timestamp_seconds", "When the policy in force was loaded.")
	reloads        = counter("framegate_reloads_total", "Loads after the start, by what (config, policy, trust, authority) and outcome (loaded, unchanged, rejected: what was in force stays).", "what", "outcome")
	caExpiry       = gauge("framegate_ca_certificate_expiry_timestamp_seconds", "When a certificate of the gateway's authority ends.", "certificate")
	leaves         = gauge("framegate_leaf_cache_entries", "Leaf certificates in the cache.")
	leavesLimit    = gauge("framegate_leaf_cache_limit", "How many leaf certificates the cache keeps.")
	leafHits       = counter("framegate_leaf_cache_hits_total", "Calls for a leaf that were served without a minting of their own; from 0 with a new authority, as the next three.")
	leafMisses     = counter("framegate_leaf_cache_misses_total", "Calls for a leaf for which one had to be minted.")
	leafEvictions  = counter("framegate_leaf_cache_evictions_total", "Leaves that went for others because the cache was full.")
	leavesMinted   = counter("framegate_leaf_mints_total", "Leaves that were minted.")
	auditWritable  = gauge("framegate_audit_writable", "1 if the audit log can be written, else 0.")
	auditQueue     = gauge("framegate_audit_queue_length", "Hand-overs of records that wait for the writer.")
	auditQueueMax  = gauge("framegate_audit_queue_limit", "How many hand-overs may wait before connections have to.")
	auditLag       = gauge("framegate_audit_lag_seconds", "Age of the oldest record that is not on the disk, 0 if all are; up to a second under load.")
	auditRecords   = counter("framegate_audit_records_total", "Records that were written to a file.")
	auditLost      = counter("framegate_audit_lost_total", "Records that were refused because the log could not be written.")
	auditGaps      = counter("framegate_audit_gaps_total", "audit.gap records: times that something is missing.")
	checkpointed   = gauge("framegate_audit_checkpoint_timestamp_seconds", "When the last checkpoint was signed; there is none without a new record.")
	shipSuccess    = gauge("framegate_ship_success_timestamp_seconds", "When a target last took something, 0 if never; position is that in audit.checkpoint_to or audit.ship, from 1.", "kind", "position")
	shipFailing    = gauge("framegate_ship_failing", "1 if the last try of a target failed, else 0.", "kind", "position")
	shipFailures   = counter("framegate_ship_failures_total", "Tries of a target that failed.", "kind", "position")
	shipSent       = counter("framegate_ship_sent_total", "Checkpoints or records that a target has taken.", "kind", "position")
	shipLost       = counter("framegate_ship_lost_total", "Records that a target will not get.", "kind", "position")
	shipQueued     = gauge("framegate_ship_queued_bytes", "Bytes of records that wait for a target.", "kind", "position")
	memoryUsed     = gauge("framegate_memory_used_bytes", "Memory that counts against limits.memory, with what is set aside for messages of live connections, in the view (memory cgroup or machine) that is nearest to its limit.")
	memoryLimit    = gauge("framegate_memory_limit_bytes", "limits.memory in bytes: above it new connections are refused.")
	overloadRung   = gauge("framegate_overload_rung", "Rung of the overload ladder, by cause (memory, descriptors, max_connections): 0 normal, 1 caches are shed, 2 new connections are refused.", "cause")
	sheddings      = counter("framegate_caches_shed_total", "Times that caches were shed because memory was short.")
	collectionTime = gauge("framegate_metrics_duration_seconds", "How long it took to gather these numbers.")
)
