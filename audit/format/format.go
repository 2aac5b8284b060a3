// Package format writes records of the audit log in the words of other systems:
// CSV for spreadsheets, and for SIEMs the Elastic Common Schema, the Open
// Cybersecurity Schema Framework and the Common Event Format. It only
// translates; what chooses and orders records is package audit.
//
// # What is kept
//
// docs/AUDIT-QUERY.md has a table for each format, and a test holds it to the
// tables here. What a schema has a place for goes there, all else under a name
// of our own (framegate.* in ECS, unmapped.* in OCSF, framegate* in CEF), with
// one exception: a recorded payload stays in the log. Whoever wants it reads
// the record itself, or takes [Parquet], which is no format of lines.
//
// Every format is for reading elsewhere, none is proof of anything: the log is
// the record, and its seq is in every line.
//
// # Sources
//
//   - CSV: RFC 4180; OWASP ASVS 5.0 requirement 1.2.10 for what spreadsheets
//     take for a formula
//   - ECS: generated/csv/fields.csv of elastic/ecs, version 8.12
//   - OCSF: events, objects and profiles of ocsf/ocsf-schema, version 1.6.0
//   - Parquet: the format's LogicalTypes.md; parquet-go writes it
//   - CEF: Micro Focus (ArcSight) Common Event Format, version 25, of which the
//     list of keys is Microsoft's (CEF and CommonSecurityLog field mapping)
//
// # One line is one record
//
// Every string of a record may be of somebody outside. What is not printable is
// escaped in each format's own way, so that a line stays a line, a cell a cell
// and a key a key, and nothing reaches a terminal.
package format

import (
	"fmt"
	"slices"
	"strings"

	"framegate/audit"
)

// A Format turns a record into one line. It is safe for concurrent use.
type Format struct {
	header string
	append func(b []byte, r *audit.Record) []byte
}

// formats has a function for each name, which gets the version of the program.
var formats = map[string]func(version string) *Format{
	"csv":  newCSV,
	"ecs":  newECS,
	"ocsf": newOCSF,
	"cef":  newCEF,
}

// Names are the formats that New knows, sorted.
func Names() []string {
	var names []string
	for name := range formats {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// New returns the format of a name. version is that of the program which is
// named as the origin of the records.
func New(name, version string) (*Format, error) {
	f, ok := formats[name]
	if !ok {
		return nil, fmt.Errorf("unknown format %q: expected %s", name, strings.Join(Names(), ", "))
	}
	return f(version), nil
}

// Header is what comes before the first record, with its newline, or "".
func (f *Format) Header() string { return f.header }

// Append appends the line of a record, with its newline.
func (f *Format) Append(b []byte, r *audit.Record) []byte {
	return append(f.append(b, r), '\n')
}
