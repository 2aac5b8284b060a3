package policy

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"unicode/utf8"

	"framegate/policy/detect"
)

// planted has a value for each detector, in words that it may need. They are those
// of the tests of package detect, in two parts for the sake of secret scanners.
var planted = map[string]struct{ before, value string }{
	"aws-access-key":      {"", "AKIA" + "IOSFODNN7EXAMPLE"},
	"aws-secret-key":      {"aws_secret_access_key = ", "wJalrXUtnFEMI/K7MDENG" + "/bPxRfiCYEXAMPLEKEY"},
	"azure-client-secret": {"", "aB3" + "8Q~" + "dEf-1gH2_iJ3~kL4.mN5oP6qR7sT8uVwX9"},
	"azure-storage-key": {"", "AccountKey=" + "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq" +
		"/K1SZFPTOtr/KBHBeksoGMGw=="},
	"email":        {"", "o'brien@mail.example.com"},
	"gcp-api-key":  {"", "AIza" + "SyDaGmWKa4JsXZ-HjGw7ISLn_3namBGewQe"},
	"github-token": {"", "ghp_" + "zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ" + "0mLq17"},
	"high-entropy": {"", "kX9" + "vQ2mL7pR4tW8zB3nF6y"},
	"iban":         {"", "GB82 WEST 1234 5698 7654 32"},
	"ipv4":         {"", "192.0.2.1"},
	"ipv6":         {"", "2001:db8::1"},
	"jwt": {"", "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9" +
		".eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6IkpvaG4gRG9lIiwiaWF0IjoxNTE2MjM5MDIyfQ" + ".SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV_adQssw5c"},
	"payment-card":  {"", "4111 1111 1111 1111"},
	"phone":         {"", "+44 (0)20 7946 0958"},
	"private-key":   {"", "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIObtNtldIzY0sc5q1nrPsOfXxVl2hoKpk1Zs8KB0e8J\n-----END EC PRIVATE KEY-----"},
	"slack-token":   {"", "xoxb-" + "123456789012-1234567890123" + "-AbCdEfGh1jKlMn0pQrStUvWx"},
	"slack-webhook": {"https://", "hooks.slack.com/services" + "/T01ABCDEF23/B04GHIJKL56" + "/aBcDeFgHiJkLmNoPqRsTuVwX"},
	"stripe-key":    {"", "sk_" + "live_" + "4eC39HqLyjWDarjtT1zdp7dc"},
	"us-ssn":        {"", "123-45-6789"},
}

// secret returns a value of a detector, and sometimes one that is broken.
func secret(random *rand.Rand) string {
	all := detect.All()
	f := planted[all[random.IntN(len(all))].Name]
	s := []byte(f.before + f.value)
	if random.IntN(4) == 0 {
		s[random.IntN(len(s))] ^= 1 << random.IntN(3)
	}
	return string(s)
}

// escapeJSON writes text as the contents of a JSON string, with escapes where it
// needs them and, as it is of that mind, elsewhere.
func escapeJSON(text string, random *rand.Rand) string {
	var b strings.Builder
	for len(text) > 0 {
		r, n := utf8.DecodeRuneInString(text)
		switch {
		case r == utf8.RuneError && n == 1:
			b.WriteString(text[:1]) // JSON for package jsonpath, as for encoding/json
		case r > 0xffff:
			fmt.Fprintf(&b, `\u%04x\u%04X`, 0xd800+(r-0x10000)>>10, 0xdc00+(r-0x10000)&0x3ff)
		case r < ' ', r == '"', r == '\\', random.IntN(4) == 0:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
		text = text[n:]
	}
	return b.String()
}
