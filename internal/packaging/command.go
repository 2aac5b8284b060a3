package packaging

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// commands returns cmd and those below it that help shows, in its order.
func commands(cmd *cobra.Command) []*cobra.Command {
	list := []*cobra.Command{cmd}
	for _, child := range cmd.Commands() {
		if child.IsAvailableCommand() {
			list = append(list, commands(child)...)
		}
	}
	return list
}

func pageName(cmd *cobra.Command) string {
	return strings.ReplaceAll(cmd.CommandPath(), " ", "-")
}

// commandPage is the page of one command, in the order of sections that
// man-pages(7) recommends.
func commandPage(cmd *cobra.Command, r Release) []byte {
	var p page
	p.begin(pageName(cmd), 1, r)

	p.section("NAME")
	// apropos takes this line apart at the " \- ".
	p.WriteString(escape(pageName(cmd)) + ` \- ` + escape(uncapital(cmd.Short)) + "\n")

	p.section("SYNOPSIS")
	usage := cmd.UseLine()
	if cmd.HasAvailableSubCommands() {
		usage = cmd.CommandPath() + " COMMAND [flags]"
	}
	p.WriteString(synopsis(usage) + "\n")

	p.section("DESCRIPTION")
	if cmd.Long != "" {
		p.text(cmd.Long)
	} else {
		p.text(cmd.Short + ".")
	}

	if cmd.HasAvailableSubCommands() {
		p.section("COMMANDS")
		for _, child := range cmd.Commands() {
			if child.IsAvailableCommand() {
				p.item(bold(child.Name()))
				p.text(child.Short + ".")
			}
		}
	}
	p.flags("OPTIONS", cmd.NonInheritedFlags())
	p.flags("GENERAL OPTIONS", cmd.InheritedFlags())
	if cmd.Example != "" {
		p.section("EXAMPLES")
		p.text(cmd.Example)
	}
	// A command with codes of its own tells them in its description.
	if !cmd.HasAvailableSubCommands() && !strings.Contains(cmd.Long, "Exit") {
		p.section("EXIT STATUS")
		p.item("0")
		p.text("Done.")
		p.item("1")
		p.text("Failed, or found what it looks for.")
		p.item("2")
		p.text("The command line, the configuration or a precondition is at fault; nothing was changed.")
	}

	p.section("SEE ALSO")
	var also []string
	if cmd.HasParent() {
		also = append(also, reference(pageName(cmd.Parent()), "1"))
	}
	for _, child := range cmd.Commands() {
		if child.IsAvailableCommand() {
			also = append(also, reference(pageName(child), "1"))
		}
	}
	also = append(also, reference("framegate.toml", "5"))
	p.WriteString(strings.Join(also, ",\n") + "\n")
	p.WriteString(".PP\n/usr/share/doc/framegate has the guides.\n")
	return []byte(p.String())
}

// flags lists flags, each with what --help says of it.
func (p *page) flags(title string, flags *pflag.FlagSet) {
	if !flags.HasAvailableFlags() {
		return
	}
	p.section(title)
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		value, usage := pflag.UnquoteUsage(f)
		tag := bold("--" + f.Name)
		if f.Shorthand != "" {
			tag = bold("-"+f.Shorthand) + ", " + tag
		}
		if value != "" {
			tag += " " + italic(value)
		}
		p.item(tag)
		if !slices.Contains([]string{"", "0", "0s", "false", "[]"}, f.DefValue) {
			usage += " (default: " + f.DefValue + ")"
		}
		p.text(capital(usage) + ".")
	})
}

func reference(name, section string) string { return bold(name) + "(" + section + ")" }

// synopsis renders a usage line: what is typed as it is in bold, what stands for
// something else in italics.
func synopsis(usage string) string {
	fields := strings.Fields(usage)
	for i, f := range fields {
		bare := strings.Trim(f, "[].|")
		switch {
		case bare == "" || f == "[flags]":
			fields[i] = escape(f)
		case strings.ToUpper(bare) == bare && strings.ContainsFunc(bare, unicode.IsLetter):
			fields[i] = strings.Replace(escape(f), escape(bare), italic(bare), 1)
		default:
			fields[i] = strings.Replace(escape(f), escape(bare), bold(bare), 1)
		}
	}
	return strings.Join(fields, " ")
}

func capital(s string) string {
	r, n := utf8.DecodeRuneInString(s)
	return string(unicode.ToUpper(r)) + s[n:]
}

// uncapital spares a word such as JSON.
func uncapital(s string) string {
	r, n := utf8.DecodeRuneInString(s)
	if next, _ := utf8.DecodeRuneInString(s[n:]); unicode.IsUpper(next) {
		return s
	}
	return string(unicode.ToLower(r)) + s[n:]
}
