package detect

import "bytes"

// privateKey finds private keys in textual form: the line -----BEGIN, a label
// that ends in PRIVATE KEY, and -----. That is PKCS #8, also ENCRYPTED (RFC 7468,
// sections 10 and 11), the older RSA, EC and DSA, OPENSSH (openssh-portable,
// PROTOCOL.key), and PGP PRIVATE KEY BLOCK (RFC 9580, section 6.2).
//
// The value reaches to the end of the line -----END if nothing but such text is
// in between, line breaks written as \n included; otherwise over what base64
// follows. That line alone counts, too: the rest may come with the next message.
//
// Not one: public keys, certificates and requests; words that speak of a key
// without the five hyphens.
var privateKey = &Detector{
	Name:     "private-key",
	Summary:  "private keys in PEM: PKCS #8, RSA, EC, DSA, OpenSSH, PGP",
	literals: []string{"-----BEGIN"},
	at:       privateKeyAt,
	find:     anchored(pemBegin, 0),
}

const (
	pemBegin        = "-----BEGIN "
	pemEnd          = "-----END "
	pemDashes       = "-----"
	longestPEMLabel = 64
)

var (
	labelBytes = classOf(upper + decimal + " ")
	bodyBytes  = classOf(alphabet + "+/=\r\n\\")
	// With the header lines of RFC 1421, section 4.6, and of RFC 9580, section 6.2.2.
	armorBytes = classOf(alphabet + "+/=\r\n\\ \t:,.;()<>@_")
)

func privateKeyAt(data []byte, i int) int {
	if !prefixed(data, i, pemBegin) {
		return -1
	}
	start := i + len(pemBegin)
	end := labelBytes.end(data, start, longestPEMLabel)
	label := data[start:end]
	if !bytes.HasSuffix(label, []byte("PRIVATE KEY")) && !bytes.HasSuffix(label, []byte("PRIVATE KEY BLOCK")) ||
		!prefixed(data, end, pemDashes) {
		return -1
	}
	body := end + len(pemDashes)
	i = body
	for i < len(data) && (armorBytes[data[i]] || data[i] == '-' && !prefixed(data, i, pemDashes)) {
		i++
	}
	if prefixed(data, i, pemEnd) && bytes.HasPrefix(data[i+len(pemEnd):], label) &&
		prefixed(data, i+len(pemEnd)+len(label), pemDashes) {
		return i + len(pemEnd) + len(label) + len(pemDashes)
	}
	i = bodyBytes.end(data, body, len(data))
	for i > body { // line breaks and escapes of them are no part
		switch c := data[i-1]; {
		case c == '\r', c == '\n', c == '\\':
			i--
		case escaped(data, i-1):
			i -= 2
		default:
			return i
		}
	}
	return i
}
