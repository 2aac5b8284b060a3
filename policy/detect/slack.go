package detect

// slackToken finds tokens of Slack (Slack, "Tokens"): xoxb- (bot), xoxp- (user),
// xoxa-, xoxr-, xoxo-, xoxs-, xoxc- (older or of the browser), xoxe- and
// xoxe.xoxp- (rotated), xapp- (app). Behind the prefix come parts joined by
// hyphens, the first of them a number; the last one has 16 letters and digits or
// more, at least 8 different ones and a digit among them.
//
// Not one: names for a token (xoxb-your-token, xoxp-1-YourTokenGoesRightHere)
// and placeholders (xoxb-1234-XXXXXXXXXXXXXXXXXXXX). Slack documents prefixes, not lengths.
var slackToken = &Detector{
	Name:     "slack-token",
	Summary:  "Slack tokens: xoxb-, xoxp-, xoxe. and the like, xapp-",
	literals: []string{"xox", "xapp-"},
	at:       slackTokenAt,
	find:     starting("x"),
}

// slackWebhook finds addresses that anyone may post to (Slack, "Sending messages
// using incoming webhooks"): hooks.slack.com or hooks.slack-gov.com, then
// /services/T.../B.../ and a secret of 24 letters and digits, or /workflows/ and
// /triggers/ with their ids and a secret. The value begins with the host.
//
// Not one: the T000/B000/XXXX of manuals, whose secret has fewer than 8 different
// characters; other pages of the host.
var slackWebhook = &Detector{
	Name:     "slack-webhook",
	Summary:  "Slack webhook addresses with their secret",
	literals: []string{"hooks.slack"},
	at:       slackWebhookAt,
	find:     anchored("hooks.slack", 0),
}

const longestSlackToken = 400

var (
	slackKinds = classOf("abceoprs")
	slackBytes = classOf(alphabet + "-")
	slackPath  = classOf(alphabet + "/")
)

func slackTokenAt(data []byte, i int) int {
	if isWord.follows(data, i) {
		return -1
	}
	pos := i
	switch {
	case prefixed(data, i, "xapp-"):
		pos += len("xapp-")
	case prefixed(data, i, "xoxe.xoxb-"), prefixed(data, i, "xoxe.xoxp-"):
		pos += len("xoxe.xoxb-")
	case prefixed(data, i, "xox") && len(data)-i > 5 && slackKinds[data[i+3]] && data[i+4] == '-':
		pos += len("xoxb-")
	default:
		return -1
	}
	end := slackBytes.end(data, pos, longestSlackToken+1)
	if end-pos > longestSlackToken || prefixed(data, end, "_") {
		return -1
	}
	number := isDecimal.end(data, pos, end-pos)
	if number == pos || number == end || data[number] != '-' {
		return -1
	}
	last := end
	for last > number && isAlnum[data[last-1]] {
		last--
	}
	if end-last < 16 || distinct(data[last:end]) < 8 || !kindsOf(data[last:end]).digit {
		return -1
	}
	return end
}

func slackWebhookAt(data []byte, i int) int {
	pos := i
	switch {
	case isWord.follows(data, i):
		return -1
	case prefixed(data, i, "hooks.slack.com/"):
		pos += len("hooks.slack.com/")
	case prefixed(data, i, "hooks.slack-gov.com/"):
		pos += len("hooks.slack-gov.com/")
	default:
		return -1
	}
	switch {
	case prefixed(data, pos, "services/"):
	case prefixed(data, pos, "workflows/"):
	case prefixed(data, pos, "triggers/"):
	default:
		return -1
	}
	end := slackPath.end(data, pos, 200)
	secret := end
	for secret > pos && isAlnum[data[secret-1]] {
		secret--
	}
	if end-secret < 20 || distinct(data[secret:end]) < 8 {
		return -1
	}
	return end
}
