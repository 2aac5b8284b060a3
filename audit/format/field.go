package format

import (
	"cmp"
	"net/netip"
	"time"

	"framegate/audit"
)

// A field is one entry of a mapping: a name in the other schema and what a
// record has for it. The value is nil if it has nothing, else a string, an
// int64, a bool, a []string or a time.Time.
type field struct {
	name  string
	value func(r *audit.Record) any
}

// text, number and list are the values of a field, nil for the zero value.
func text(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func number[T int | int64 | uint64 | uint16](n T) any {
	if n == 0 {
		return nil
	}
	return int64(n)
}

func list(values ...string) any {
	var kept []string
	for _, s := range values {
		if s != "" {
			kept = append(kept, s)
		}
	}
	if kept == nil {
		return nil
	}
	return kept
}

// always is the value of a field that is the same in all records.
func always(v any) func(*audit.Record) any { return func(*audit.Record) any { return v } }

// of is the field of a record that is a string.
func of(get func(r *audit.Record) string) func(*audit.Record) any {
	return func(r *audit.Record) any { return text(get(r)) }
}

// instant is a time as in a record: RFC 3339 in UTC with nine digits.
func instant(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000000000Z") }

// address and port are the parts of an address:port, "" and 0 if it is none. A
// zone has a meaning on the gateway only.
func address(s string) string {
	a, err := netip.ParseAddrPort(s)
	if err != nil {
		return ""
	}
	return a.Addr().WithZone("").String()
}

func port(s string) uint16 {
	a, err := netip.ParseAddrPort(s)
	if err != nil {
		return 0
	}
	return a.Port()
}

// hostOf is the server's name.
func hostOf(r *audit.Record) string { return cmp.Or(r.Host, r.SNI) }

// measured says whether the record has size, wire_size, frames and compressed,
// which come together.
func measured(r *audit.Record) bool { return r.Size != 0 || r.WireSize != 0 || r.Frames != 0 }

// denied says whether something was kept from its destination.
func denied(r *audit.Record) bool {
	switch r.Action {
	case "drop", "close", "block":
		return true
	}
	return r.Event == audit.WSViolation
}

// hit says whether a rule about messages matched, in earnest or in shadow mode.
func hit(r *audit.Record) bool {
	return (r.Event == audit.WSMessage || r.Event == audit.WSControl) && len(r.Rules)+len(r.Shadow) > 0
}

// loaded and rejected say whether something else than before was put in force,
// and whether it was refused.
func loaded(r *audit.Record) bool {
	return r.Event == audit.ConfigLoad || r.Event == audit.PolicyLoad || r.Event == audit.TrustLoad || r.Event == audit.CALoad
}

func rejected(r *audit.Record) bool {
	return r.Event == audit.ConfigReject || r.Event == audit.PolicyReject || r.Event == audit.TrustReject || r.Event == audit.CAReject ||
		r.Event == audit.GatewayHandover && r.Action == "failed"
}

// outcome is success, failure or unknown, seen from whoever wanted the thing.
func outcome(r *audit.Record) any {
	switch {
	case denied(r), rejected(r), r.Event == audit.TLSFail, r.Event == audit.AuditGap, r.Event == audit.AuditUnshipped,
		r.State == audit.StateFailed, r.State == audit.StateBlocked:
		return "failure"
	case r.Action != "", r.State != "", loaded(r), r.Event == audit.CAIssue, r.Event == audit.AuditExpire:
		return "success"
	}
	return "unknown"
}

// expired and unshipped are those objects of a record in one value, as JSON.
func expired(r *audit.Record) any {
	if r.Expired == nil {
		return nil
	}
	return inJSON(r.Expired)
}

func unshipped(r *audit.Record) any {
	if r.Unshipped == nil {
		return nil
	}
	return inJSON(r.Unshipped)
}

func inJSON(v any) any {
	s, err := marshalled(v)
	if err != nil {
		return nil // a time that RFC 3339 does not have
	}
	return s
}

// objects are the fields of the same, each with a name of its own.
func objects(prefix string) []field {
	x := func(name string, get func(x *audit.Expired) any) field {
		return field{prefix + "expired." + name, func(r *audit.Record) any {
			if r.Expired == nil {
				return nil
			}
			return get(r.Expired)
		}}
	}
	u := func(name string, get func(u *audit.Unshipped) any) field {
		return field{prefix + "unshipped." + name, func(r *audit.Record) any {
			if r.Unshipped == nil {
				return nil
			}
			return get(r.Unshipped)
		}}
	}
	return []field{
		x("by", func(x *audit.Expired) any { return text(x.By) }),
		x("first_block", func(x *audit.Expired) any { return int64(x.FirstBlock) }),
		x("last_block", func(x *audit.Expired) any { return int64(x.LastBlock) }),
		x("first_seq", func(x *audit.Expired) any { return int64(x.FirstSeq) }),
		x("last_seq", func(x *audit.Expired) any { return int64(x.LastSeq) }),
		x("count", func(x *audit.Expired) any { return int64(x.Count) }),
		x("bytes", func(x *audit.Expired) any { return x.Bytes }),
		x("missing", func(x *audit.Expired) any { return number(x.Missing) }),
		x("from", func(x *audit.Expired) any { return instant(x.From) }),
		x("to", func(x *audit.Expired) any { return instant(x.To) }),
		u("target", func(u *audit.Unshipped) any { return text(u.Target) }),
		u("count", func(u *audit.Unshipped) any { return u.Count }),
		u("from", func(u *audit.Unshipped) any { return int64(u.From) }),
		u("to", func(u *audit.Unshipped) any { return int64(u.To) }),
	}
}

// bytesOf is what a record says of the bytes in a direction: the totals of a
// connection, or the frames of a message.
func bytesOf(r *audit.Record, dir string) any {
	switch {
	case r.Totals != nil && dir == toServer:
		return r.Totals.ToServer.Bytes
	case r.Totals != nil:
		return r.Totals.ToClient.Bytes
	case r.Dir == dir && measured(r):
		return r.WireSize
	}
	return nil
}

const (
	toServer = "to-server"
	toClient = "to-client"
)
