package packaging

import (
	"fmt"
	"strings"
)

// configPage is framegate.toml(5), made of the commented configuration that the
// package installs, so that page and file cannot differ: a paragraph of comments
// is about the keys that follow it at once, or else about its section.
func configPage(config []byte, r Release) ([]byte, error) {
	var p page
	p.begin("framegate.toml", 5, r)
	p.section("NAME")
	p.WriteString("framegate.toml \\- configuration of framegate\n")
	p.section("DESCRIPTION")
	p.text("What follows is the text of the file that the package installs.")
	p.WriteString(".PP\n")

	var comment, keys []string
	flush := func() {
		for i, key := range keys {
			if i == 0 {
				p.item(bold(key))
			} else {
				p.WriteString(".TQ\n" + bold(key) + "\n")
			}
		}
		if len(comment) > 0 {
			p.text(capital(strings.Join(comment, "\n")))
			if len(keys) == 0 {
				p.WriteString(".PP\n")
			}
		} else if len(keys) > 0 {
			p.WriteString("\\&\n") // a tag without a text would take the next one's
		}
		comment, keys = nil, nil
	}
	for i, line := range strings.Split(string(config), "\n") {
		line = strings.TrimSpace(line)
		switch name, isSection := strings.CutPrefix(line, "["); {
		case line == "":
			flush()
		case strings.HasPrefix(line, "#"):
			if len(keys) > 0 {
				flush()
			}
			comment = append(comment, strings.TrimPrefix(strings.TrimPrefix(line, "#"), " "))
		case isSection:
			flush()
			p.section("THE SECTION [" + escape(strings.TrimSuffix(name, "]")) + "]")
		case strings.Contains(line, "="):
			keys = append(keys, strings.Join(strings.Fields(line), " "))
		default:
			return nil, fmt.Errorf("configuration, line %d: %q is no key of one line", i+1, line)
		}
	}
	flush()

	p.section("FILES")
	p.item("/etc/framegate/framegate.toml")
	p.text("The default file. It may be absent.")
	p.section("SEE ALSO")
	p.WriteString(reference("framegate", "1") + ",\n" + reference("framegate-run", "1") + ",\n" + reference("framegate-doctor", "1") + "\n")
	return []byte(p.String()), nil
}
