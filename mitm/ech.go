package mitm

import (
	"crypto/tls"
	"slices"
)

// Encrypted Client Hello (RFC 9849): a ClientHello may carry a second one, which
// only the server can read. The name that we see is then that of a front. Most
// that carry it carry noise (GREASE, Section 6.2), and name the server; nobody
// but the server can tell the two apart.
//
// We have no keys and send no retry configurations. A client that means it
// verifies our leaf for the name of the front, ends the connection with
// ech_required, takes ECH for disabled by the server, and comes back with its
// true name in the open (Section 6.1.6). A client that only greases goes on. So
// whatever is opened is decided by the true name.

// extensionECH is encrypted_client_hello (RFC 9849, Section 10.1).
const extensionECH = 0xfe0d

// hasECH reports whether a ClientHello carries another one, or noise.
func hasECH(h *tls.ClientHelloInfo) bool { return slices.Contains(h.Extensions, extensionECH) }

// echUnseen says of a connection that is bypassed that its name may be one of a front.
const echUnseen = "ech: the ClientHello may hide another name than this one"

// echRejected says why a client with ECH has left.
const echRejected = "the client wants Encrypted Client Hello; it may come back without"

// markECH adds to the reason of a bypass what is not known of its name.
func (f *flow) markECH() {
	switch {
	case !f.ech:
	case f.reason == "":
		f.reason = echUnseen
	default:
		f.reason += "; " + echUnseen
	}
}
