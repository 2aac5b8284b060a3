package detect

import "hash/crc32"

// githubToken finds tokens of GitHub: ghp_ (personal), gho_ (OAuth), ghu_ and
// ghs_ (of an app, for a user and for itself) with 36 characters, ghr_ (refresh)
// with 36 or 76, of which the last six are a CRC-32 of those before them after
// the underscore, in base62: GitHub, "Behind GitHub's new authentication token
// formats", 5 April 2021. github_pat_ (fine-grained) has 22 characters, an
// underscore and 59 more; how its checksum is made is not published, so its form
// must do.
//
// Not one: a wrong checksum, which all placeholders and made-up tokens have; what
// a letter, a digit or an underscore is next to; tokens without a prefix, from
// before 2021.
var githubToken = &Detector{
	Name:     "github-token",
	Summary:  "GitHub tokens: ghp_, gho_, ghu_, ghs_, ghr_ with their checksum, github_pat_",
	literals: []string{"ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"},
	at:       githubTokenAt,
	find:     starting("g"),
}

func githubTokenAt(data []byte, i int) int {
	if len(data)-i < 40 || data[i] != 'g' || data[i+1] != 'h' && data[i+1] != 'i' ||
		isWord.follows(data, i) || escaped(data, i) {
		return -1
	}
	const fineGrained = "github_pat_"
	if prefixed(data, i, fineGrained) {
		id := i + len(fineGrained)
		middle := isAlnum.fixed(data, id, 22)
		if middle < 0 || !prefixed(data, middle, "_") {
			return -1
		}
		end := isAlnum.fixed(data, middle+1, 59)
		if end < 0 || isWord.precedes(data, end) || distinct(data[middle+1:end]) < 16 {
			return -1
		}
		return end
	}
	if data[i+3] != '_' {
		return -1
	}
	least, most := 36, 36
	switch data[i+2] {
	case 'p', 'o', 'u', 's':
	case 'r':
		most = 76
	default:
		return -1
	}
	token := i + len("ghp_")
	end := isAlnum.end(data, token, most+1)
	if n := end - token; n != least && n != most || isWord.precedes(data, end) ||
		checksum62(data[token:end-6]) != [6]byte(data[end-6:end]) {
		return -1
	}
	return end
}

// checksum62 returns the CRC-32 of b in base62, with zeros in front.
func checksum62(b []byte) (text [6]byte) {
	const digits = decimal + upper + lower
	sum := crc32.ChecksumIEEE(b)
	for i := len(text) - 1; i >= 0; i-- {
		text[i] = digits[sum%62]
		sum /= 62
	}
	return text
}
