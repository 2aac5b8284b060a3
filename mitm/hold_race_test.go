//go:build race

package mitm

// heldSize is less than it is without the race detector, which makes all that is
// done for each byte ten times as slow.
const heldSize = mib / 4
