package detect

// paymentCard finds payment card numbers: a known issuer range, a length that
// the issuer uses, and the check digit of Luhn (ISO/IEC 7812-1, annex B).
//
// Ranges and lengths are those that the networks publish, as collected by
// Wikipedia, "Payment card number"; tests use the numbers that Stripe, Adyen,
// Braintree and PayPal give out for testing.
//
// Separators are one space or one dash, the same throughout, between groups as
// they are on cards: fours with a shorter last one, 4-6-5 (American Express),
// 4-6-4 (Diners Club), 6-13 (19 digits), or every digit by itself. Any digits of
// Unicode count, also mixed.
//
// Not a card: part of a longer number, of a word, or of a decimal fraction;
// times in milliseconds to nanoseconds, which begin with 1, as no card does; a
// number of 13 digits that is an EAN-13, since Visa has long stopped issuing
// such short ones and German goods begin with 4; one of less than 15 digits that
// hyphens join to a word or number, which is a part of a UUID or an order id.
// A letter may not be next to it, except the B of %B, which begins track 1 of a
// magnetic stripe (ISO/IEC 7813). An underscore may: test_4111111111111111.
var paymentCard = &Detector{
	Name:    "payment-card",
	Summary: "payment card numbers: issuer range, length and Luhn check digit",
	at:      cardAt,
	find:    numbers(12),
}

// An issuer has the numbers from first to last, which are prefixes of the same
// number of digits. lengths has a bit for each number of digits in use.
type issuer struct {
	first, last int
	digits      int
	lengths     uint32
}

func lengths(n ...int) (set uint32) {
	for _, n := range n {
		set |= 1 << n
	}
	return set
}

const longestCard = 19 // ISO/IEC 7812-1

var issuers = []issuer{
	{4, 4, 1, lengths(13, 16, 19)},                           // Visa
	{51, 55, 2, lengths(16)},                                 // Mastercard
	{2221, 2720, 4, lengths(16)},                             // Mastercard
	{34, 34, 2, lengths(15)},                                 // American Express
	{37, 37, 2, lengths(15)},                                 // American Express
	{6011, 6011, 4, lengths(16, 17, 18, 19)},                 // Discover
	{644, 659, 3, lengths(16, 17, 18, 19)},                   // Discover
	{300, 305, 3, lengths(14, 16)},                           // Diners Club
	{3095, 3095, 4, lengths(14, 16)},                         // Diners Club
	{36, 36, 2, lengths(14, 16)},                             // Diners Club
	{38, 39, 2, lengths(14, 16)},                             // Diners Club
	{3528, 3589, 4, lengths(16, 17, 18, 19)},                 // JCB
	{62, 62, 2, lengths(16, 17, 18, 19)},                     // UnionPay
	{8100, 8171, 4, lengths(16, 17, 18, 19)},                 // UnionPay
	{2200, 2204, 4, lengths(16, 17, 18, 19)},                 // Mir
	{5018, 5018, 4, lengths(12, 13, 14, 15, 16, 17, 18, 19)}, // Maestro
	{5019, 5019, 4, lengths(16)},                             // Dankort
	{5020, 5020, 4, lengths(12, 13, 14, 15, 16, 17, 18, 19)}, // Maestro
	{5038, 5038, 4, lengths(12, 13, 14, 15, 16, 17, 18, 19)}, // Maestro
	{5893, 5893, 4, lengths(12, 13, 14, 15, 16, 17, 18, 19)}, // Maestro
	{6304, 6304, 4, lengths(12, 13, 14, 15, 16, 17, 18, 19)}, // Maestro
	{67, 67, 2, lengths(12, 13, 14, 15, 16, 17, 18, 19)},     // Maestro
}

// cardLengths has the lengths in use of all numbers that begin with these four
// digits.
var cardLengths = func() (table [10000]uint32) {
	for _, s := range issuers {
		scale := 1
		for range 4 - s.digits {
			scale *= 10
		}
		for p := s.first * scale; p < (s.last+1)*scale; p++ {
			table[p] |= s.lengths
		}
	}
	return table
}()

func cardAt(data []byte, i int) int {
	if !numberStarts(data, i) && !(i >= 2 && data[i-1] == 'B' && data[i-2] == '%') {
		return -1
	}
	var (
		digits    [longestCard]uint8
		groups    [longestCard]uint8
		n, g      int
		separator kind
		end       = -1
	)
	for pos := i; ; {
		first := n
		for {
			k, value, size := read(data, pos)
			if k != digit {
				break
			}
			if n == longestCard {
				return end
			}
			digits[n] = value
			n++
			pos += size
		}
		if n == first {
			return end
		}
		groups[g] = uint8(n - first)
		g++
		if isCard(digits[:n]) && cardGroups(groups[:g]) && numberEnds(data, pos) &&
			(n >= 15 || !hyphenated(data, i, pos)) {
			end = pos
		}
		k, _, size := read(data, pos)
		if k != space && k != dash || separator != other && k != separator {
			return end
		}
		separator = k
		pos += size
	}
}

// isCard reports whether some issuer has such numbers and the check digit is right.
func isCard(digits []uint8) bool {
	if len(digits) < 12 {
		return false
	}
	prefix := int(digits[0])*1000 + int(digits[1])*100 + int(digits[2])*10 + int(digits[3])
	return cardLengths[prefix]&(1<<len(digits)) != 0 && luhn(digits) &&
		!(len(digits) == 13 && ean13(digits))
}

// luhn: from the right, every second digit is doubled, and the digits of all
// that make a multiple of ten.
func luhn(digits []uint8) bool {
	sum, double := 0, false
	for i := len(digits) - 1; i >= 0; i-- {
		d := int(digits[i])
		if double {
			if d *= 2; d > 9 {
				d -= 9
			}
		}
		sum += d
		double = !double
	}
	return sum%10 == 0
}

// ean13 checks the digit of GS1 General Specifications, section 7.9: from the
// left, weights 1 and 3 in turn.
func ean13(digits []uint8) bool {
	sum := 0
	for i, d := range digits {
		sum += int(d) * (1 + 2*(i%2))
	}
	return sum%10 == 0
}

// cardGroups reports whether people write cards in groups of these lengths.
func cardGroups(groups []uint8) bool {
	last := len(groups) - 1
	switch {
	case last == 0:
		return true
	case last == 1 && groups[0] == 6:
		return groups[1] == 13
	case last == 2 && groups[0] == 4 && groups[1] == 6:
		return groups[2] == 4 || groups[2] == 5
	}
	size := groups[0] // all of four with a shorter last one, or all of one
	if size != 4 && size != 1 {
		return false
	}
	for _, g := range groups[:last] {
		if g != size {
			return false
		}
	}
	return groups[last] <= size
}
