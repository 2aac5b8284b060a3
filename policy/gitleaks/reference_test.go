package gitleaks

import (
	"math"
	"regexp"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"
)

// A reference finds secrets as gitleaks does in a text without a file name. It is
// what an imported policy is held to: Detector.Detect and detectRule, which do one
// thing after the other, over the rules as they stand in the file.
type reference struct {
	AllowList *refAllowlist
	Rules     []*struct {
		ID          string
		Path, Regex string
		SecretGroup int
		Entropy     float64
		Keywords    []string
		Allowlists  []*refAllowlist
		compiled    *regexp.Regexp
	}
}

type refAllowlist struct {
	Condition, RegexTarget             string
	Commits, Paths, Regexes, StopWords []string
	compiled                           []*regexp.Regexp
}

func newReference(tb testing.TB, data []byte) *reference {
	tb.Helper()
	r := &reference{}
	if _, err := toml.Decode(string(data), r); err != nil {
		tb.Fatal(err)
	}
	compile := func(a *refAllowlist) {
		for _, text := range a.Regexes {
			a.compiled = append(a.compiled, regexp.MustCompile(text))
		}
	}
	compile(r.AllowList)
	for _, rule := range r.Rules {
		rule.compiled = regexp.MustCompile(rule.Regex)
		for _, a := range rule.Allowlists {
			compile(a)
		}
	}
	return r
}

// detect returns the ids of the rules with a finding in text.
func (r *reference) detect(text string) (ids []string) {
	lower := strings.ToLower(text)
	for _, rule := range r.Rules {
		if rule.Path != "" || len(rule.Keywords) > 0 && !containsAny(lower, rule.Keywords) {
			continue
		}
		for _, at := range rule.compiled.FindAllStringIndex(text, -1) {
			match := strings.Trim(text[at[0]:at[1]], "\n")
			secret := match
			if groups := rule.compiled.FindStringSubmatch(match); len(groups) >= 2 {
				if rule.SecretGroup > 0 {
					secret = groups[rule.SecretGroup]
				} else {
					for _, s := range groups[1:] {
						if len(s) > 0 {
							secret = s
							break
						}
					}
				}
			}
			if rule.Entropy != 0 && shannon(secret) <= rule.Entropy {
				continue
			}
			line := text[strings.LastIndexByte(text[:at[0]], '\n')+1:]
			if i := strings.IndexByte(line[at[1]-(len(text)-len(line)):], '\n'); i >= 0 {
				line = line[:at[1]-(len(text)-len(line))+i]
			}
			allowed := r.AllowList.allows(secret, match, line)
			for _, a := range rule.Allowlists {
				allowed = allowed || a.allows(secret, match, line)
			}
			if !allowed {
				ids = append(ids, rule.ID)
				break
			}
		}
	}
	return ids
}

func (a *refAllowlist) allows(secret, match, line string) bool {
	target := secret
	switch a.RegexTarget {
	case "match":
		target = match
	case "line":
		target = line
	}
	regexAllowed := false
	for _, re := range a.compiled {
		regexAllowed = regexAllowed || re.FindString(target) != ""
	}
	stopword := containsAny(strings.ToLower(secret), a.StopWords)
	if a.Condition == "AND" {
		return len(a.Commits) == 0 && len(a.Paths) == 0 &&
			(len(a.Regexes) == 0 || regexAllowed) && (len(a.StopWords) == 0 || stopword)
	}
	return regexAllowed || stopword
}

func containsAny(text string, words []string) bool {
	for _, w := range words {
		if strings.Contains(text, strings.ToLower(w)) {
			return true
		}
	}
	return false
}

// shannon is ShannonEntropy of detect/utils.go.
func shannon(data string) (entropy float64) {
	counts := map[rune]int{}
	for _, char := range data {
		counts[char]++
	}
	for _, count := range counts {
		freq := float64(count) / float64(len(data))
		entropy -= freq * math.Log2(freq)
	}
	return entropy
}
