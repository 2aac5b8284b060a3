package main

import (
	"net/netip"
	"time"

	"framegate/audit"
	"framegate/audit/ship"
)

const defaultConfigFile = "/etc/framegate/framegate.toml"

// A config is what framegate.toml says. Every key is optional; the zero file
// is defaultConfig, a working gateway.
type config struct {
	Intercept struct {
		Mode       string         // "redirect" | "tproxy"
		Listen     []string       // host:port; an empty host is both families
		Explicit   string         // host:port of the explicit HTTP proxy; "": none
		Ports      []uint16       // captured by `redirect up`
		Interfaces []string       // ingress interfaces; none: all but lo
		Exclude    []netip.Prefix // never captured, as source or destination
		Mark       uint32         // SO_MARK of our own sockets; never 0
		QUIC       string         // "block" | "allow"
	}
	CA struct {
		Dir            string
		LeafValidity   time.Duration
		PassphraseFile string // of the keys in Dir; "": systemd's credential, if there is one
	}
	TLS struct {
		UpstreamRoots []string // PEM files trusted besides the system's
		CRLs          []string // files of revocation lists, PEM or DER
		Revocation    string   // "staple" | "require"
		ClientCert    string   // "bypass" | "block"
		Pinned        string   // "block" | "bypass"
	}
	Limits struct {
		Hold             int64  // bytes; the largest message held whole
		Oversize         string // "block" | "stream"
		MaxMessage       int64  // bytes, inflated; of what is streamed
		MaxRatio         int    // inflated bytes for each byte received, over Hold and 1 MiB; 0: any
		UnknownExtension string // "block" | "opaque"
		HandshakeTimeout time.Duration
		IdleTimeout      time.Duration // 0: never
		DrainTimeout     time.Duration // from SIGTERM to Close 1001; 0: at once
		DrainSpread      time.Duration // from the first of those to the last; 0: at once
		HandoverTimeout  time.Duration // as DrainTimeout, after an upgrade; 0: DrainTimeout
		MaxConnections   int           // 0: from the file limit
		Memory           int           // percent; above it new connections are refused

		// Of one client, an IPv4 address or an IPv6 network of 64 bits. 0: no limit.
		ClientConnections int       // at once
		ClientRate        rateLimit // new connections
		ClientHandshakes  rateLimit // TLS handshakes
	}
	Policy struct {
		Files  []string // glob patterns
		Shadow []string // of files on trial, by --shadow only
	}
	Audit struct {
		Dir       string
		Level     string
		Payload   string // "none" | "redacted" | "full"
		OnFailure string // "block" | "gap"

		// Recipients are those who can read sealed payloads: age recipients, and
		// files of them. Only with payload "full", and then at least one.
		Recipients []string

		Keep    time.Duration // of records; 0: for ever
		MaxSize int64         // bytes, of all segments; 0: no limit

		PcapDir     string // pcapng files of what WebSockets carry, in plain text; "": none
		PcapMaxSize int64  // bytes, of all of them; the oldest goes first
	}
	Ship struct { // keys of [audit]
		CheckpointTo    []ship.Target
		CheckpointEvery time.Duration    // least time between two to one target
		Witnesses       []*audit.Witness // that may cosign
		To              []ship.Target    // records
		Queue           int64            // bytes that may wait for each target
		Roots           []string         // PEM files trusted besides the system's
		Cert, Key       string           // PEM files, for servers that ask; "": none
	}
	Admin struct {
		Listen     string // host:port or unix:PATH; "": none
		Profile    bool   // serve profiles of the process, on a unix:PATH only
		Onboarding string // host name at which devices find the onboarding page; "": none
	}
}

func defaultConfig() *config {
	c := new(config)
	c.Intercept.Mode = "redirect"
	c.Intercept.Listen = []string{":8443"}
	c.Intercept.Ports = []uint16{80, 443}
	c.Intercept.Mark = 0x4647 // "FG"
	c.Intercept.QUIC = "block"
	c.CA.Dir = "/var/lib/framegate/ca"
	c.CA.LeafValidity = 23 * time.Hour
	c.TLS.Revocation = "staple"
	c.TLS.ClientCert = "bypass"
	c.TLS.Pinned = "block"
	c.Limits.Hold = 1 << 20
	c.Limits.Oversize = "block"
	c.Limits.MaxMessage = 64 << 20
	c.Limits.MaxRatio = 256
	c.Limits.UnknownExtension = "block"
	c.Limits.HandshakeTimeout = 10 * time.Second
	c.Limits.DrainTimeout = 30 * time.Second
	c.Limits.DrainSpread = 10 * time.Second
	c.Limits.Memory = 75
	c.Policy.Files = []string{"/etc/framegate/policy.d/*.toml"}
	c.Audit.Dir = "/var/lib/framegate/audit"
	c.Audit.Level = "messages"
	c.Audit.Payload = "none"
	c.Audit.OnFailure = "block"
	c.Audit.PcapMaxSize = 1 << 30
	c.Ship.CheckpointEvery = 10 * time.Second
	c.Ship.Queue = 16 << 20
	c.Admin.Listen = "127.0.0.1:9470"
	c.Admin.Onboarding = "framegate.internal"
	return c
}

// A field binds one key of the file to its place in a config, and says when a
// reload brings a change of it to bear.
type field struct {
	key string
	binding
	effect effect
}

// fields is the contract of framegate.toml.
func (c *config) fields() []field {
	return []field{
		{"intercept.mode", one(&c.Intercept.Mode, choice("redirect", "tproxy")), atRestart},
		{"intercept.listen", many(&c.Intercept.Listen, 1, listenAddress), live},
		{"intercept.explicit", one(&c.Intercept.Explicit, optional(listenAddress)), live},
		{"intercept.ports", many(&c.Intercept.Ports, 1, port), live},
		{"intercept.interfaces", many(&c.Intercept.Interfaces, 0, interfaceName), atRules},
		{"intercept.exclude", many(&c.Intercept.Exclude, 0, prefix), atRules},
		{"intercept.mark", one(&c.Intercept.Mark, mark), live},
		{"intercept.quic", one(&c.Intercept.QUIC, choice("block", "allow")), atRules},

		{"ca.dir", one(&c.CA.Dir, path), fresh},
		{"ca.leaf_validity", one(&c.CA.LeafValidity, leafValidity), fresh},
		{"ca.passphrase_file", one(&c.CA.PassphraseFile, optional(path)), fresh},

		{"tls.upstream_roots", many(&c.TLS.UpstreamRoots, 0, path), fresh},
		{"tls.crls", many(&c.TLS.CRLs, 0, path), fresh},
		{"tls.revocation", one(&c.TLS.Revocation, choice("staple", "require")), fresh},
		{"tls.client_cert", one(&c.TLS.ClientCert, choice("bypass", "block")), fresh},
		{"tls.pinned", one(&c.TLS.Pinned, choice("block", "bypass")), fresh},

		{"limits.hold", one(&c.Limits.Hold, size), fresh},
		{"limits.oversize", one(&c.Limits.Oversize, choice("block", "stream")), fresh},
		{"limits.max_message", one(&c.Limits.MaxMessage, size), fresh},
		{"limits.max_ratio", one(&c.Limits.MaxRatio, ratio), fresh},
		{"limits.unknown_extension", one(&c.Limits.UnknownExtension, choice("block", "opaque")), fresh},
		{"limits.handshake_timeout", one(&c.Limits.HandshakeTimeout, positiveDuration), fresh},
		{"limits.idle_timeout", one(&c.Limits.IdleTimeout, duration), fresh},
		{"limits.drain_timeout", one(&c.Limits.DrainTimeout, duration), live},
		{"limits.drain_spread", one(&c.Limits.DrainSpread, duration), live},
		{"limits.handover_timeout", one(&c.Limits.HandoverTimeout, duration), live},
		{"limits.max_connections", one(&c.Limits.MaxConnections, count), fresh},
		{"limits.memory", one(&c.Limits.Memory, percent), fresh},
		{"limits.client_connections", one(&c.Limits.ClientConnections, count), fresh},
		{"limits.client_rate", one(&c.Limits.ClientRate, perTime), fresh},
		{"limits.client_handshakes", one(&c.Limits.ClientHandshakes, perTime), fresh},

		{"policy.files", many(&c.Policy.Files, 0, globPattern), live},

		{"audit.dir", one(&c.Audit.Dir, path), live},
		{"audit.level", one(&c.Audit.Level, choice("connections", "violations", "messages", "frames")), live},
		{"audit.payload", one(&c.Audit.Payload, choice("none", "redacted", "full")), live},
		{"audit.payload_recipients", many(&c.Audit.Recipients, 0, recipient), fresh},
		{"audit.on_failure", one(&c.Audit.OnFailure, choice("block", "gap")), live},
		{"audit.keep", one(&c.Audit.Keep, keepTime), live},
		{"audit.max_size", one(&c.Audit.MaxSize, logSize), live},
		{"audit.pcap_dir", one(&c.Audit.PcapDir, optional(path)), live},
		{"audit.pcap_max_size", one(&c.Audit.PcapMaxSize, packetsSize), live},
		{"audit.checkpoint_to", many(&c.Ship.CheckpointTo, 0, parsed(ship.ParseCheckpointTarget)), live},
		{"audit.checkpoint_every", one(&c.Ship.CheckpointEvery, positiveDuration), live},
		{"audit.witness_keys", many(&c.Ship.Witnesses, 0, parsed(audit.ParseWitness)), live},
		{"audit.ship", many(&c.Ship.To, 0, parsed(ship.ParseRecordTarget)), live},
		{"audit.ship_queue", one(&c.Ship.Queue, shipQueue), live},
		{"audit.ship_roots", many(&c.Ship.Roots, 0, path), live},
		{"audit.ship_cert", one(&c.Ship.Cert, optional(path)), live},
		{"audit.ship_key", one(&c.Ship.Key, optional(path)), live},

		{"admin.listen", one(&c.Admin.Listen, optional(adminAddress)), live},
		{"admin.pprof", one(&c.Admin.Profile, boolean), live},
		{"admin.onboarding", one(&c.Admin.Onboarding, optional(ownHost)), live},
	}
}
