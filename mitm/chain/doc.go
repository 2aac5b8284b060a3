// Package chain decides whether a server is who it says: it takes what a server
// presented in a TLS handshake, the name that it was called by, and what is
// trusted, and answers with a verified chain or with an [Error], whose [Code]
// names the reason. It opens nothing and asks nobody: certificates, staple,
// revocation lists and the time are arguments.
//
// # What it adds
//
// The path is built and checked by crypto/x509 (RFC 5280, Section 6: dates,
// signatures, basic constraints, name constraints, nested key purposes). That
// is less than what a browser asks for. On top of it:
//
//   - keys: RSA from 2048 bits with an odd exponent from 3 on, the NIST curves
//     from 256 bits, Ed25519, in every certificate of the chain
//     (CA/Browser Forum Baseline Requirements, Section 6.1.5 and 6.1.6)
//   - signatures: no SHA-1 and no MD5, but on a root, whose own signature
//     proves nothing
//   - names: in the subjectAltName only (RFC 9525, Section 2), a wildcard only
//     as the whole leftmost label (Section 6.3), and never of a public suffix
//   - purpose: an extendedKeyUsage names serverAuth itself, and a keyUsage has
//     digitalSignature (RFC 8446, Section 4.4.2.2)
//   - our own authority: a chain with a certificate of it is a loop, or a
//     second gateway, or a key that was stolen
//   - revocation: a stapled OCSP response (RFC 6960, RFC 6066 Section 8), a
//     must-staple certificate (RFC 7633), and the lists that were configured
//     (RFC 5280, Section 5)
//
// # What it leaves
//
// Nothing is fetched: no issuer by its caIssuers address, no OCSP response, no
// list. Certificate Transparency is not checked, and neither is a longest
// validity, which public certificates have and private ones do not: nothing in
// a certificate tells them apart.
//
// A [Trust] is read-only once it is in use and may be used by any number of
// goroutines.
package chain
