package ship

import (
	"log/slog"
	"testing"
	"time"
)

// benchmarkBatch is a full block of ordinary records.
func benchmarkBatch() *batch {
	b := &batch{seq: 1}
	for i, e := range events(700) {
		e.Msg.Payload, e.Time = nil, time.Unix(1e9, 0)
		b.records = append(e.AppendJSON(b.records, uint64(i+1)), '\n')
		b.count++
	}
	return b
}

// What the goroutine that writes the log pays for each block, and how fast one
// target renders.
func BenchmarkBlock(b *testing.B) {
	block := benchmarkBatch()
	s, err := New(Config{Records: make([]Target, 2), Queue: 1, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		s.Block(block.seq, block.count, block.records)
	}
}

func BenchmarkRender(b *testing.B) {
	block := benchmarkBatch()
	for name, render := range map[string]func() error{
		"syslog": func() error { _, err := (&syslogFormat{}).records(block); return err },
		"otlp":   func() error { _, err := (&otlpCarrier{format: &otlpFormat{}}).render(block); return err },
	} {
		b.Run(name, func(b *testing.B) {
			n := 0
			for b.Loop() {
				if err := render(); err != nil {
					b.Fatal(err)
				}
				n += block.count
			}
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "records/s")
		})
	}
}
