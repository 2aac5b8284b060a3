package capture

import "bytes"

// guess tells the client of a connection whose beginning was not captured, by
// the first data: the side that sends a request, or the higher port.
func (c *connection) guess(from int, data []byte) int {
	switch {
	case looksLikeRequest(data):
		return from
	case bytes.HasPrefix(data, []byte("HTTP/1.")):
		return 1 - from
	}
	if a, b := c.pair[from].Port(), c.pair[1-from].Port(); a < b {
		return 1 - from
	}
	return from
}

// looksLikeRequest reports whether b begins with a method and a target.
func looksLikeRequest(b []byte) bool {
	method, rest, ok := bytes.Cut(b[:min(len(b), 24)], []byte(" "))
	if !ok || len(method) < 3 || len(rest) == 0 {
		return false
	}
	for _, c := range method {
		if c < 'A' || c > 'Z' {
			return false
		}
	}
	return rest[0] == '/' || rest[0] == '*' || rest[0] >= 'a' && rest[0] <= 'z'
}
