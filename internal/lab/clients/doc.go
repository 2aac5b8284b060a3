// Package clients is the near end of a test. [Raw] sends and records whatever
// bytes it is told to; [Node], [Python] and [Chromium] run real clients:
//
//	node/      the ws package of npm, pinned by its lock file
//	python/    the websockets library of Debian's python3-websockets
//	chromium/  a page in a headless browser
//
// (java/ has one more, which only tells whether it trusts a server: what the
// device bundles are tried with.)
//
// Each real client does the same work, which its script tells: it connects,
// sends text, binary, 70 KB, a fragmented message where its API can, and a
// ping, expects all of it back, says what [Job] gives it to say, and closes
// with 1000. It trusts the roots of its [Host] because they were installed for
// it as an administrator would, never because verification was turned off.
//
// [NodeServer] and [PythonServer] run the servers of the same two libraries,
// which take the offer of permessage-deflate as they do by default, and compress
// whatever they may.
package clients
