package detect

import (
	"bytes"
	"slices"
	"strings"
)

// A Detector finds values of one kind in a message. It is immutable and may be
// used by many goroutines at once.
type Detector struct {
	Name    string // as in a rule file: lower case, with hyphens
	Summary string // one line for people

	literals []string // every value has one of them; nil if there is nothing fixed
	fold     bool     // in any case of ASCII letters

	// at returns the end of the value that begins at data[i], or -1.
	at at
	// find returns the first place from from on that at accepts, as Find does.
	find func(data []byte, from int, at at) (start, end int)
}

type at func(data []byte, i int) (end int)

// all is sorted by name.
var all = []*Detector{
	awsAccessKey,
	awsSecretKey,
	azureClientSecret,
	azureStorageKey,
	email,
	gcpAPIKey,
	githubToken,
	highEntropy,
	iban,
	ipv4,
	ipv6,
	jwt,
	paymentCard,
	phone,
	privateKey,
	slackToken,
	slackWebhook,
	stripeKey,
	usSSN,
}

// Lookup returns the detector of that name, or nil if there is none.
func Lookup(name string) *Detector {
	i, ok := slices.BinarySearchFunc(all, name, func(d *Detector, name string) int {
		return strings.Compare(d.Name, name)
	})
	if !ok {
		return nil
	}
	return all[i]
}

// All returns all detectors, sorted by name.
func All() []*Detector { return slices.Clone(all) }

// Literals returns strings of which every value that Find finds contains one,
// compared without regard to the case of ASCII letters if fold is true. It
// returns nil if the values have nothing fixed.
func (d *Detector) Literals() (texts []string, fold bool) {
	return slices.Clone(d.literals), d.fold
}

// Find returns the next value in data that begins at or after from, which is at
// least 0: data[start:end]. If there is none, start is negative.
func (d *Detector) Find(data []byte, from int) (start, end int) {
	return d.find(data, from, d.at)
}

// anchored finds values that have the literal at offset.
func anchored(literal string, offset int) func([]byte, int, at) (int, int) {
	text := []byte(literal)
	return func(data []byte, from int, at at) (int, int) {
		for i := from + offset; i < len(data); i++ {
			n := bytes.Index(data[i:], text)
			if n < 0 {
				break
			}
			i += n
			if end := at(data, i-offset); end >= 0 {
				return i - offset, end
			}
		}
		return -1, -1
	}
}

// starting finds values that begin with one of the given bytes. It is for those
// which have literals, so that nobody calls it for nothing.
func starting(chars string) func([]byte, int, at) (int, int) {
	first := classOf(chars)
	return func(data []byte, from int, at at) (int, int) {
		for i := from; i < len(data); i++ {
			if first[data[i]] {
				if end := at(data, i); end >= 0 {
					return i, end
				}
			}
		}
		return -1, -1
	}
}
