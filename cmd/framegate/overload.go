package main

import (
	"context"

	"framegate/audit"
)

// watchRoom has the gate look after itself until living is done: what changes is
// recorded, and when memory is short what can be made again is dropped.
func (gw *gateway) watchRoom(accepting, living context.Context) {
	// A log that cannot be written holds up who records. The console has it all.
	changes := make(chan string, 16)
	gw.gate.changed = func(reason string) {
		select {
		case changes <- reason:
		default:
		}
	}
	gw.gate.shed = func() {
		gw.authority.Load().Shed()
		gw.proxy.Shed()
	}
	go gw.recordOverload(living, changes)
	gw.gate.start(accepting, living)
}

func (gw *gateway) recordOverload(ctx context.Context, changes <-chan string) {
	for {
		select {
		case <-ctx.Done():
			return
		case reason := <-changes:
			gw.log.Record(gw.policy.event(audit.GatewayOverload, reason))
		}
	}
}
