// Package gitleaks makes a policy of a rule file of gitleaks, the scanner for
// secrets in repositories (https://github.com/gitleaks/gitleaks).
//
// # What becomes of what
//
// The meaning of a rule is that of Detector.detectRule and checkFindingAllowed
// in detect/detect.go of gitleaks v8.25.0, the version that its default rules ask
// for, and of Config.Translate in config/config.go.
//
//	keywords             keywords of [rule.match]; any of them, in any case
//	regex                regex of [rule.match]
//	secretGroup          group of [rule.value]; without it the first group that has
//	                     text, or else the whole match: group = "first"
//	entropy              entropy of [rule.value]: gitleaks wants more than it says, a
//	                     policy no less, so it is the next number above
//	stopwords            words of [rule.value.except]
//	regexes              by regexTarget regex, match or line of [rule.value.except]
//	[[allowlists]]       the same, for all rules or those of targetRules
//
// # What has no counterpart
//
// A message has no file name and belongs to no commit. gitleaks applies a rule
// with a path to such files alone, and to text without a name never; such a rule
// is left out. Of an allowlist the paths and commits are left out, and all of
// it if it asks for them and for something else at once. A [Note] tells of each.
//
// What concerns several findings has no counterpart either: gitleaks drops what
// its generic rule finds where a better rule found the same (filter in
// detect/utils.go), and a policy records both. Its comment "gitleaks:allow" is not
// heeded: the sender of a message could write it.
//
// There remain differences in what hardly occurs: gitleaks divides by bytes where
// entropy here is of characters; it ignores the case of all letters in keywords,
// a policy that of ASCII; it looks for the groups in the match alone, without the
// line feeds around it; it reports a secretGroup without text, if nothing is
// asked of its entropy.
package gitleaks
