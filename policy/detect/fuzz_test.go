package detect

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"hash/crc32"
	"math/big"
	"net/mail"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"unicode"
)

// FuzzFind holds each detector to its definition: Find returns the first place
// from which at accepts something, in any surroundings that are no part of a
// value, and what it returns is valid by an implementation that shares no code
// with it.
func FuzzFind(f *testing.F) {
	for _, text := range lookAlikes {
		f.Add([]byte(text), 0)
	}
	for _, text := range hostile {
		f.Add([]byte(text+text+text), 1)
	}
	for _, text := range samples {
		f.Add([]byte(text), 0)
		f.Add([]byte(`{"a":"`+text+`","b":"`+text), 9)
		f.Add([]byte(text[:len(text)/2]+"\x80"+text+"_"), len(text)/2)
	}
	f.Fuzz(func(t *testing.T, data []byte, from int) {
		if len(data) > 1<<12 || from < 0 || from > len(data) {
			return
		}
		framed := append(append([]byte(`x "`), data...), `" x`...)
		for _, d := range All() {
			start, end := d.Find(data, from)
			if s, e := naive(d, data, from); s != start || e != end {
				t.Fatalf("%s: Find(%q, %d) = %d, %d; at says %d, %d", d.Name, data, from, start, end, s, e)
			}
			if start < 0 {
				continue
			}
			if start < from || end <= start || end > len(data) {
				t.Fatalf("%s: Find(%q, %d) = %d, %d", d.Name, data, from, start, end)
			}
			if s, e := d.Find(framed, from+3); s != start+3 || e != end+3 {
				t.Fatalf("%s: Find(%q, %d) = %d, %d; framed %d, %d", d.Name, data, from, start, end, s-3, e-3)
			}
			if check := valid[d.Name]; check != nil && !check(string(data[start:end])) {
				t.Fatalf("%s: Find(%q, %d) = %q", d.Name, data, from, data[start:end])
			}
		}
		for _, field := range strings.Fields(string(data)) {
			addr, err := netip.ParseAddr(field)
			if err != nil || addr.Zone() != "" {
				continue
			}
			d := ipv4
			if addr.Is6() {
				if d = ipv6; !addr.IsGlobalUnicast() || addr.As16()[0]>>5 != 1 {
					continue // not all of the space is assigned
				}
			}
			if start, end := d.Find([]byte(field), 0); start != 0 || end != len(field) {
				t.Fatalf("%s: Find(%q) = %d, %d", d.Name, field, start, end)
			}
		}
	})
}

func naive(d *Detector, data []byte, from int) (start, end int) {
	for i := from; i < len(data); i++ {
		if end := d.at(data, i); end >= 0 {
			return i, end
		}
	}
	return -1, -1
}

// ascii returns the digits of s, as ASCII, and its ASCII letters.
func ascii(s string) string {
	return strings.Map(func(r rune) rune {
		if d, ok := digitValues[r]; ok {
			return '0' + d
		}
		if r < 0x80 && unicode.IsLetter(r) {
			return r
		}
		return -1
	}, s)
}

// digitValues counts from 0 to 9 again and again where digits follow each other.
var digitValues = func() map[rune]rune {
	values, n := map[rune]rune{}, rune(0)
	for r := rune(0); r <= unicode.MaxRune; r++ {
		if !unicode.IsDigit(r) {
			n = 0
			continue
		}
		values[r] = n % 10
		n++
	}
	return values
}()

// valid judges values by other means.
var valid = map[string]func(string) bool{
	"payment-card": func(s string) bool {
		s = ascii(s)
		sum := 0
		for i, c := range s {
			n := int(c-'0') * (1 + (len(s)-i+1)%2)
			sum += n/10 + n%10
		}
		return len(s) >= 12 && len(s) <= 19 && sum%10 == 0 && strings.Contains("234568", s[:1])
	},
	"iban": func(s string) bool {
		s = strings.ToUpper(ascii(s))
		var digits strings.Builder
		for _, c := range s[4:] + s[:4] {
			n, _ := strconv.ParseInt(string(c), 36, 64)
			digits.WriteString(strconv.FormatInt(n, 10))
		}
		n, ok := new(big.Int).SetString(digits.String(), 10)
		return ok && new(big.Int).Mod(n, big.NewInt(97)).Int64() == 1
	},
	"us-ssn": func(s string) bool {
		s = ascii(s)
		return len(s) == 9 && s[0] != '9' && s[:3] != "000" && s[:3] != "666" && s[3:5] != "00" &&
			s[5:] != "0000" && s != "078051120" && s != "219099999"
	},
	"phone": func(s string) bool {
		n := len(ascii(s))
		return n >= 7 && n <= 15 && ascii(s)[0] != '0'
	},
	"ipv4": func(s string) bool {
		a, err := netip.ParseAddr(s)
		return err == nil && a.Is4()
	},
	"ipv6": func(s string) bool {
		a, err := netip.ParseAddr(s)
		return err == nil && a.Is6()
	},
	"email": func(s string) bool {
		a, err := mail.ParseAddress(s)
		return err == nil && a.Address == s && a.Name == "" || !isASCII(s)
	},
	"jwt": func(s string) bool {
		header, err := base64.RawURLEncoding.DecodeString(strings.Split(s, ".")[0])
		if err != nil {
			return false
		}
		var fields map[string]any
		return json.Unmarshal(header, &fields) == nil && fields["alg"] != nil
	},
	"github-token": func(s string) bool {
		if strings.HasPrefix(s, "github_pat_") {
			return len(s) == 93
		}
		sum := new(big.Int).SetUint64(uint64(crc32.ChecksumIEEE([]byte(s[4 : len(s)-6]))))
		// big.Int has lower case before upper case.
		text := strings.Map(func(r rune) rune {
			switch {
			case unicode.IsLower(r):
				return unicode.ToUpper(r)
			case unicode.IsUpper(r):
				return unicode.ToLower(r)
			}
			return r
		}, sum.Text(62))
		return strings.TrimLeft(s[len(s)-6:], "0") == strings.TrimLeft(text, "0")
	},
	"private-key": func(s string) bool {
		return strings.HasPrefix(s, "-----BEGIN ") && strings.Contains(s, "PRIVATE KEY")
	},
}

func isASCII(s string) bool {
	return !bytes.ContainsFunc([]byte(s), func(r rune) bool { return r >= 0x80 })
}

// The digits of all scripts must be sets of ten from 0 to 9, as runeValue assumes,
// and numeric must have the bytes of all that runeKind knows.
func TestDigitSets(t *testing.T) {
	for r := rune(0x80); r <= unicode.MaxRune; r++ {
		if k, _, _ := read([]byte(string(r)), 0); k != runeKind(r) {
			t.Errorf("read(%U) = %v, want %v", r, k, runeKind(r))
		}
	}
	for r, want := range digitValues {
		k, value, size := read([]byte(string(r)), 0)
		if k != digit || rune(value) != want || size != len(string(r)) {
			t.Errorf("read(%U) = %v, %d, %d, want %d", r, k, value, size, want)
		}
		if want != 9 && !unicode.IsDigit(r+1) {
			t.Errorf("the set of %U has no 9", r)
		}
	}
}
