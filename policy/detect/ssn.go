package detect

// usSSN finds social security numbers of the USA: AAA-GG-SSSS.
//
// The number has no check digit, so the form must tell. With two dashes it counts
// anywhere; with two spaces or with nothing in between only where shortly before
// it stands "ssn" or "social security". Any digits of Unicode count.
//
// Never issued are the areas 000, 666 and 900 to 999, the group 00 and the serial
// number 0000 (Social Security Administration, "Social Security Number
// Randomization"). 987-65-4320 to -4329, reserved for advertising,
// are among them. 078-05-1120, sold with wallets, and 219-09-9999, of a pamphlet,
// were withdrawn (SSA, "Social Security Cards Issued by Woolworth").
//
// Not one either: what another digit is joined to by a separator, as in longer
// codes, or a letter.
var usSSN = &Detector{
	Name:    "us-ssn",
	Summary: "social security numbers of the USA: AAA-GG-SSSS, or with \"ssn\" before it",
	at:      ssnAt,
	find:    numbers(9),
}

func ssnAt(data []byte, i int) int {
	if !numberStarts(data, i) || isWord.follows(data, i) {
		return -1
	}
	var number [3]int // area, group, serial number
	separator, pos := other, i
	for part, digits := range [...]int{3, 2, 4} {
		if part > 0 {
			k, _, size := read(data, pos)
			if part == 1 && (k == space || k == dash) {
				separator = k
			}
			if separator != other {
				if k != separator {
					return -1
				}
				pos += size
			}
		}
		for range digits {
			k, value, size := read(data, pos)
			if k != digit {
				return -1
			}
			number[part] = 10*number[part] + int(value)
			pos += size
		}
	}
	if !numberEnds(data, pos) || isWord.precedes(data, pos) {
		return -1
	}
	if k, size := readBack(data, i); k == dash || k != other && k == separator {
		if before, _ := readBack(data, i-size); before == digit {
			return -1
		}
	}
	if k, _, size := read(data, pos); k == dash || k != other && k == separator {
		if after, _, _ := read(data, pos+size); after == digit {
			return -1
		}
	}
	if !issuedSSN(number[0], number[1], number[2]) || separator != dash && !nearSSN(data, i) {
		return -1
	}
	return pos
}

func issuedSSN(area, group, serial int) bool {
	switch {
	case area == 0, area == 666, area >= 900, group == 0, serial == 0:
		return false
	case area == 78 && group == 5 && serial == 1120, area == 219 && group == 9 && serial == 9999:
		return false
	}
	return true
}

// nearSSN looks for the name of the number. "ssn" must begin a word, as in
// userSsn, since it is also in className.
func nearSSN(data []byte, i int) bool {
	if near(data, i, "social security", "social_security", "social-security", "socialsecurity") {
		return true
	}
	for k := max(0, i-context); k+3 <= i; k++ {
		if data[k]|0x20 == 's' && data[k+1]|0x20 == 's' && data[k+2]|0x20 == 'n' &&
			(!isLetter.follows(data, k) || data[k] == 'S' && data[k-1] >= 'a') {
			return true
		}
	}
	return false
}
