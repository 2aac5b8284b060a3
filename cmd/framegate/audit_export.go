package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"framegate/audit"
	"framegate/audit/format"
)

// An exporter writes records in another format.
type exporter interface {
	record(r *audit.Record) error
	close() error // completes what was begun; nothing is closed
}

// exporters are the formats that have payloads, each with how it begins.
var exporters = []struct {
	name string
	open func(w io.Writer, p *payloadSource) (exporter, error)
}{
	{"har", newHARExport},
	{"pcapng", newPacketExport},
	{"parquet", newParquetExport},
}

func exportNames() string {
	var names []string
	for _, e := range exporters {
		names = append(names, e.name)
	}
	return strings.Join(names, "|")
}

func auditExport(g *globals, dir *string) *cobra.Command {
	var s selection
	var name, out string
	var identities []string
	cmd := &cobra.Command{
		Use:   "export --format " + exportNames() + " [--out FILE]",
		Short: "Write records with their payloads for browsers, Wireshark and databases",
		Long: "Write the records that match all of the filters, with the payloads that the log has:\n" +
			"har for the developer tools of browsers, pcapng for Wireshark and tshark, parquet for\n" +
			"DuckDB, ClickHouse and Spark. What is written holds the payloads in plain text.\n" +
			"The log is only read. See docs/AUDIT-EXPORT.md.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			begin := exporterOf(name)
			if begin == nil {
				return usage(fmt.Errorf("--format: got %q, expected %s", name, strings.ReplaceAll(exportNames(), "|", ", ")))
			}
			f, err := s.filter(time.Now())
			if err != nil {
				return err
			}
			r, err := g.log(cmd, *dir, f)
			if err != nil {
				return err
			}
			if err := sayBeginning(cmd, r.Dir(), "", f); err != nil {
				return err
			}
			payloads, err := audit.OpenPayloads(r.Dir(), identities...)
			if err != nil {
				return usage(fmt.Errorf("--identity: %w", err))
			}
			p := &payloadSource{payloads: payloads, stderr: cmd.ErrOrStderr()}
			if out == "" {
				err = export(cmd.Context(), cmd.OutOrStdout(), r.Records(), begin, p)
			} else {
				err = exportTo(out, func(w io.Writer) error { return export(cmd.Context(), w, r.Records(), begin, p) })
			}
			p.tell(err == nil || errors.Is(err, errDamaged))
			return err
		},
	}
	s.flags(cmd)
	flags := cmd.Flags()
	flags.StringVar(&name, "format", "", "write `"+exportNames()+"`")
	flags.StringVar(&out, "out", "", "write to `file`, which is there once it is whole, instead of stdout")
	flags.StringArrayVar(&identities, "identity", nil, "`file` of age identities that open payloads; may be repeated")
	return cmd
}

func exporterOf(name string) func(io.Writer, *payloadSource) (exporter, error) {
	for _, e := range exporters {
		if e.name == name {
			return e.open
		}
	}
	return nil
}

// errDamaged says that something is missing of what was asked for.
var errDamaged = errors.New("the log is damaged, some records or payloads are missing from what was written")

// export writes what is sound. Damage is told where it is met, and makes the
// command fail in the end; an interrupt ends it.
func export(ctx context.Context, w io.Writer, records iter.Seq2[audit.Record, error], begin func(io.Writer, *payloadSource) (exporter, error), p *payloadSource) error {
	b := bufio.NewWriterSize(w, 256<<10)
	x, err := begin(b, p)
	if err != nil {
		return err
	}
	for r, err := range records {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		var damage *audit.DamageError
		if errors.As(err, &damage) {
			p.damaged = true
			printError(p.stderr, err)
			continue
		} else if err != nil {
			return err
		}
		p.records++
		if err := x.record(&r); err != nil {
			return err
		}
	}
	if err := errors.Join(x.close(), b.Flush()); err != nil {
		return err
	}
	if p.damaged {
		return errDamaged
	}
	return nil
}

// exportTo writes beside name and renames: a file of this name is whole, but for
// damage in the log. It holds payloads, so nobody else may read it.
func exportTo(name string, write func(io.Writer) error) error {
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".tmp*") // mode 0600
	if err != nil {
		return usage(fmt.Errorf("--out: %w", err))
	}
	defer os.Remove(f.Name()) // no more there, if all went well
	damaged := write(f)
	if damaged != nil && !errors.Is(damaged, errDamaged) {
		f.Close()
		return damaged
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), name); err != nil {
		return err
	}
	return damaged
}

// A payloadSource looks up payloads, and counts what was met.
type payloadSource struct {
	payloads *audit.Payloads
	stderr   io.Writer
	damaged  bool
	records  int64
	missing  map[string]int64 // messages without a payload, by the reason
}

// A body is what there is of a message.
type body struct {
	data     []byte
	missing  string // why there is no data
	redacted bool   // data is not what was sent
}

// of returns the payload of a message as it was recorded.
func (p *payloadSource) of(r *audit.Record) body {
	if r.Size == 0 && r.Frames > 0 {
		return body{data: []byte{}} // nothing was sent, so nothing is missing
	}
	data, err := p.payloads.Of(r)
	if err == nil {
		sum := sha256.Sum256(data)
		return body{data: data, redacted: int64(len(data)) != r.Size || r.SHA256 != "" && r.SHA256 != hex.EncodeToString(sum[:])}
	}
	var b body
	switch {
	case errors.Is(err, audit.ErrNoPayload), errors.Is(err, audit.ErrErased), errors.Is(err, audit.ErrSealed):
		b.missing = err.Error()
		if r.PayloadOmitted != "" {
			b.missing += " (" + r.PayloadOmitted + ")"
		}
	default:
		p.damaged = true
		printError(p.stderr, err)
		b.missing = "the payload is damaged"
	}
	if p.missing == nil {
		p.missing = make(map[string]int64)
	}
	p.missing[b.missing]++
	return b
}

// tell says what was written, and what of it has no payload.
func (p *payloadSource) tell(done bool) {
	if !done {
		return
	}
	say(p.stderr, "%s read", counted(p.records, "record"))
	for reason, n := range p.missing {
		say(p.stderr, "without payload, %s: %s", counted(n, "message"), reason)
	}
}

// newParquetExport writes all records, whatever they are of.
func newParquetExport(w io.Writer, p *payloadSource) (exporter, error) {
	return &parquetExport{format.NewParquet(w, currentBuild().Version), p}, nil
}

type parquetExport struct {
	out      *format.Parquet
	payloads *payloadSource
}

func (x *parquetExport) record(r *audit.Record) error {
	var b body
	if r.Event == audit.WSMessage || r.Event == audit.WSControl {
		b = x.payloads.of(r)
	}
	return x.out.Write(r, format.Payload{Data: b.data, Missing: b.missing, Redacted: b.redacted})
}

func (x *parquetExport) close() error { return x.out.Close() }
