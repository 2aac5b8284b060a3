package frames

import "unicode/utf8"

// notUTF8 is the violation of Section 5.6: "a particular text frame might
// include a partial UTF-8 sequence; however, the whole message MUST contain
// valid UTF-8."
func notUTF8() *ProtocolError {
	return violation(InvalidPayload, "5.6", "text message is not UTF-8")
}

// utf8Pieces looks whether a text that comes in pieces, cut anywhere, is UTF-8.
type utf8Pieces struct {
	tail [utf8.UTFMax]byte // the beginning of a character
	n    int
}

// next reports whether the text up to the end of b can be the beginning of
// UTF-8.
func (u *utf8Pieces) next(b []byte) bool {
	for u.n > 0 && len(b) > 0 {
		u.tail[u.n] = b[0]
		u.n++
		b = b[1:]
		if utf8.FullRune(u.tail[:u.n]) {
			if !utf8.Valid(u.tail[:u.n]) {
				return false
			}
			u.n = 0
		}
	}
	for back := 1; back <= min(len(b), utf8.UTFMax-1); back++ {
		if last := b[len(b)-back:]; utf8.RuneStart(last[0]) {
			if !utf8.FullRune(last) {
				u.n = copy(u.tail[:], last)
				b = b[:len(b)-back]
			}
			break
		}
	}
	return utf8.Valid(b)
}

// complete reports whether the text does not end within a character.
func (u *utf8Pieces) complete() bool { return u.n == 0 }
