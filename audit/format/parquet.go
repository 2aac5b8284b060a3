package format

import (
	"encoding/json"
	"io"
	"math"
	"time"

	"github.com/parquet-go/parquet-go"

	"framegate/audit"
)

// A Parquet writes records as an Apache Parquet file: one row for each, with a
// column for each key. What does not apply is NULL. It is for one goroutine.
//
// Unlike the formats of a line it has the payloads: it is for analysis, not for
// people's eyes, and nothing in it is escaped.
type Parquet struct {
	w     *parquet.GenericWriter[parquetRow]
	batch []parquetRow // not yet given to w, which takes many as fast as one
	rows  int          // in the row group that is being made, with these
	size  int          // bytes of strings in it

	maxRows, maxSize int // of a row group
}

// A Payload is what there is of a message.
type Payload struct {
	Data     []byte // nil: none
	Missing  string // why there is none
	Redacted bool   // Data is not what was sent
}

// A row group is what a writer keeps in memory and a reader reads at once. Many
// readers work on several; what is usual are 100,000 rows or so.
const (
	maxBatch     = 256
	maxRows      = 1 << 16
	maxGroupSize = 32 << 20
)

// A parquetRow is a record as columns. Strings that are few have a dictionary.
type parquetRow struct {
	Seq  uint64 `parquet:"seq,delta"`
	Time int64  `parquet:"time,timestamp(nanosecond)"` // in UTC

	Event      string   `parquet:"event,dict"`
	Conn       string   `parquet:"conn,optional,dict"`
	Dir        string   `parquet:"dir,optional,dict"`
	Opcode     string   `parquet:"opcode,optional,dict"`
	Size       *int64   `parquet:"size,optional"`
	WireSize   *int64   `parquet:"wire_size,optional"`
	Frames     *int64   `parquet:"frames,optional"`
	Compressed *bool    `parquet:"compressed,optional"`
	SHA256     string   `parquet:"sha256,optional"`
	Rules      []string `parquet:"rules,list"`
	Action     string   `parquet:"action,optional,dict"`
	Policy     string   `parquet:"policy,optional,dict"`
	Client     string   `parquet:"client,optional,dict"`
	ClientIP   string   `parquet:"client_ip,optional,dict"`
	ClientPort *uint16  `parquet:"client_port,optional"`
	Server     string   `parquet:"server,optional,dict"`
	ServerIP   string   `parquet:"server_ip,optional,dict"`
	ServerPort *uint16  `parquet:"server_port,optional"`
	SNI        string   `parquet:"sni,optional,dict"`
	Host       string   `parquet:"host,optional,dict"`
	Path       string   `parquet:"path,optional,dict"`
	Protocol   string   `parquet:"subprotocol,optional,dict"`
	Code       *int32   `parquet:"code,optional"`
	Reason     string   `parquet:"reason,optional"`
	Method     string   `parquet:"method,optional,dict"`
	Shadow     []string `parquet:"shadow,list"`
	State      string   `parquet:"state,optional,dict"`
	Evidence   string   `parquet:"evidence,optional"`

	ToServerMessages *int64 `parquet:"to_server_messages,optional"`
	ToServerBytes    *int64 `parquet:"to_server_bytes,optional"`
	ToServerSHA256   string `parquet:"to_server_sha256,optional"`
	ToClientMessages *int64 `parquet:"to_client_messages,optional"`
	ToClientBytes    *int64 `parquet:"to_client_bytes,optional"`
	ToClientSHA256   string `parquet:"to_client_sha256,optional"`

	GapCount *int64 `parquet:"gap_count,optional"`
	GapBytes *int64 `parquet:"gap_bytes,optional"`
	GapSince *int64 `parquet:"gap_since,optional,timestamp(nanosecond)"`

	// Rare, and in JSON as in the record.
	Expired   string `parquet:"expired,optional"`
	Unshipped string `parquet:"unshipped,optional"`

	Payload         *[]byte `parquet:"payload,optional"`
	PayloadMissing  string  `parquet:"payload_missing,optional,dict"`
	PayloadRedacted *bool   `parquet:"payload_redacted,optional"`
}

// NewParquet begins a file. version is that of the program.
func NewParquet(w io.Writer, version string) *Parquet {
	return &Parquet{maxRows: maxRows, maxSize: maxGroupSize, w: parquet.NewGenericWriter[parquetRow](w,
		parquet.Compression(&parquet.Zstd),
		parquet.CreatedBy("framegate", version, ""),
		parquet.KeyValueMetadata("framegate.format", "1"),
	)}
}

// Write adds a record and what there is of its payload.
func (p *Parquet) Write(r *audit.Record, payload Payload) error {
	row := parquetRow{
		Seq: r.Seq, Time: nanoseconds(r.Time), Event: r.Event, Conn: r.Conn, Dir: r.Dir, Opcode: r.Opcode,
		SHA256: r.SHA256, Rules: r.Rules, Action: r.Action, Policy: r.Policy,
		Client: r.Client, ClientIP: address(r.Client), ClientPort: some(port(r.Client)),
		Server: r.Server, ServerIP: address(r.Server), ServerPort: some(port(r.Server)),
		SNI: r.SNI, Host: r.Host, Path: r.Path, Protocol: r.Subprotocol, Code: some(int32(r.Code)),
		Reason: r.Reason, Method: r.Method, Shadow: r.Shadow, State: r.State, Evidence: r.Evidence,
		PayloadMissing: payload.Missing,
	}
	if measured(r) {
		frames := int64(r.Frames)
		row.Size, row.WireSize, row.Frames, row.Compressed = &r.Size, &r.WireSize, &frames, &r.Compressed
	}
	if t := r.Totals; t != nil {
		row.ToServerMessages, row.ToServerBytes, row.ToServerSHA256 = &t.ToServer.Messages, &t.ToServer.Bytes, t.ToServer.SHA256
		row.ToClientMessages, row.ToClientBytes, row.ToClientSHA256 = &t.ToClient.Messages, &t.ToClient.Bytes, t.ToClient.SHA256
	}
	if g := r.Gap; g != nil {
		row.GapCount, row.GapBytes = some(g.Count), some(g.Bytes)
		if !g.Since.IsZero() {
			row.GapSince = some(nanoseconds(g.Since))
		}
	}
	if payload.Data != nil {
		row.Payload, row.PayloadRedacted = &payload.Data, &payload.Redacted
	}
	var err error
	if r.Expired != nil {
		row.Expired, err = marshalled(r.Expired)
	}
	if r.Unshipped != nil && err == nil {
		row.Unshipped, err = marshalled(r.Unshipped)
	}
	if err != nil {
		return err
	}
	p.batch = append(p.batch, row)
	p.rows++
	p.size += len(payload.Data) + len(r.Raw)
	if p.rows >= p.maxRows || p.size >= p.maxSize {
		if err := p.flush(); err != nil {
			return err
		}
		p.rows, p.size = 0, 0
		return p.w.Flush()
	}
	if len(p.batch) == maxBatch {
		return p.flush()
	}
	return nil
}

func (p *Parquet) flush() error {
	_, err := p.w.Write(p.batch)
	clear(p.batch)
	p.batch = p.batch[:0]
	return err
}

func marshalled(v any) (string, error) {
	b, err := json.Marshal(v)
	return string(b), err
}

// Close completes the file.
func (p *Parquet) Close() error {
	if err := p.flush(); err != nil {
		return err
	}
	return p.w.Close()
}

// some is nil for the zero value, which a record does not have.
func some[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}

// nanoseconds is a time as far as 64 bits have it, else the nearest that they
// have, as in the header of a block.
func nanoseconds(t time.Time) int64 {
	switch {
	case t.Before(time.Unix(0, math.MinInt64)):
		return math.MinInt64
	case t.After(time.Unix(0, math.MaxInt64)):
		return math.MaxInt64
	}
	return t.UnixNano()
}
