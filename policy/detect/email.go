package detect

import (
	"bytes"
	"unicode"
	"unicode/utf8"
)

// email finds addresses of e-mail, as people have them: of RFC 5321, section
// 4.1.2, the form Dot-string "@" Domain, with the limits of section 4.5.3.1 (64
// bytes and 255 bytes), and the letters of any script (RFC 6531). The local part
// is made of letters, digits and .!#$%&'*+-_~ and begins with a letter, a digit
// or an underscore. The domain has two labels at least, and the last one is of
// letters alone or begins with xn--.
//
// Not one: quoted local parts and address literals, which nobody has; names
// without a domain (user@localhost); the user of a URL (https://user@host/);
// git@host:path, which is how git names a repository; versions
// (left-pad@1.3.0); pictures for dense screens (logo@2x.png) and other names
// that end as files do.
//
// Letters right beside an address become a part of it where a script has no
// spaces.
var email = &Detector{
	Name:     "email",
	Summary:  "e-mail addresses with a full domain",
	literals: []string{"@"},
	at:       emailAt,
	find:     findEmail,
}

const (
	longestLocal  = 64  // RFC 5321, section 4.5.3.1.1
	longestDomain = 255 // RFC 5321, section 4.5.3.1.2
	longestLabel  = 63  // RFC 1035, section 2.3.4
)

var (
	localMarks = classOf(".!#$%&'*+-_~")
	localBytes = func() *class {
		c := classOf(alphabet + ".!#$%&'*+-_~")
		for i := utf8.RuneSelf; i < len(c); i++ {
			c[i] = true
		}
		return c
	}()
	fileSuffixes = []string{
		"css", "gif", "htm", "html", "jpeg", "jpg", "js", "json", "jsx", "map",
		"pdf", "png", "svg", "ts", "tsx", "txt", "webp", "xml", "yaml", "yml",
	}
)

func findEmail(data []byte, from int, at at) (start, end int) {
	for p := from; p < len(data); p++ {
		n := bytes.IndexByte(data[p:], '@')
		if n < 0 {
			break
		}
		p += n
		i := p
		for i > from && p-i < longestLocal && localBytes[data[i-1]] {
			i--
		}
		for ; i < p; i++ {
			if end := at(data, i); end >= 0 {
				return i, end
			}
		}
	}
	return -1, -1
}

// letterOrDigit returns how many bytes a letter, digit or mark at data[i] has,
// and 0 if there is none.
func letterOrDigit(data []byte, i int) int {
	if i >= len(data) {
		return 0
	}
	if c := data[i]; c < utf8.RuneSelf {
		if isAlnum[c] {
			return 1
		}
		return 0
	}
	if r, size := utf8.DecodeRune(data[i:]); unicode.In(r, unicode.Letter, unicode.Nd, unicode.M) {
		return size
	}
	return 0
}

func emailAt(data []byte, i int) int {
	pos := i
	if size := letterOrDigit(data, i); size > 0 {
		pos += size
	} else if data[i] == '_' {
		pos++
	} else {
		return -1
	}
	if !localStarts(data, i) {
		return -1
	}
	for pos < len(data) && data[pos] != '@' {
		if size := letterOrDigit(data, pos); size > 0 {
			pos += size
		} else if localMarks[data[pos]] && !(data[pos] == '.' && data[pos-1] == '.') {
			pos++
		} else {
			return -1
		}
		if pos-i > longestLocal {
			return -1
		}
	}
	if pos == len(data) || data[pos-1] == '.' {
		return -1
	}
	end := domainEnd(data, pos+1)
	if end < 0 || userInfo(data, i) {
		return -1
	}
	if string(data[i:pos]) == "git" && end+1 < len(data) && data[end] == ':' && isAlnum[data[end+1]] {
		return -1
	}
	return end
}

// localStarts reports whether no letter, digit or underscore that belongs to the
// same local part is before data[i]. Other marks are left out of the address, as
// the apostrophe of 'a@b.example' has to be.
func localStarts(data []byte, i int) bool {
	if escaped(data, i) {
		return false
	}
	for n := 0; i > 0 && n < longestLocal; n++ {
		c := data[i-1]
		if c >= utf8.RuneSelf {
			r, _ := utf8.DecodeLastRune(data[:i])
			return !unicode.In(r, unicode.Letter, unicode.Nd, unicode.M)
		}
		if isWord[c] {
			return !isWord.follows(data, i)
		}
		if !localMarks[c] {
			return true
		}
		i--
	}
	return true
}

// domainEnd returns the end of the domain at data[i], or -1.
func domainEnd(data []byte, i int) int {
	start, labels := i, 0
	for {
		label, pos := i, i
		for pos < len(data) && pos-label <= longestLabel {
			if size := letterOrDigit(data, pos); size > 0 {
				pos += size
			} else if data[pos] == '-' && pos > label && letterOrDigit(data, pos+1)+dashes(data, pos+1) > 0 {
				pos++
			} else {
				break
			}
		}
		if pos == label || pos-label > longestLabel || pos-start > longestDomain {
			return -1
		}
		labels++
		if pos < len(data) && data[pos] == '.' && letterOrDigit(data, pos+1) > 0 {
			i = pos + 1
			continue
		}
		if labels < 2 || !topLevel(data[label:pos]) || pos < len(data) && data[pos] == '@' {
			return -1
		}
		return pos
	}
}

// dashes returns 1 if a hyphen is at data[i] and a letter or digit behind it: a
// label may have two in a row (xn--), but does not end with one.
func dashes(data []byte, i int) int {
	if i < len(data) && data[i] == '-' && letterOrDigit(data, i+1) > 0 {
		return 1
	}
	return 0
}

func topLevel(label []byte) bool {
	if len(label) < 2 {
		return false
	}
	if len(label) > 4 && prefixed(label, 0, "xn--") {
		return true
	}
	for _, c := range label {
		if c < utf8.RuneSelf && !isLetter[c] {
			return false
		}
	}
	for _, s := range fileSuffixes {
		if string(label) == s {
			return false
		}
	}
	return true
}

// userInfo reports whether data[i] is the user or the password of a URL
// (RFC 3986, section 3.2.1).
func userInfo(data []byte, i int) bool {
	least := max(0, i-longestLocal)
	for i > least && (localBytes[data[i-1]] || data[i-1] == ':') {
		i--
	}
	return i >= 3 && data[i-1] == '/' && data[i-2] == '/' && data[i-3] == ':'
}
