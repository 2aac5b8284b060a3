package detect

import "bytes"

// ipv4 finds addresses in dotted decimal (RFC 6943, section 3.1.1, "strict"):
// four numbers from 0 to 255 without leading zeros.
//
// Not one: more or fewer than four numbers, as in object identifiers; what a
// letter, a digit or an underscore is next to, such as v1.2.3.4; a version, that
// is one with "version" right before it, or the x.0.0.0 of a reduced User-Agent
// (Chrome/120.0.0.0). A version of four small numbers without such a sign
// cannot be told from an address.
var ipv4 = &Detector{
	Name:    "ipv4",
	Summary: "IPv4 addresses in dotted decimal",
	at:      ipv4At,
	find:    findIPv4,
}

// ipv6 finds addresses as text (RFC 4291, section 2.2), also with :: and with an
// IPv4 address at the end, of the space that IANA has assigned ("Internet
// Protocol Version 6 Address Space" and the special-purpose registry): global
// unicast 2000::/3, unique local fc00::/7, link-local fe80::/10, multicast
// ff00::/8, 64:ff9b::/16, 100::/64, 5f00::/16, IPv4-mapped ::ffff:0:0/96, and ::1.
//
// Not one: :: alone; times (12:34:56), MAC addresses and EUI-64, names such as
// A::B in programs, all of which are outside that space or not of that form; what
// a letter, a digit, an underscore or a colon is next to. Zone and prefix length
// are not a part of it.
var ipv6 = &Detector{
	Name:    "ipv6",
	Summary: "IPv6 addresses within the space that IANA has assigned",
	at:      ipv6At,
	find:    findIPv6,
}

var (
	dotted  = classOf(decimal + ".")
	isHex   = classOf(decimal + "abcdefABCDEF")
	inIPv6  = classOf(decimal + "abcdefABCDEF:.")
	byWords = classOf(" =\"':/\\")
)

func findIPv4(data []byte, from int, at at) (start, end int) {
	const least = len("1.1.1.1")
	for i := dotted.seek(data, from, least); i >= 0; i = dotted.seek(data, i, least) {
		for ; i < len(data) && dotted[data[i]]; i++ {
			if isDecimal[data[i]] {
				if end := at(data, i); end >= 0 {
					return i, end
				}
				for i+1 < len(data) && isDecimal[data[i+1]] {
					i++
				}
			}
		}
	}
	return -1, -1
}

func ipv4At(data []byte, i int) int {
	if isWord.follows(data, i) || i > 0 && data[i-1] == '.' {
		return -1
	}
	end, small := parseIPv4(data, i)
	if end < 0 || isWord.precedes(data, end) || isDecimal.precedes(data, end+1) && data[end] == '.' {
		return -1
	}
	if small && i >= 2 && data[i-1] == '/' && isLetter[data[i-2]] {
		return -1
	}
	k := i
	for k > 0 && i-k < 4 && byWords[data[k-1]] {
		k--
	}
	if k >= len("version") && bytes.EqualFold(data[k-len("version"):k], []byte("version")) {
		return -1
	}
	return end
}

// parseIPv4 returns the end of the address at data[i], or -1, and whether all
// numbers but the first are 0.
func parseIPv4(data []byte, i int) (end int, small bool) {
	small = true
	for part := range 4 {
		if part > 0 {
			if i >= len(data) || data[i] != '.' {
				return -1, false
			}
			i++
		}
		n, start := 0, i
		for i < len(data) && isDecimal[data[i]] && i-start < 4 {
			n = 10*n + int(data[i]-'0')
			i++
		}
		if i == start || n > 255 || i-start > 1 && data[start] == '0' {
			return -1, false
		}
		small = small && (part == 0 || n == 0)
	}
	return i, small
}

// findIPv6 looks at the first colon of each stretch of hexadecimal digits,
// colons and points.
func findIPv6(data []byte, from int, at at) (start, end int) {
	for p := from; p < len(data); p++ {
		n := bytes.IndexByte(data[p:], ':')
		if n < 0 {
			break
		}
		p += n
		i := p
		for i > from && p-i < 4 && isHex[data[i-1]] {
			i--
		}
		if i < p || p+1 < len(data) && data[p+1] == ':' {
			if end := at(data, i); end >= 0 {
				return i, end
			}
		}
	}
	return -1, -1
}

func ipv6At(data []byte, i int) int {
	const longest = len("2001:0db8:0000:0000:0000:ffff:255.255.255.255")
	if !isHex[data[i]] && data[i] != ':' || isWord.follows(data, i) ||
		i > 0 && (data[i-1] == ':' || data[i-1] == '.') {
		return -1
	}
	end := inIPv6.end(data, i, longest+2)
	if isWord.precedes(data, end) || end < len(data) && inIPv6[data[end]] {
		return -1
	}
	if end-i > 2 && (data[end-1] == '.' || data[end-1] == ':' && data[end-2] != ':') {
		end-- // of a sentence
	}
	groups, ok := parseIPv6(data[i:end])
	if !ok || !assignedIPv6(groups) {
		return -1
	}
	return end
}

func parseIPv6(b []byte) (groups [8]uint16, ok bool) {
	n, gap, i := 0, -1, 0
	if prefixed(b, 0, "::") {
		gap, i = 0, 2
	}
	for i < len(b) {
		start, v := i, 0
		for i < len(b) && isHex[b[i]] && i-start < 5 {
			d := b[i] | 0x20
			if v = 16*v + int(d-'0'); d >= 'a' {
				v -= 'a' - '0' - 10
			}
			i++
		}
		if i == start || i-start > 4 || n == 8 {
			return groups, false
		}
		if i < len(b) && b[i] == '.' {
			if end, _ := parseIPv4(b, start); end != len(b) || n > 6 {
				return groups, false
			}
			n += 2 // what they are does not matter
			break
		}
		groups[n] = uint16(v)
		n++
		if i == len(b) {
			break
		}
		if b[i] != ':' || i+1 == len(b) {
			return groups, false
		}
		if i++; b[i] == ':' {
			if gap >= 0 {
				return groups, false
			}
			gap = n
			i++
		}
	}
	if gap < 0 {
		return groups, n == 8
	}
	if n > 7 {
		return groups, false
	}
	copy(groups[gap+8-n:], groups[gap:n])
	clear(groups[gap : gap+8-n])
	return groups, true
}

func assignedIPv6(g [8]uint16) bool {
	switch {
	case g[0]&0xe000 == 0x2000, g[0]&0xfe00 == 0xfc00, g[0]&0xffc0 == 0xfe80, g[0]&0xff00 == 0xff00:
		return true
	case g[0] == 0x64 && g[1] == 0xff9b, g[0] == 0x5f00, [4]uint16(g[:4]) == [4]uint16{0x100}:
		return true
	}
	return g == [8]uint16{7: 1} || [6]uint16(g[:6]) == [6]uint16{5: 0xffff}
}
