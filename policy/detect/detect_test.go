package detect

import (
	"bytes"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// found returns what d finds in text, one after the other.
func found(d *Detector, text string) (values []string) {
	data := []byte(text)
	for from := 0; ; {
		start, end := d.Find(data, from)
		if start < 0 {
			return values
		}
		values = append(values, text[start:end])
		from = end
	}
}

// frames are texts that change nothing about the value in their middle.
var frames = [][2]string{
	{"", ""}, {`"`, `"`}, {" ", " "}, {`{"x":"`, `","y":2}`}, {"(", ")"}, {"<", ">"},
	{"\n", "\r\n"}, {`\n`, `\r\n`}, {`\t`, `\t`}, {"[", "]"}, {"x: ", ", x"}, {"“", "”"}, {"\xff", "\xff"},
}

// wantValues checks that d finds each value, and the whole of it, in all frames.
func wantValues(t *testing.T, d *Detector, values ...string) {
	t.Helper()
	for _, value := range values {
		for _, f := range frames {
			text := f[0] + value + f[1]
			if got := found(d, text); !slices.Equal(got, []string{value}) {
				t.Errorf("%s in %q: got %q, want %q", d.Name, text, got, value)
			}
		}
		wantLiteral(t, d, value)
	}
}

// wantWithin checks that d finds what [brackets] are around, and nothing else.
func wantWithin(t *testing.T, d *Detector, texts ...string) {
	t.Helper()
	for _, text := range texts {
		var want []string
		for _, part := range strings.Split(text, "⟦")[1:] {
			value, _, _ := strings.Cut(part, "⟧")
			want = append(want, value)
			wantLiteral(t, d, value)
		}
		text = strings.NewReplacer("⟦", "", "⟧", "").Replace(text)
		if got := found(d, text); !slices.Equal(got, want) {
			t.Errorf("%s in %q: got %q, want %q", d.Name, text, got, want)
		}
	}
}

func wantLiteral(t *testing.T, d *Detector, value string) {
	t.Helper()
	texts, fold := d.Literals()
	has := func(text string) bool {
		return strings.Contains(value, text) || fold && strings.Contains(strings.ToLower(value), strings.ToLower(text))
	}
	if texts != nil && !slices.ContainsFunc(texts, has) {
		t.Errorf("%s: %q has none of the literals %q", d.Name, value, texts)
	}
}

// wantNothing checks that d finds nothing in any text, nor in any frame.
func wantNothing(t *testing.T, d *Detector, texts ...string) {
	t.Helper()
	for _, text := range texts {
		for _, f := range frames {
			if got := found(d, f[0]+text+f[1]); got != nil {
				t.Errorf("%s in %q: got %q, want nothing", d.Name, f[0]+text+f[1], got)
			}
		}
	}
}

// lookAlikes are values that no detector may take for one of its own.
var lookAlikes = []string{
	"550e8400-e29b-41d4-a716-446655440000", // RFC 9562
	"6ba7b810-9dad-11d1-80b4-00c04fd430c8",
	"12345678-1234-1234-1234-123456789012",
	"018f4e5a-7b3c-7d2e-8f1a-2b3c4d5e6f70",
	"01ARZ3NDEKTSV4RRFFQ69G5FAV",               // a ULID
	"da39a3ee5e6b4b0d3255bfef95601890afd80709", // SHA-1 of nothing
	"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
	"d41d8cd98f00b204e9800998ecf8427e",
	"fabf4f9", "1.26.8", "v1.2.3-rc.1+build.5", "2026.11.23",
	"1700000000", "1700000000000", "1700000000000000", "1700000000000000000",
	"2026-11-23T13:30:12.123456789Z", "2026-11-23 13:30:12+01:00", "13:30:12", "12:34:56.789",
	"3.141592653589793238", "0.4111111111111111", "1e-300", "-12.5", "4503599627370496.5",
	"175928847299117063", "1541815603606036480", // snowflakes
	"ORD-2026-000012345", "order 1002003004005", "10000000000000000",
	"00:1A:2B:3C:4D:5E", "00-1A-2B-3C-4D-5E", "02:00:5e:10:00:00:00:01",
	"1.3.6.1.4.1.311.21.20", "Mozilla/5.0 (X11; Linux x86_64) Chrome/120.0.0.0 Safari/537.36",
	"/usr/lib/x86_64-linux-gnu/libc.so.6", "https://www.example.com/Some/Long/Path2/To/Page.html?a=1&b=2",
	"getElementsByTagNameNS", "internationalizationAndLocalization", "XMLHttpRequestEventTarget",
	"std::vector", "A::B1", "a::b", "key::value", "dead::beef", "::",
	"1,234,567,890,123,456", "[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14]",
	"(555) 010-0199", "555-0100", "020 7946 0958", "10-20-30-40-50-60-70-80",
	"user@localhost", "@channel", "left-pad@1.3.0", "logo@2x.png", "git@github.com:golang/go.git",
	"-----BEGIN CERTIFICATE-----", "-----BEGIN PUBLIC KEY-----", "BEGIN PRIVATE KEY",
	"data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk",
	"sha384-oqVuAfXRKap7fdgcCY5uykM6+R9GqQ8K/uxy9rx7HNQlGYl1kPzQho1wx4JwY8wC",
	"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
	"YOUR_API_KEY_GOES_HERE_12345", "the quick brown fox jumps over the lazy dog",
	"", " ", "\x00\x01\x02", "ひらがなとカタカナ", "Съешь же ещё этих мягких французских булок",
}

func TestLookAlikes(t *testing.T) {
	for _, d := range All() {
		wantNothing(t, d, lookAlikes...)
	}
}

func TestAll(t *testing.T) {
	name := regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)
	before := ""
	for _, d := range All() {
		if !name.MatchString(d.Name) || d.Name <= before {
			t.Errorf("name %q after %q", d.Name, before)
		}
		before = d.Name
		if d.Summary == "" || strings.ContainsAny(d.Summary, "\r\n|") {
			t.Errorf("%s: summary %q", d.Name, d.Summary)
		}
		if Lookup(d.Name) != d {
			t.Errorf("Lookup(%q) is not the detector", d.Name)
		}
	}
	for _, name := range []string{"", "card", "payment-car", "payment-card2", "PHONE", "zz"} {
		if Lookup(name) != nil {
			t.Errorf("Lookup(%q) is not nil", name)
		}
	}
	All()[0] = nil
	if texts, _ := Lookup("phone").Literals(); All()[0] == nil || texts == nil {
		t.Error("a caller can change what is known")
	}
}

func TestManual(t *testing.T) {
	text, err := os.ReadFile("../../docs/DETECTORS.md")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for line := range strings.Lines(string(text)) {
		if cells := strings.Split(line, "|"); len(cells) == 7 && strings.HasPrefix(cells[1], " `") {
			names = append(names, strings.Trim(cells[1], " `"))
			for _, c := range cells[2:6] {
				if strings.TrimSpace(c) == "" {
					t.Errorf("empty cell: %s", line)
				}
			}
		}
	}
	var want []string
	for _, d := range All() {
		want = append(want, d.Name)
	}
	if !slices.Equal(names, want) {
		t.Errorf("rows %q, want %q", names, want)
	}
}

// hostile are texts that invite a detector to do the same work again and again.
var hostile = map[string]string{
	"digits":        "4",
	"card":          "4111 1111 1111 1111 ",
	"almost cards":  "4111 1111 1111 1112 ",
	"short groups":  "4 1 ",
	"fullwidth":     "４",
	"spaces":        "  ",
	"dashes":        "-",
	"ssn":           "123-45-6789 ",
	"plain ssn":     "ssn 123456789 ",
	"at":            "@",
	"a at":          "a@",
	"local":         "aaaaaaaaaaaaaaaaaaaa.",
	"domain":        "a@a.a.a.a.a.a.a.a.a.",
	"marks":         "'+'@",
	"jwt":           "eyJ",
	"jwt parts":     "eyJ.",
	"jwt headers":   "eyJhbGciOiJub25lIn0.",
	"begin":         "-----BEGIN",
	"begin key":     "-----BEGIN PRIVATE KEY-----",
	"begin key a":   "-----BEGIN PRIVATE KEY----- abc ",
	"dots":          "1.",
	"addresses":     "10.0.0.1 ",
	"colons":        ":",
	"hex colons":    "2001:",
	"double colons": "fe80::1 ",
	"plus":          "+",
	"plus one":      "+49 1",
	"phones":        "+442079460958 ",
	"iban":          "DE89 3704 0044 0532 0130 00 ",
	"almost iban":   "DE893704",
	"base64":        "aB3dE5fG",
	"tokens":        "secret aB3dE5fGhI1jK2lM3nO4 ",
	"slashes":       "aB3/",
	"backslashes":   `\n`,
	"prefixes":      "ghp_AKIAAIzaxoxb-1sk_live_hooks.slackaccountkeyQ~",
	"q":             "Q~",
	"accountkey":    "AccountKey=",
	"xox":           "xoxb-1-",
	"cyrillic":      "Съешь же ещё ",
	"chinese":       "敏捷的棕色狐狸，",
	"hindi":         "नमस्ते दुनिया ",
	"github":        "ghp_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa ",
}

// The number of times that at is asked must grow as the data do. What it costs
// to ask is bounded, or of a part of the data that is not asked about again.
func TestLinear(t *testing.T) {
	asked := func(d *Detector, data []byte) int {
		n := 0
		count := *d
		count.at = func(data []byte, i int) int {
			n++
			return d.at(data, i)
		}
		for from := 0; ; {
			start, end := count.Find(data, from)
			if start < 0 {
				return n
			}
			n++
			from = end
		}
	}
	const small, factor = 16 << 10, 8
	for name, text := range hostile {
		data := bytes.Repeat([]byte(text), factor*small/len(text)+1)
		for _, d := range All() {
			one, all := asked(d, data[:small]), asked(d, data[:factor*small])
			if all > factor*one+factor*4 {
				t.Errorf("%s, %s: asked %d times in %d bytes, %d times in %d", d.Name, name, one, small, all, factor*small)
			}
			if one > 4*small {
				t.Errorf("%s, %s: asked %d times in %d bytes", d.Name, name, one, small)
			}
		}
	}
}

// Nothing is allocated where nothing is found.
func TestAllocations(t *testing.T) {
	for name, text := range hostile {
		data := bytes.Repeat([]byte(text), 1<<10/len(text))
		for _, d := range All() {
			if start, _ := d.Find(data, 0); start >= 0 && d == jwt {
				continue // encoding/json keeps its scanners in a pool, which may be empty
			}
			n := testing.AllocsPerRun(2, func() {
				for from := 0; from >= 0; {
					_, from = d.Find(data, from)
				}
			})
			if n > 0 {
				t.Errorf("%s, %s: %v allocations", d.Name, name, n)
			}
		}
	}
}
