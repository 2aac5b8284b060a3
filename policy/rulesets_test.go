package policy_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"framegate/policy"
	"framegate/policy/gitleaks"
)

// ruleSet returns a policy of so many rules:
//
//	1     a card-like number
//	10    examples/policies/default.toml
//	100   those and 90 of the made-up rules
//	221   the rules of gitleaks that have a regex
//	1000  those and 779 of the made-up rules
func ruleSet(tb testing.TB, n int) string {
	tb.Helper()
	switch n {
	case 1:
		return "[[rule]]\nid = \"card\"\naction = \"log\"\nmatch.detect = [\"payment-card\"]\n"
	case 10:
		data, err := os.ReadFile("../examples/policies/default.toml")
		if err != nil {
			tb.Fatal(err)
		}
		return string(data)
	case 100:
		return ruleSet(tb, 10) + madeUp(90)
	case 221:
		return gitleaksRules(tb)
	case 1000:
		return gitleaksRules(tb) + madeUp(779)
	}
	tb.Fatalf("no set of %d rules", n)
	return ""
}

// gitleaksRules are those that "policy import" makes of the file of gitleaks.
func gitleaksRules(tb testing.TB) string {
	tb.Helper()
	data, err := os.ReadFile("gitleaks/testdata/gitleaks.toml")
	if err != nil {
		tb.Fatal(err)
	}
	result, err := gitleaks.Import(data, gitleaks.Options{File: "gitleaks.toml"})
	if err != nil {
		tb.Fatal(err)
	}
	return string(result.Policy)
}

func load(tb testing.TB, text string) *policy.Policy {
	tb.Helper()
	p, err := policy.Parse("rules.toml", []byte(text))
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

// words of business, for made-up rules.
var businessWords = strings.Fields(`account acquisition actuary agenda agreement allocation amendment annuity
appraisal arbitration audit backlog balance bankruptcy benchmark beneficiary bid board bond bonus borrower branch
budget bullion buyer campaign capital carrier cashflow charter claim clause client collateral commission compliance
contract counsel coupon covenant creditor custody damages dealer debenture default deposit derivative dilution
disclosure dividend draft embargo employer endorsement equity escrow estate exchange exempt fiduciary filing forecast
franchise futures garnish grant guarantee hedge holding impairment incentive indemnity insider insolvent insurer
invoice issuer joint kickback landlord lawsuit layoff lease ledger lender liability licence lien litigation loan
manifest margin maturity mediation merger mortgage negotiation nominee notary novation offer offshore option ordinance
outsource overdraft parent patent payroll pension plaintiff portfolio premium principal privilege probate proceeds
procurement prospectus proxy quorum rebate receiver redundancy refund registrar reinsurance remittance rescission
reserve restatement retainer revenue rollover royalty salary sanction securities settlement severance shareholder
sourcing spinoff statement stipend strategy subpoena subsidiary surety surplus syndicate takeover tariff tender tenure
term testimony tort trade tranche treasury trustee underwriter valuation vendor verdict vesting voucher waiver warrant
whistleblower withholding yield`)

// madeUp writes n rules of the kinds that people write: names and phrases that
// must not leave, tokens of vendors, detectors with and without a word beside
// them, commands. They are the same at every call.
func madeUp(n int) string {
	random := rand.New(rand.NewPCG(4, 1))
	pick := func() string { return businessWords[random.IntN(len(businessWords))] }
	syllables := strings.Fields("ar bel cor dex el fin gro hub ix jol kar lum mer nov or pix quo rin sol tek ul vex wim xan yor zet")
	vendor := func() string {
		return syllables[random.IntN(26)] + syllables[random.IntN(26)] + syllables[random.IntN(26)]
	}
	title := func(s string) string { return strings.ToUpper(s[:1]) + s[1:] }
	detectors := []string{"payment-card", "iban", "us-ssn", "email", "phone", "ipv4", "ipv6", "jwt", "private-key", "aws-access-key", "github-token", "slack-token", "stripe-key", "gcp-api-key", "high-entropy"}
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "[[rule]]\nid = \"made-%d\"\naction = \"log\"\n[rule.match]\n", i)
		switch k := i % 20; {
		case k < 4: // project and customer names
			fmt.Fprintf(&b, "contains = [\"Project %s\", \"%s %s\"]\n", title(vendor()), title(vendor()), title(pick()))
		case k < 7: // supervision of words, in any case
			fmt.Fprintf(&b, "keywords = [\"%s %s\", \"%s the %s\", \"%s-%s\"]\n", pick(), pick(), pick(), pick(), pick(), pick())
		case k < 10: // phrases
			fmt.Fprintf(&b, "regex = ['(?i)\\b(?:%s|%s)\\s+(?:of\\s+)?(?:%s|%s)\\b']\n", pick(), pick(), pick(), pick())
		case k < 13: // tokens with a prefix
			fmt.Fprintf(&b, "regex = ['\\b%s_(?:live|test)_[0-9A-Za-z]{%d}\\b']\n", vendor(), 20+random.IntN(20))
		case k < 16: // assignments, as gitleaks has them
			v := vendor()
			fmt.Fprintf(&b, "keywords = [%q]\n", v)
			fmt.Fprintf(&b, `regex = ['''(?i)[\w.-]{0,50}?(?:%s)(?:[ \t\w.-]{0,20})[\s'"]{0,3}(?:=|>|:{1,3}=|\|\||:|=>|\?=|,)[\x60'"\s=]{0,5}([a-z0-9]{%d})(?:[\x60'"\s;]|\\[nr]|$)''']`+"\n", v, 24+random.IntN(17))
		case k == 16: // numbers of customers and orders
			fmt.Fprintf(&b, "regex = ['\\b%s-\\d{6,10}\\b']\n", strings.ToUpper(vendor()[:3]))
		case k == 17: // commands
			fmt.Fprintf(&b, "regex = ['\"(?:cmd|command|action|op)\"\\s*:\\s*\"%s_%s\"']\n", pick(), pick())
		case k == 18: // a detector beside a word
			fmt.Fprintf(&b, "keywords = [%q, %q]\ndetect = [%q]\n", pick(), pick(), detectors[random.IntN(len(detectors))])
		default: // a detector with exceptions of its own
			fmt.Fprintf(&b, "detect = [%q]\n[rule.except]\ncontains = [%q]\n", detectors[random.IntN(5)], pick())
		}
	}
	return b.String()
}
