package detect

import "strings"

// iban finds international bank account numbers (ISO 13616-1): a country of the
// registry, the length and the structure of its account numbers, and the check
// digits of ISO/IEC 7064, MOD 97-10.
//
// Structures are those of the SWIFT IBAN Registry, as python-stdnum's iban.dat
// has them, and those that joined since. In any case of letters, in one piece or
// with a space, a non-breaking space or a hyphen after any fourth character.
//
// Not one: what a letter, a digit or an underscore is next to, a country that is
// not in the registry, check digits below 02 or above 98.
var iban = &Detector{
	Name:    "iban",
	Summary: "bank account numbers: country, length, structure and check digits (mod 97)",
	at:      ibanAt,
	find:    findIBAN,
}

// Of each country the structure of what follows the check digits: n digits,
// a letters, c either, each after the number of them.
const ibanCountries = `
AD 8n12c     AE 19n       AL 8n16c     AT 16n       AZ 4a20c     BA 16n
BE 12n       BG 4a6n8c    BH 4a14c     BI 23n       BR 23n1a1c   BY 4c4n16c
CH 5n12c     CR 18n       CY 8n16c     CZ 20n       DE 18n       DJ 23n
DK 14n       DO 4c20n     EE 16n       EG 25n       ES 20n       FI 14n
FK 2a12n     FO 14n       FR 10n11c2n  GB 4a14n     GE 2a16n     GI 4a15c
GL 14n       GR 7n16c     GT 24c       HN 4a20n     HR 17n       HU 24n
IE 4a14n     IL 19n       IQ 4a15n     IS 22n       IT 1a10n12c  JO 4a4n18c
KW 4a22c     KZ 3n13c     LB 4n20c     LC 4a24c     LI 5n12c     LT 16n
LU 3n13c     LV 4a13c     LY 21n       MC 10n11c2n  MD 20c       ME 18n
MK 3n10c2n   MN 16n       MR 23n       MT 4a5n18c   MU 4a19n3a   NI 4a20n
NL 4a10n     NO 11n       OM 3n16c     PK 4a16c     PL 24n       PS 4a21c
PT 21n       QA 4a21c     RO 4a16c     RS 18n       RU 14n15c    SA 2n18c
SC 4a20n3a   SD 14n       SE 20n       SI 15n       SK 20n       SM 1a10n12c
SO 19n       ST 21n       SV 4a20n     TL 19n       TN 20n       TR 6n16c
UA 6n19c     VA 18n       VG 4a16n     XK 16n       YE 4a4n18c`

const longestBBAN = 30 // ISO 13616-1

// ibanStructures has, for each country, one of n, a and c for each character
// that follows the check digits; "" if it has no IBAN.
var ibanStructures = func() (table [26 * 26]string) {
	fields := strings.Fields(ibanCountries)
	for i := 0; i < len(fields); i += 2 {
		var s strings.Builder
		n := 0
		for _, c := range fields[i+1] {
			if c <= '9' {
				n = 10*n + int(c-'0')
			} else {
				s.WriteString(strings.Repeat(string(c), n))
				n = 0
			}
		}
		table[country(fields[i][0], fields[i][1])] = s.String()
	}
	return table
}()

// country returns the index of a country in ibanStructures; a and b are letters.
func country(a, b byte) int { return int(a|0x20-'a')*26 + int(b|0x20-'a') }

const shortestIBAN = 15 // that of Norway

// inIBAN has the bytes of all characters that an IBAN consists of.
var inIBAN = func() *class {
	c := *written
	for i := range len(letters) {
		c[letters[i]] = true
	}
	return &c
}()

// findIBAN looks at what is long enough, there for the two check digits: of two
// neighbours one is at an even position.
func findIBAN(data []byte, from int, at at) (start, end int) {
	for first := inIBAN.seek(data, from, shortestIBAN); first >= 0; first = inIBAN.seek(data, first, shortestIBAN) {
		i := first + 2
		for ; i < len(data) && inIBAN[data[i]]; i += 2 {
			if !isDecimal[data[i]] {
				continue
			}
			if isLetter[data[i-1]] && isLetter[data[i-2]] {
				if end := at(data, i-2); end >= 0 {
					return i - 2, end
				}
			} else if i >= first+3 && isDecimal[data[i-1]] && isLetter[data[i-2]] && isLetter[data[i-3]] {
				if end := at(data, i-3); end >= 0 {
					return i - 3, end
				}
			}
		}
		first = i
	}
	return -1, -1
}

func ibanAt(data []byte, i int) int {
	if i+4 > len(data) || !isLetter[data[i]] || !isLetter[data[i+1]] ||
		!isDecimal[data[i+2]] || !isDecimal[data[i+3]] || isWord.follows(data, i) || escaped(data, i) {
		return -1
	}
	structure := ibanStructures[country(data[i], data[i+1])]
	check := 10*int(data[i+2]-'0') + int(data[i+3]-'0')
	// What is calculated is 98 minus a remainder of 97.
	if structure == "" || check < 2 || check > 98 {
		return -1
	}
	var account [longestBBAN]byte
	pos := i + 4
	for n := range len(structure) {
		if n%4 == 0 {
			if k, _, size := read(data, pos); k == space || k == dash {
				pos += size
			}
		}
		if pos >= len(data) {
			return -1
		}
		c := data[pos]
		if !isAlnum[c] || structure[n] == 'n' && !isDecimal[c] || structure[n] == 'a' && !isLetter[c] {
			return -1
		}
		account[n] = c
		pos++
	}
	if isWord.precedes(data, pos) {
		return -1
	}
	r := mod97(0, account[:len(structure)])
	if r = mod97(r, data[i:i+4]); r != 1 {
		return -1
	}
	return pos
}

// mod97 continues the remainder r by the characters of b, of which letters stand
// for the numbers from 10 to 35 (ISO 13616-1).
func mod97(r int, b []byte) int {
	for _, c := range b {
		if c <= '9' {
			r = (r*10 + int(c-'0')) % 97
		} else {
			r = (r*100 + int(c|0x20-'a') + 10) % 97
		}
	}
	return r
}
