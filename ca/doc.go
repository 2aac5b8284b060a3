// Package ca is the gateway's own certification authority: it makes a root and two issuing
// intermediates once, and from then on mints the short-lived leaf that an intercepted client
// sees in place of the origin's certificate.
//
// # The shape of the authority
//
//	root         RSA-3072, 10 years, pathlen 1     the one certificate that devices install
//	├── issuing-ecdsa  P-256, 1 year, pathlen 0    signs P-256 leaves: the default
//	└── issuing-rsa    RSA-3072, 1 year, pathlen 0 signs RSA-2048 leaves: for clients without ECDSA
//
// Why the root is RSA: a client that cannot verify ECDSA cannot verify an RSA leaf either if an
// ECDSA key signed it, or signed its issuer. Such a client needs RSA all the way up. Every
// client that prefers ECDSA in practice verifies RSA signatures too, since most public roots
// are RSA. So one RSA root serves both, at the price of one RSA verification (the cheap RSA
// operation, and the client's) and about 400 bytes in the default chain; the gateway itself
// does P-256 only. The one client left out verifies ECDSA and nothing else. It would need a
// second root on every device, so it is a case for a bypass rule.
//
// Why two tiers: the root key is needed only to replace an intermediate. Load works without
// root.key, and without permission to read it, so it can be kept offline or for the superuser
// alone. Instead of this root there may be that of an enterprise, which signs the issuers, with
// others of its own between, and perhaps one of the two only (Request, Import).
//
// # Changes
//
// Rotate replaces the issuers; devices need nothing. A change of roots has an overlap: NewRoot adds
// a second root beside the one in force, with issuers under it, and Roots has both, for devices to
// get; Activate exchanges them, as often as one likes; DropRoot ends it. The roots do not sign each
// other: a certificate for the new root under the old one would exceed the old one's path length,
// one for the new issuers would ride in every handshake, and clients differ in how they choose
// between two paths. Managed devices can be given two roots.
//
// Every change is all or nothing, also in a crash, and is loaded as a proof before it is made: see
// change in change.go. An Authority that is in use never changes; whoever wants the new state
// loads it again, and compares Version.
//
// Which leaf a client gets is asked of crypto/tls itself (ClientHelloInfo.SupportsCertificate),
// so it cannot drift from what the handshake will choose.
//
// # The leaf
//
// The profile is that of the NIAP "PP-Module for SSL/TLS Inspection Proxy" 2.0, FDP_CER_EXT.1,
// on top of RFC 5280: version 3; 128 random bits of serial number; critical keyUsage of
// digitalSignature alone; extKeyUsage of serverAuth alone, whatever the origin had; CA=false; a
// SAN that holds the verified name, or for a client that named none the names of the verified
// origin certificate. Nothing else of the origin's certificate is copied: its SCTs, policies,
// AIA and CRL addresses speak about another certificate.
//
// The authority key identifier is the issuer's subject key identifier byte for byte (RFC 5280
// section 4.2.1.2: MUST). The leaf has no subject key identifier: the RFC asks for one with
// SHOULD only, the CA/Browser Forum's Baseline Requirements 7.1.2.7.6 advise against it, and
// SChannel is confused by a leaf that shares one with its CA
// (github.com/mitmproxy/mitmproxy/issues/6494).
//
// A leaf lives under 24 hours, so that none needs revoking: there is no CRL and no OCSP. It
// never outlives the origin's certificate, nor its issuer, and never begins before the
// origin's.
//
// # Time
//
// Root and intermediates begin a day before they are made: no signature by a key can be older
// than the key, so the date grants nothing, and a device whose clock is late or whose time zone
// is wrong trusts them at once. A leaf begins half an hour early for the same reason; more
// would need a shorter life.
//
// # Name constraints
//
// RFC 5280 section 4.2.1.10. Those of every certificate of a chain are held against a name before
// anything is minted, since not every client does so; FuzzLimits compares with crypto/x509.
//
// # Keys
//
// Keys of the authority are PKCS#8 PEM, or that inside an armored age file with a scrypt passphrase
// (age-encryption.org/v1), 0600, in a directory of 0700; Load refuses anything laxer. No function
// exports one. Or they are in a token, and Options.Signer opens them: nothing here wants more than
// a crypto.Signer. A root key that is in the clear is looked at in Load, to find a mismatch before
// the day it is needed, and dropped. Leaf keys exist in memory only, one for each kind, shared by
// all leaves and replaced after 24 hours: TLS 1.2 and 1.3 take forward secrecy from ECDHE and not
// from this key.
//
// # Ownership
//
// An Authority is safe for concurrent use. A *tls.Certificate that Leaf returns is shared by
// all connections to that host and must not be changed. Strings and certificates that are
// handed in are not kept.
//
// The package runs on Unix. Elsewhere it compiles, but file modes are not what its checks are
// about, so Load refuses.
package ca
