package main

import (
	"net/netip"
	"time"
)

const defaultConfigFile = "/etc/framegate/framegate.toml"

// A config is what framegate.toml says. Every key is optional; the zero file
// is defaultConfig, a working gateway.
type config struct {
	Intercept struct {
		Mode       string         // "redirect"
		Listen     []string       // host:port; an empty host is both families
		Explicit   string         // host:port of the explicit HTTP proxy; "": none
		Ports      []uint16       // captured by `redirect up`
		Interfaces []string       // ingress interfaces; none: all but lo
		Exclude    []netip.Prefix // never captured, as source or destination
		Mark       uint32         // SO_MARK of our own sockets; never 0
		QUIC       string         // "block" | "allow"
	}
	CA struct {
		Dir          string
		LeafValidity time.Duration
	}
	TLS struct {
		UpstreamRoots []string // PEM files trusted besides the system's
		ClientCert    string   // "bypass" | "block"
		Pinned        string   // "block"
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
		MaxConnections   int           // 0: from the file limit
		Memory           int           // percent; above it new connections are refused
	}
	Policy struct {
		Files  []string // glob patterns
		Shadow []string // of files on trial, by --shadow only
	}
	Audit struct {
		Dir       string
		Level     string
		Payload   string
		OnFailure string // "block" | "gap"
	}
	Admin struct {
		Listen string // host:port or unix:PATH; "": none
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
	c.TLS.ClientCert = "bypass"
	c.TLS.Pinned = "block"
	c.Limits.Hold = 1 << 20
	c.Limits.Oversize = "block"
	c.Limits.MaxMessage = 64 << 20
	c.Limits.MaxRatio = 256
	c.Limits.UnknownExtension = "block"
	c.Limits.HandshakeTimeout = 10 * time.Second
	c.Limits.DrainTimeout = 30 * time.Second
	c.Limits.Memory = 75
	c.Policy.Files = []string{"/etc/framegate/policy.d/*.toml"}
	c.Audit.Dir = "/var/lib/framegate/audit"
	c.Audit.Level = "messages"
	c.Audit.Payload = "none"
	c.Audit.OnFailure = "block"
	c.Admin.Listen = "127.0.0.1:9470"
	return c
}

// A field binds one key of the file to its place in a config. set takes the
// value as package toml decodes it; each error says what was expected.
type field struct {
	key string
	set func(v any) []error
}

// fields is the contract of framegate.toml. A value that the contract knows
// and this version cannot carry out yet is refused rather than ignored.
func (c *config) fields() []field {
	return []field{
		{"intercept.mode", one(&c.Intercept.Mode, notYet(choice("redirect"), "tproxy"))},
		{"intercept.listen", many(&c.Intercept.Listen, 1, listenAddress)},
		{"intercept.explicit", one(&c.Intercept.Explicit, optional(listenAddress))},
		{"intercept.ports", many(&c.Intercept.Ports, 1, port)},
		{"intercept.interfaces", many(&c.Intercept.Interfaces, 0, interfaceName)},
		{"intercept.exclude", many(&c.Intercept.Exclude, 0, prefix)},
		{"intercept.mark", one(&c.Intercept.Mark, mark)},
		{"intercept.quic", one(&c.Intercept.QUIC, choice("block", "allow"))},

		{"ca.dir", one(&c.CA.Dir, path)},
		{"ca.leaf_validity", one(&c.CA.LeafValidity, leafValidity)},

		{"tls.upstream_roots", many(&c.TLS.UpstreamRoots, 0, path)},
		{"tls.client_cert", one(&c.TLS.ClientCert, choice("bypass", "block"))},
		{"tls.pinned", one(&c.TLS.Pinned, notYet(choice("block"), "bypass"))},

		{"limits.hold", one(&c.Limits.Hold, size)},
		{"limits.oversize", one(&c.Limits.Oversize, choice("block", "stream"))},
		{"limits.max_message", one(&c.Limits.MaxMessage, size)},
		{"limits.max_ratio", one(&c.Limits.MaxRatio, ratio)},
		{"limits.unknown_extension", one(&c.Limits.UnknownExtension, choice("block", "opaque"))},
		{"limits.handshake_timeout", one(&c.Limits.HandshakeTimeout, positiveDuration)},
		{"limits.idle_timeout", one(&c.Limits.IdleTimeout, duration)},
		{"limits.drain_timeout", one(&c.Limits.DrainTimeout, duration)},
		{"limits.max_connections", one(&c.Limits.MaxConnections, count)},
		{"limits.memory", one(&c.Limits.Memory, percent)},

		{"policy.files", many(&c.Policy.Files, 0, globPattern)},

		{"audit.dir", one(&c.Audit.Dir, path)},
		{"audit.level", one(&c.Audit.Level, choice("connections", "violations", "messages", "frames"))},
		{"audit.payload", one(&c.Audit.Payload, notYet(choice("none"), "redacted", "full"))},
		{"audit.on_failure", one(&c.Audit.OnFailure, choice("block", "gap"))},

		{"admin.listen", one(&c.Admin.Listen, optional(adminAddress))},
	}
}
