package detect

// highEntropy finds tokens that look random and so are likely to be secrets of
// a kind that no other detector knows: a run of 20 to 512 characters of base64
// or base64url, with up to two = at its end. By itself one counts if it has
// upper case, lower case and digits, its Shannon entropy is at least
//
//	length              20    24    32    40
//	bits per character  3.6   3.8   4.1   4.4
//	changes of kind     34 %  37 %  41 %  43 %
//
// and so many of its characters are of another kind than the one before them.
// One random token of base62 in thirty falls below; words, names of
// functions and paths do not get there.
//
// Shortly after "key", "token", "secret", "password", "passwd", "auth" or
// "credential", less is enough: letters and digits alone, of one case, such as
// 32 or more hexadecimal digits with 2.9 bits, or others with 3.4 bits, and one
// in six of another kind than the one before it.
//
// Not one: a UUID, a ULID, a hexadecimal digest or commit with no such word
// before it; words, also joined by hyphens, slashes or case; the digest of
// subresource integrity (sha384-...); what comes after "base64,", and longer
// runs, which are data. Random ids that are no secrets look the same and count;
// measured is disorder, not meaning. The idea and the orders of magnitude
// are those of Yelp's detect-secrets (high_entropy_strings.py: 4.5 for base64 and 3.0 for
// hexadecimal), which takes any string in quotes.
var highEntropy = &Detector{
	Name:    "high-entropy",
	Summary: "random tokens of 20 to 512 characters: mixed kinds, high Shannon entropy",
	at:      highEntropyAt,
	find:    runs(base64Any, shortestToken),
}

const (
	shortestToken = 20
	longestToken  = 512
)

var (
	base64Any     = classOf(alphabet + "+/-_")
	integrity     = []string{"sha1-", "sha256-", "sha384-", "sha512-"}
	secretContext = []string{"key", "token", "secret", "password", "passwd", "auth", "credential"}
)

// runs finds values that are whole runs of a class, of least bytes or more.
func runs(c *class, least int) func([]byte, int, at) (int, int) {
	return func(data []byte, from int, at at) (int, int) {
		for i := c.seek(data, from, least); i >= 0; i = c.seek(data, i, least) {
			if end := at(data, i); end >= 0 {
				return i, end
			}
			if escaped(data, i) && i+1 < len(data) { // the run begins behind \n
				if end := at(data, i+1); end >= 0 {
					return i + 1, end
				}
			}
			i = c.end(data, i, len(data))
		}
		return -1, -1
	}
}

func highEntropyAt(data []byte, i int) int {
	if !base64Any.precedes(data, i) || base64Any.follows(data, i) || escaped(data, i) {
		return -1
	}
	end := base64Any.end(data, i, longestToken+1)
	if n := end - i; n < shortestToken || n > longestToken {
		return -1
	}
	token := data[i:end]
	for _, s := range integrity {
		if prefixed(token, 0, s) {
			return -1
		}
	}
	if k := kindsOf(token); !k.random(token) && !(k.randomNamed(token) && near(data, i, secretContext...)) ||
		i >= len("base64,") && prefixed(data, i-len("base64,"), "base64,") {
		return -1
	}
	for n := 0; n < 2 && end < len(data) && data[end] == '='; n++ {
		end++
	}
	return end
}

// kinds tells what a token is made of.
type kinds struct {
	length              int
	upper, lower, digit bool
	beyondHex           bool // has a letter that is no hexadecimal digit
	slashes, marks      int  // slashes; all that are neither letter nor digit
	changes             int  // letters and digits of another kind than that before
}

func kindsOf(token []byte) kinds {
	k := kinds{length: len(token)}
	var before byte
	for _, c := range token {
		var now byte
		switch {
		case 'a' <= c && c <= 'z':
			k.lower, now = true, 'a'
		case 'A' <= c && c <= 'Z':
			k.upper, now = true, 'A'
		case isDecimal[c]:
			k.digit, now = true, '0'
		default:
			k.marks++
			if c == '/' {
				k.slashes++
			}
		}
		if now != 0 && !isHex[c] {
			k.beyondHex = true
		}
		if before != 0 && now != 0 && before != now {
			k.changes++
		}
		before = now
	}
	return k
}

func (k *kinds) random(token []byte) bool {
	bits, changes := 4.4, 43
	switch {
	case k.length < 24:
		bits, changes = 3.6, 34
	case k.length < 32:
		bits, changes = 3.8, 37
	case k.length < 40:
		bits, changes = 4.1, 41
	}
	return k.upper && k.lower && k.digit && 100*k.changes >= changes*k.length &&
		k.slashes < 3+k.length/32 && entropy(token) >= bits
}

// randomNamed is random for a token whose name says that it is a secret.
func (k *kinds) randomNamed(token []byte) bool {
	if k.marks > 0 || !k.digit || !k.upper && !k.lower || 6*k.changes < k.length {
		return false
	}
	if !k.beyondHex {
		return k.length >= 32 && entropy(token) >= 2.9
	}
	return entropy(token) >= 3.4
}
