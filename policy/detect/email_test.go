package detect

import (
	"strings"
	"testing"
)

func TestEmail(t *testing.T) {
	long := strings.Repeat("a", 64)
	wantValues(t, email,
		"alice@example.com", "a.b+c@mail.example.co.uk", "x@y.zz", "_dmarc@example.org", "o'brien@example.com",
		"user%example.org@example.net", "first.last@sub-domain.example.com", "1234567890@example.com", "a-@example.museum",
		"user@xn--80ak6aa92e.com", "a@xn--d1acufc.xn--p1ai", "jörg@exämple.de", "用户@例子.广告", "ALICE@EXAMPLE.COM",
		long+"@example.com", "a@"+long[:63]+".example",
	)
	wantWithin(t, email,
		"mailto:⟦alice@example.com⟧?subject=x", "Alice <⟦alice@example.com⟧>, Bob <⟦bob@example.org⟧>", "'⟦alice@example.com⟧'",
		"write to ⟦alice@example.com⟧.", "...⟦alice@example.com⟧!", "⟦alice@example.com⟧;⟦bob@example.com⟧", `\n⟦nora@example.com⟧\n`,
		"https://example.com/?mail=⟦alice@example.com⟧", "⟦alice@example.com⟧-", "⟦alice@example.com⟧: hi", "⟦git@example.com⟧ wrote",
		"*⟦alice@example.com⟧*", "https://example.com/u/⟦alice@example.com⟧",
	)
	wantNothing(t, email,
		"user@localhost", "user@", "@example.com", "user@.com", "user@example", "user@example.c", "a..b@example.com", "a.@example.com",
		"user@example.123", "user@10.0.0.1", "user@[10.0.0.1]", "left-pad@1.3.0", "logo@2x.png", "main@abc.js", "a@b@example.com"[:3],
		"https://user@example.com/", "https://user:pass@example.com/", "git@github.com:golang/go.git", "user@-example.com",
		"user@exam_ple.com", long+"a@example.com", "a@"+long+".example", "user@example.com@", "a b@c d.com", "user@@example.com",
	)
}
