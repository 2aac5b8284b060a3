package detect

// stripeKey finds the live keys of Stripe: sk_live_ (secret) or rk_live_
// (restricted) and 16 to 247 letters and digits (Stripe, "API keys").
//
// Not one: publishable keys (pk_), which are meant to be seen; test keys
// (sk_test_), which move no money; fewer than 8 different characters; what a
// letter, a digit or an underscore is next to.
var stripeKey = &Detector{
	Name:     "stripe-key",
	Summary:  "Stripe live keys: sk_live_ and rk_live_",
	literals: []string{"sk_live_", "rk_live_"},
	at:       stripeKeyAt,
	find:     starting("rs"),
}

func stripeKeyAt(data []byte, i int) int {
	const longest = 247
	if !prefixed(data, i, "sk_live_") && !prefixed(data, i, "rk_live_") ||
		isWord.follows(data, i) || escaped(data, i) {
		return -1
	}
	key := i + len("sk_live_")
	end := isAlnum.end(data, key, longest)
	if end-key < 16 || isWord.precedes(data, end) || distinct(data[key:end]) < 8 {
		return -1
	}
	return end
}
