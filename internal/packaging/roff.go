package packaging

import (
	"fmt"
	"strings"
)

// A page is a manual page in the making, in the language of man(7).
type page struct{ strings.Builder }

// begin writes the title line. Its fields are quoted, as groff_man(7) asks for.
func (p *page) begin(name string, section int, r Release) {
	fmt.Fprintf(p, ".TH %q \"%d\" %q %q %q\n", strings.ToUpper(name), section,
		r.Date.UTC().Format("2006-01-02"), "framegate "+r.Version, "framegate")
	p.WriteString(".nh\n.ad l\n") // options and paths are not to be hyphenated or spread
}

func (p *page) section(title string) { fmt.Fprintf(p, ".SH %s\n", title) }

// item begins the description of something: a tagged paragraph.
func (p *page) item(tag string) { fmt.Fprintf(p, ".TP\n%s\n", tag) }

// text writes what was written for a terminal: lines that begin with a space are
// kept as they are, others are filled, and an empty line ends a paragraph.
func (p *page) text(s string) {
	lines := strings.Split(strings.TrimRight(s, "\n"), "\n")
	kept, empty := false, false
	for _, line := range lines {
		indented := strings.HasPrefix(line, " ") || strings.HasPrefix(line, "\t")
		switch {
		case strings.TrimSpace(line) == "":
			empty = true
			continue
		case indented && !kept:
			p.WriteString(".PP\n.RS 4\n.nf\n")
		case !indented && kept:
			p.WriteString(".fi\n.RE\n.PP\n")
		case empty && kept:
			p.WriteString("\n") // an empty line is one where lines are kept
		case empty:
			p.WriteString(".PP\n")
		}
		kept, empty = indented, false
		p.WriteString(escape(strings.TrimPrefix(line, "  ")) + "\n")
	}
	if kept {
		p.WriteString(".fi\n.RE\n")
	}
}

// special are the characters that roff would change: a backslash escapes, the
// others become typographic ones, which nobody can paste into a shell. Between
// alternatives a line may break, without a hyphen.
var special = strings.NewReplacer(`\`, `\e`, `-`, `\-`, `'`, `\(aq`, "`", "\\`", `^`, `\(ha`, `~`, `\(ti`, `|`, `|\:`)

// escape returns s as one line of text: a dot or quote that begins it would make
// it a request.
func escape(s string) string {
	s = special.Replace(s)
	if strings.HasPrefix(s, ".") {
		s = `\&` + s
	}
	return s
}

func bold(s string) string   { return `\fB` + escape(s) + `\fP` }
func italic(s string) string { return `\fI` + escape(s) + `\fP` }
