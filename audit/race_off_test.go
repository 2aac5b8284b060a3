//go:build !race

package audit

// raceDetector says whether these tests run with it.
const raceDetector = false
