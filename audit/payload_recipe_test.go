package audit

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The program in docs/AUDIT-FORMAT.md, which knows age and AES-GCM and nothing
// of ours, reads what was sealed; and what it cannot read is erased.
func TestPayloadRecipe(t *testing.T) {
	doc, err := os.ReadFile("../docs/AUDIT-FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(doc), "### full\n")
	_, program, _ := strings.Cut(section, "```python\n")
	program, _, ok := strings.Cut(program, "```\n")
	if !ok {
		t.Fatal("the document has no program")
	}
	script := filepath.Join(t.TempDir(), "read.py")
	write(t, []byte(program), script)

	recipient, identity := reader(t)
	dir := sealedLog(t, recipient, "a-1", "a-2")
	if _, err := Erase(dir, Erasure{Conn: "a-2", By: "user test", Logger: quiet()}); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-c", `zstd -dcq "$1"/seg/*.jsonl.zst | /usr/bin/python3 "$2" "$1" "$3"`, "sh", dir, script, identity)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("1 b''\n2 b'hello'\n3 b'\\xff\\x00not text'\n4 b'%s'\n5 erased\n6 erased\n7 erased\n8 erased\n", sealedMessages[3])
	if string(out) != want {
		t.Errorf("%.200s", out)
	}
}
