package detect

// awsAccessKey finds the ids of access keys of Amazon Web Services: 20 upper
// case letters and digits of base32, of which the first four are AKIA (long-term
// key), ASIA (temporary key), ABIA (bearer token) or ACCA (context-specific
// credential): AWS IAM User Guide, "IAM identifiers", "Understanding unique ID
// prefixes".
//
// Not one: ids of users, roles and so on (AIDA, AROA), which open nothing; what a
// letter, a digit or an underscore is next to; fewer than six different
// characters, as in AKIAXXXXXXXXXXXXXXXX.
var awsAccessKey = &Detector{
	Name:     "aws-access-key",
	Summary:  "AWS access key ids: AKIA, ASIA, ABIA or ACCA and 16 characters",
	literals: []string{"AKIA", "ASIA", "ABIA", "ACCA"},
	at:       awsAccessKeyAt,
	find:     starting("A"),
}

// awsSecretKey finds the secrets to them: 40 characters of base64, with upper
// and lower case and digits, that look random (4.25 bits per character or more),
// and shortly before them "aws", "secret" or "amazon".
//
// The form is not documented, only seen in the examples of the AWS IAM User
// Guide ("Manage access keys for IAM users"). So without such a word it does not
// count, and neither do SHA-1 digests, which are in one case.
var awsSecretKey = &Detector{
	Name:    "aws-secret-key",
	Summary: "AWS secret access keys: 40 characters with \"aws\" or \"secret\" before them",
	at:      awsSecretKeyAt,
	find:    runs(awsSecretBytes, awsSecretLength),
}

const awsSecretLength = 40

var (
	base32         = classOf(upper + "234567")
	awsSecretBytes = classOf(alphabet + "+/")
)

func awsAccessKeyAt(data []byte, i int) int {
	if len(data)-i < 20 || isWord.follows(data, i) {
		return -1
	}
	switch string(data[i : i+4]) {
	case "AKIA", "ASIA", "ABIA", "ACCA":
	default:
		return -1
	}
	end := base32.fixed(data, i, 20)
	if end < 0 || isWord.precedes(data, end) || distinct(data[i+4:end]) < 6 {
		return -1
	}
	return end
}

func awsSecretKeyAt(data []byte, i int) int {
	if awsSecretBytes.follows(data, i) || escaped(data, i) {
		return -1
	}
	end := awsSecretBytes.fixed(data, i, awsSecretLength)
	if end < 0 || prefixed(data, end, "=") {
		return -1
	}
	key := data[i:end]
	if k := kindsOf(key); !k.upper || !k.lower || !k.digit || entropy(key) < 4.25 ||
		!near(data, i, "aws", "secret", "amazon") {
		return -1
	}
	return end
}
