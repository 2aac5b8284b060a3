// Package jsonpath finds the values at many paths of a JSON text (RFC 8259) in
// one pass over it, and decodes the escapes of its strings, so that content is
// compared as the receiver will read it.
//
// It is pure: bytes go in, values and offsets come out. Nothing is built for
// the parts of a document that no path asks for.
//
//	Path       one place of a document                       path.go
//	Set        many paths as one trie                        set.go
//	Walk       the values of a document at those paths       walk.go, scan.go
//	Value      one of them                                   value.go
//	Unescaped  a document without escapes, and the way back  unescape.go
//
// # What is JSON
//
// Exactly one value with optional whitespace around it, as RFC 8259 and
// [encoding/json.Valid] have it, with two exceptions. Both are for the sake of
// rules, which a document must not escape by being unusual:
//
//   - There is no limit on nesting. encoding/json refuses more than 10,000
//     levels, but browsers do not. Nesting costs one bit a level, no recursion.
//   - A byte order mark at the very beginning is passed over: "implementations
//     that parse JSON texts MAY ignore the presence of a byte order mark"
//     (Section 8.1), and some receivers do.
//
// Text in other encodings than UTF-8 is not JSON (Section 8.1). Inside of a
// string, bytes that are not UTF-8 are no reason to refuse a document, just as
// for encoding/json, and they are kept as they are. A WebSocket text message
// has none (RFC 6455, Section 8.1).
//
// A receiver that takes more than RFC 8259 allows (comments, single quotes, a
// comma at the end) reads documents that this package calls invalid. Rules that
// have to be sure must not let pass what is not JSON.
//
// # Names
//
// The names of members are compared after unescaping (Section 8.3): "\u0072ole"
// is role. There is no Unicode normalisation, and case matters, as it does to
// most receivers. encoding/json ignores case when it fills a struct: before such
// a server a rule needs a path for each spelling that counts.
//
// "When the names within an object are not unique, the behavior of software
// that receives such an object is unpredictable" (Section 4). So each of the
// members that share a name is found, whichever one the receiver will take.
//
// # Numbers
//
// They compare as float64, which Section 6 expects to be what receivers have,
// except that two integers written out in digits are equal only if their digits
// are: beyond 2^53 neighbours would fall together, and identifiers live there.
// So 1, 1.0, 10e-1 and 1.00000000000000000001 are equal, 9007199254740992 and
// 9007199254740993 are not. Greater and less are those of float64. See
// [Value.Equal] and [Value.Number].
//
// # Lifetimes
//
// A Path and a Set are immutable and may be used by many goroutines. A Value
// and an Unescaped refer to the document, which must not change meanwhile.
package jsonpath
