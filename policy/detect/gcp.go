package detect

// gcpAPIKey finds API keys of Google Cloud and Maps: AIza and 35 characters of
// base64url. The form is that of the examples in Google's documentation ("Manage
// API keys") and of the rules of gitleaks; it is not specified.
//
// The key of a service account is a private key within JSON, which private-key
// finds.
//
// Not one: what a character of base64url is next to; fewer than ten different
// characters.
var gcpAPIKey = &Detector{
	Name:     "gcp-api-key",
	Summary:  "Google API keys: AIza and 35 characters",
	literals: []string{"AIza"},
	at:       gcpAPIKeyAt,
	find:     anchored("AIza", 0),
}

func gcpAPIKeyAt(data []byte, i int) int {
	if !prefixed(data, i, "AIza") || base64URL.follows(data, i) {
		return -1
	}
	end := base64URL.fixed(data, i, 39)
	if end < 0 || distinct(data[i:end]) < 10 {
		return -1
	}
	return end
}
