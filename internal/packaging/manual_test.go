package packaging

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
)

var aRelease = Release{Version: "v1.0.0", Date: time.Unix(1700000000, 0)}

// tree is a small program.
func tree() *cobra.Command {
	run := func(*cobra.Command, []string) {}
	root := &cobra.Command{Use: "gate", Short: "A gate"}
	root.PersistentFlags().String("config", "/etc/gate", "configuration `file`")
	child := &cobra.Command{Use: "open [-w] FILE...", Short: "JSON is opened", Run: run,
		Long:    "First line.\nSecond line.\n\n.SH is no section, 'a' and \\fB are no macros.\n\n  kept --as it is\n    and so\n\nThe end.",
		Example: "  gate open x --wait 3s"}
	child.Flags().DurationP("wait", "w", 0, "wait for so `long|longer`")
	child.Flags().Bool("secret", false, "not for you")
	child.Flags().MarkHidden("secret")
	root.AddCommand(child, &cobra.Command{Use: "hidden", Hidden: true, Run: run})
	return root
}

func TestCommandPage(t *testing.T) {
	root := tree()
	root.InitDefaultHelpFlag()
	list := commands(root)
	if len(list) != 2 {
		t.Fatalf("%d commands", len(list))
	}
	got := string(commandPage(list[1], aRelease))
	for _, want := range []string{
		".TH \"GATE-OPEN\" \"1\" \"2023-11-14\" \"framegate v1.0.0\" \"framegate\"\n",
		".SH NAME\ngate\\-open \\- JSON is opened\n",
		"\\fBgate\\fP \\fBopen\\fP [\\fB\\-w\\fP] \\fIFILE\\fP... [flags]\n",
		"First line.\nSecond line.\n.PP\n\\&.SH is no section, \\(aqa\\(aq and \\efB are no macros.\n",
		".PP\n.RS 4\n.nf\nkept \\-\\-as it is\n  and so\n.fi\n.RE\n.PP\nThe end.\n",
		".TP\n\\fB\\-w\\fP, \\fB\\-\\-wait\\fP \\fIlong|\\:longer\\fP\nWait for so long|\\:longer.\n",
		"\\fB\\-\\-config\\fP \\fIfile\\fP\nConfiguration file (default: /etc/gate).\n",
		".SH EXAMPLES\n.PP\n.RS 4\n.nf\ngate open x \\-\\-wait 3s\n.fi\n.RE\n",
		".SH EXIT STATUS\n", "\\fBgate\\fP(1)",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if strings.Contains(got, "secret") {
		t.Error("the page shows a hidden flag")
	}
	if t.Failed() {
		t.Log(got)
	}
	if got := string(commandPage(root, aRelease)); !strings.Contains(got, ".SH COMMANDS\n.TP\n\\fBopen\\fP\nJSON is opened.\n") || strings.Contains(got, "hidden") {
		t.Errorf("the page of the program:\n%s", got)
	}
}

// framegate.toml(5) has every line of the file that people see: each comment and
// each key.
func TestConfigPage(t *testing.T) {
	config, err := os.ReadFile("../../examples/framegate.toml")
	if err != nil {
		t.Fatal(err)
	}
	page, err := configPage(config, aRelease)
	if err != nil {
		t.Fatal(err)
	}
	plain := strings.NewReplacer(`\-`, "-", `\&`, "", `\(aq`, "'", "\\`", "`", `\(ha`, "^", `\(ti`, "~", `\:`, "", `\e`, `\`, `\fB`, "", `\fP`, "", " ", "", "\n", "").Replace(string(page))
	keys := 0
	for i, line := range strings.Split(string(config), "\n") {
		if strings.Contains(line, "=") && !strings.HasPrefix(line, "#") {
			keys++
		}
		want := strings.ReplaceAll(strings.TrimPrefix(line, "#"), " ", "")
		if !strings.Contains(strings.ToLower(plain), strings.ToLower(want)) {
			t.Errorf("framegate.toml:%d is not in the page: %s", i+1, line)
		}
	}
	if got := strings.Count(string(page), ".TP\n") + strings.Count(string(page), ".TQ\n"); got != keys+1 { // and the file under FILES
		t.Errorf("%d items, %d keys", got, keys)
	}
	if _, err := configPage([]byte("# ok\nports = [\n  80,\n]\n"), aRelease); err == nil || err.Error() != `configuration, line 3: "80," is no key of one line` {
		t.Errorf("a key of several lines: %v", err)
	}
}
