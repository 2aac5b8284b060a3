// Package detect finds values of known kinds in a message: card numbers, keys,
// addresses. It is pure: bytes go in, a place comes out.
//
// A regular expression says what a value looks like. A [Detector] also says
// whether it can be one: the issuer range and the check digit of a card, the
// length and the check digits of an IBAN, the checksum of a GitHub token, the
// decoded header of a JWT. docs/DETECTORS.md has the table of what counts, what
// does not, and which document says so; the comment above each detector has the
// reasons.
//
// # What a value is
//
// Each detector is defined by one function, at: does a value begin at this byte,
// and where does it end? It looks at the bytes around the value as well, because
// a number within a longer number is none. Find returns the first place that at
// accepts; where the values of one place differ in length, the longest. The rest
// of each file is only about getting to that place without asking at every byte,
// and FuzzFind holds Find to what asking at every byte would have found.
//
// The beginning of the message, a quote and a space are the same to all
// detectors. A letter before a value makes it part of a word, except for the
// letter of \n, \r and \t: a JSON string that nobody has unescaped yet may have
// these. Other escapes are for the caller to undo.
//
// # Cost
//
// Detectors whose values have a fixed part say so by Literals, and a caller that
// looks for all literals at once calls Find only where one is. The others look
// at one byte in ten: a value of n bytes that are all of one class cannot hide
// between probes that are n bytes apart.
//
// Find does not allocate, but for what encoding/json may when it is shown the
// header of a JWT. One call looks at no byte much beyond the value that it
// returns, and at() at a bounded number of bytes or at bytes that hardly any
// later call looks at again, so that the iteration
//
//	for i := 0; ; i = end {
//		start, end = d.Find(data, i)
//		...
//	}
//
// is linear in the length of the data, whatever the data are.
package detect
