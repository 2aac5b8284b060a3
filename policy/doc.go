// Package policy judges connections and messages by rules written in TOML.
//
// It is pure: values go in, a [Decision] or a [Verdict] comes out. It opens no
// connection, keeps no clock and writes no log; the only I/O is that of [Load] and
// [Policy.LoadCases].
//
// # From file to verdict
//
//	file         TOML, checked as a whole                 document.go, position.go, compile.go
//	Policy       immutable, has a version                 policy.go
//	Decision     inspect, bypass or block one connection  connection.go, host.go
//	Scope        the rules that hold for one connection   scope.go
//	Verdict      what becomes of one message              verdict.go, redact.go
//	Explanation  why it does                              explain.go, explain_reason.go
//	Case         a message, and what is to become of it   cases.go
//
// A Policy never changes. A reload makes another one, and connections take it
// up by asking it for a new [Scope]; nothing is shared between the two. All
// methods of Policy and Scope may be called from many goroutines at once.
//
// # How rules combine
//
// Every rule that matches is recorded, and the strictest action decides: close,
// drop, redact, log, allow, in this order. Only if no enforced rule matched
// does the default of the policy apply. So the order of rules has no influence
// on what happens to a message, only on the order of the recorded ids.
//
// A rule without an opcode condition, and the default, are about data messages:
// they spare ping, pong and close, which keep a connection alive and in order.
//
// # What text matches
//
// Conditions look at the bytes of a message, after unmasking and inflating.
// "contains" compares bytes, so it is case-sensitive. "regex" is the syntax and
// the meaning of the Go package regexp (RE2), whose time is linear in the size
// of the message. Case is ignored only under (?i), and then as Unicode simple
// folding defines it: (?i)k also matches the Kelvin sign U+212A, and (?i)s the
// long s U+017F. A byte that is not UTF-8 counts as one U+FFFD.
//
// # What redaction replaces
//
// All that the match conditions of the redact rules found, by '*' for each byte
// or by the rule's own text; in a message that is JSON, only so much of it that
// the result is JSON (redact.go). It is looked for only when a redact rule has
// matched and nothing stricter did; [Verdict.Redact] makes a copy, and a message
// that is not redacted costs nothing.
//
// # How many rules are matched at once
//
// The strings of all "contains" and, for every regex, some strings of which
// each match must have one (literal.go) go into a single Aho-Corasick automaton
// (automaton.go) that reads a message once, whatever the number of rules. A
// regex runs only if one of its strings was found, and if it begins with it, only
// around it (gate.go, near.go). One that has no such string but needs a long run
// of few different bytes, as card numbers and tokens do, runs only on such runs
// (run.go). Those that remain run on every message, and [Policy.Warnings] names
// them. A detector is asked once a message, whatever the number of rules that ask.
// The result is the same as that of evaluating each condition by itself; FuzzMatch
// holds the package to that, and FuzzStream holds a [Stream] to the whole.
package policy
