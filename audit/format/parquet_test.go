package format

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"

	"framegate/audit"
)

func parquetOf(t testing.TB, records []audit.Record, payloads []Payload) []byte {
	t.Helper()
	var b bytes.Buffer
	return grouped(t, &b, NewParquet(&b, "v1"), records, payloads)
}

func grouped(t testing.TB, b *bytes.Buffer, p *Parquet, records []audit.Record, payloads []Payload) []byte {
	t.Helper()
	for i := range records {
		if err := p.Write(&records[i], payloads[i]); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func rowsOf(t testing.TB, file []byte) []parquetRow {
	t.Helper()
	r := parquet.NewGenericReader[parquetRow](bytes.NewReader(file))
	defer r.Close()
	rows := make([]parquetRow, r.NumRows())
	if n, err := r.Read(rows); n != len(rows) || err != nil && !errors.Is(err, io.EOF) {
		t.Fatalf("%d of %d rows: %v", n, len(rows), err)
	}
	return rows
}

// Every key of a record has its column, and what is absent is NULL.
func TestParquet(t *testing.T) {
	full := `{"seq":18446744073709551615,"time":"2026-01-02T15:04:05.123456789Z","event":"ws.message","conn":"c-1","dir":"to-server",` +
		`"opcode":"text","size":0,"wire_size":6,"frames":1,"compressed":false,"sha256":"ab","rules":["a","b"],"action":"log","policy":"p",` +
		`"client":"10.0.0.7:40000","server":"[2001:db8::1]:443","sni":"s.example","host":"h.example","path":"/x","subprotocol":"sub",` +
		`"code":1000,"reason":"why","method":"GET","shadow":["c"],"state":"inspected","evidence":"81",` +
		`"totals":{"to_server":{"messages":1,"bytes":2,"sha256":"cd"},"to_client":{"messages":0,"bytes":0}},` +
		`"gap":{"count":3,"bytes":4,"since":"2026-01-02T00:00:00Z"},"expired":{"by":"keep"},"unshipped":{"target":"t"}}`
	var records []audit.Record
	for _, line := range []string{full, `{"seq":1,"time":"2026-01-02T15:04:05.000000000Z","event":"gateway.start"}`} {
		r := audit.Record{Raw: []byte(line)}
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(err)
		}
		records = append(records, r)
	}
	file := parquetOf(t, records, []Payload{{Data: []byte("\xff"), Redacted: true}, {Missing: "gone"}})
	var got []string
	for _, row := range rowsOf(t, file) {
		b, err := json.Marshal(row)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, string(b))
	}
	want := []string{
		`{"Seq":18446744073709551615,"Time":1767366245123456789,"Event":"ws.message","Conn":"c-1","Dir":"to-server","Opcode":"text",` +
			`"Size":0,"WireSize":6,"Frames":1,"Compressed":false,"SHA256":"ab","Rules":["a","b"],"Action":"log","Policy":"p",` +
			`"Client":"10.0.0.7:40000","ClientIP":"10.0.0.7","ClientPort":40000,"Server":"[2001:db8::1]:443","ServerIP":"2001:db8::1","ServerPort":443,` +
			`"SNI":"s.example","Host":"h.example","Path":"/x","Protocol":"sub","Code":1000,"Reason":"why","Method":"GET","Shadow":["c"],` +
			`"State":"inspected","Evidence":"81","ToServerMessages":1,"ToServerBytes":2,"ToServerSHA256":"cd","ToClientMessages":0,"ToClientBytes":0,"ToClientSHA256":"",` +
			`"GapCount":3,"GapBytes":4,"GapSince":1767312000000000000,"Expired":"{\"by\":\"keep\",\"first_block\":0,\"last_block\":0,\"first_seq\":0,\"last_seq\":0,\"count\":0,\"bytes\":0,\"from\":\"0001-01-01T00:00:00Z\",\"to\":\"0001-01-01T00:00:00Z\"}","Unshipped":"{\"target\":\"t\",\"count\":0,\"from\":0,\"to\":0}","Payload":"/w==","PayloadMissing":"","PayloadRedacted":true}`,
		`{"Seq":1,"Time":1767366245000000000,"Event":"gateway.start","Conn":"","Dir":"","Opcode":"","Size":null,"WireSize":null,"Frames":null,` +
			`"Compressed":null,"SHA256":"","Rules":[],"Action":"","Policy":"","Client":"","ClientIP":"","ClientPort":null,"Server":"","ServerIP":"","ServerPort":null,` +
			`"SNI":"","Host":"","Path":"","Protocol":"","Code":null,"Reason":"","Method":"","Shadow":[],"State":"","Evidence":"",` +
			`"ToServerMessages":null,"ToServerBytes":null,"ToServerSHA256":"","ToClientMessages":null,"ToClientBytes":null,"ToClientSHA256":"",` +
			`"GapCount":null,"GapBytes":null,"GapSince":null,"Expired":"","Unshipped":"","Payload":null,"PayloadMissing":"gone","PayloadRedacted":null}`,
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("row %d:\n got %s\nwant %s", i, got[i], want[i])
		}
	}
}

// A key that records get later needs a column.
func TestParquetHasEveryKey(t *testing.T) {
	columns := map[string]bool{}
	for _, path := range parquet.SchemaOf(parquetRow{}).Columns() {
		columns[path[0]] = true
	}
	row := reflect.TypeFor[audit.Record]()
	for i := range row.NumField() {
		key, _, _ := strings.Cut(row.Field(i).Tag.Get("json"), ",")
		elsewhere := []string{"-", "totals", "gap", "payload_b64", "payload_sealed", "payload_omitted"}
		if !columns[key] && !slices.Contains(elsewhere, key) {
			t.Errorf("the record's key %s has no column", key)
		}
	}
}

// Rows are written in groups, by number and by size.
func TestParquetGroups(t *testing.T) {
	var many []audit.Record
	for i := range 1010 {
		many = append(many, audit.Record{Seq: uint64(i + 1), Time: time.Unix(0, int64(i)), Event: audit.WSMessage})
	}
	big := Payload{Data: make([]byte, 5001)}
	for name, test := range map[string]struct {
		records  []audit.Record
		payloads []Payload
		groups   []int64
	}{
		"none":      {nil, nil, nil},
		"by number": {many, make([]Payload, len(many)), []int64{1000, 10}},
		"by size":   {many[:3], []Payload{big, big, big}, []int64{2, 1}},
	} {
		var buf bytes.Buffer
		p := NewParquet(&buf, "v1")
		p.maxRows, p.maxSize = 1000, 10_000
		b := grouped(t, &buf, p, test.records, test.payloads)
		f, err := parquet.OpenFile(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatal(name, err)
		}
		var groups []int64
		for _, g := range f.RowGroups() {
			groups = append(groups, g.NumRows())
		}
		if !slices.Equal(groups, test.groups) {
			t.Errorf("%s: groups of %v rows, want %v", name, groups, test.groups)
		}
	}
}

func TestNanoseconds(t *testing.T) {
	for in, want := range map[time.Time]int64{
		time.Unix(1, 5): 1e9 + 5,
		{}:              math.MinInt64,
		time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC): math.MaxInt64,
	} {
		if got := nanoseconds(in); got != want {
			t.Errorf("%v: %d, want %d", in, got, want)
		}
	}
}

// FuzzParquet holds the writer against the reader, whatever a record says.
func FuzzParquet(f *testing.F) {
	f.Add(uint64(7), "ws.message", "c-1", "rule\x00", []byte("payload"), "")
	f.Add(uint64(0), "", "\xff", "", []byte{}, "erased")
	f.Fuzz(func(t *testing.T, seq uint64, event, conn, rule string, data []byte, missing string) {
		r := audit.Record{Seq: seq, Event: event, Conn: conn, Rules: []string{rule, conn}, Client: rule, Time: time.Unix(0, int64(seq>>1))}
		rows := rowsOf(t, parquetOf(t, []audit.Record{r, r}, []Payload{{Data: data}, {Missing: missing}}))
		one, two := rows[0], rows[1]
		if one.Seq != seq || one.Event != event || one.Conn != conn || !slices.Equal(one.Rules, r.Rules) || one.Client != rule ||
			one.Time != int64(seq>>1) || two.Payload != nil || two.PayloadMissing != missing {
			t.Fatalf("%+v, %+v", one, two)
		}
		if (one.Payload != nil) != (data != nil) || data != nil && !bytes.Equal(*one.Payload, data) {
			t.Fatalf("payload %v, want %q", one.Payload, data)
		}
	})
}
