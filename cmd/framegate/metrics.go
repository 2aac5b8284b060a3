package main

import (
	"net/http"
	"sync/atomic"
	"time"

	"framegate/audit"
	"framegate/audit/ship"
	"framegate/ca"
	"framegate/internal/metrics"
	"framegate/mitm"
)

// A reloadCount is what became of the loads of one thing after the start.
type reloadCount struct{ loaded, unchanged, rejected atomic.Int64 }

func (r *reloadCount) as(what string) metrics.Reloads {
	return metrics.Reloads{What: what, Loaded: r.loaded.Load(), Unchanged: r.unchanged.Load(), Rejected: r.rejected.Load()}
}

// counts are those that nobody but the gateway itself can make.
type counts struct {
	config, policy, trust, authority reloadCount
	policyLoaded                     atomic.Int64 // when, in Unix nanoseconds
}

// metrics serves /metrics. It is not asked before the gateway runs.
func (gw *gateway) metrics() http.Handler {
	b := currentBuild()
	return metrics.NewHandler(metrics.Source{
		Build:     metrics.Build{Version: b.Version, Commit: b.Commit, Go: b.Go},
		Traffic:   func() mitm.Snapshot { return gw.proxy.Snapshot() },
		Log:       func() audit.Status { return gw.log.Status() },
		Targets:   gw.targets,
		Policy:    gw.policy.Load,
		Authority: func() *ca.Authority { return gw.authority.Load() },
		Gateway: func() metrics.Gateway {
			g, room := gw.gate, gw.gate.room.Load()
			return metrics.Gateway{
				Ready:        gw.ready() == nil,
				Connections:  g.max(),
				Refused:      g.refusals(),
				MemoryUsed:   room.used,
				MemoryLimit:  room.limit,
				Rungs:        g.rungsByCause(),
				Sheddings:    g.sheddings.Load(),
				PolicyLoaded: time.Unix(0, gw.counts.policyLoaded.Load()),
				Reloads:      []metrics.Reloads{gw.counts.config.as("config"), gw.counts.policy.as("policy"), gw.counts.trust.as("trust"), gw.counts.authority.as("authority")},
			}
		},
	})
}

// targets says how those fare that the log is shipped to.
func (gw *gateway) targets() []ship.Status {
	if s := gw.shipper.Load(); s != nil {
		return s.Status()
	}
	return nil
}
