package audit

import (
	"strings"
	"testing"
)

func TestLevel(t *testing.T) {
	hit := []string{"r"}
	tests := []struct {
		e    Event
		from Level // lowest that wants it
	}{
		{Event{Event: GatewayStart}, Connections},
		{Event{Event: GatewayStop}, Connections},
		{Event{Event: PolicyLoad}, Connections},
		{Event{Event: PolicyReject}, Connections},
		{Event{Event: ConnOpen}, Connections},
		{Event{Event: ConnBypass}, Connections},
		{Event{Event: ConnBlock}, Connections},
		{Event{Event: TLSFail}, Connections},
		{Event{Event: HTTPRequest}, Connections},
		{Event{Event: WSOpen}, Connections},
		{Event{Event: WSClose}, Connections},
		{Event{Event: ConnClose}, Connections},
		{Event{Event: AuditGap}, Connections},
		{Event{Event: "admin.login"}, Connections},
		{Event{Event: "not.known"}, Connections},
		{Event{Event: WSViolation}, Violations},
		{Event{Event: WSMessage, Rules: hit}, Violations},
		{Event{Event: WSMessage, Shadow: hit}, Violations},
		{Event{Event: WSMessage, Action: "drop"}, Violations},
		{Event{Event: WSControl, Rules: hit}, Violations},
		{Event{Event: WSMessage}, Messages},
		{Event{Event: WSMessage, Action: "allow"}, Messages},
		{Event{Event: WSControl}, Frames},
	}
	for _, tt := range tests {
		for l := Connections; l <= Frames; l++ {
			if got := l.Wants(&tt.e); got != (l >= tt.from) {
				t.Errorf("%v wants %+v: %v", l, tt.e, got)
			}
		}
		if Level(0).Wants(&tt.e) != Messages.Wants(&tt.e) {
			t.Errorf("zero level is not messages for %+v", tt.e)
		}
	}
}

func TestParseLevel(t *testing.T) {
	for l := Connections; l <= Frames; l++ {
		if got, err := ParseLevel(l.String()); got != l || err != nil {
			t.Errorf("%v: %v, %v", l, got, err)
		}
	}
	if _, err := ParseLevel("all\n"); err == nil || !strings.Contains(err.Error(), `"all\n"`) {
		t.Errorf("unknown level: %v", err)
	}
	if got := Level(99).String(); got != "Level(99)" {
		t.Error(got)
	}
}
