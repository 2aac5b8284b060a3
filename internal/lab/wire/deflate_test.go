package wire

import (
	"bytes"
	"crypto/rand"
	"strings"
	"testing"
)

// What is compressed can be inflated, with and without the context of earlier
// messages, which is used if and only if it may be.
func TestDeflate(t *testing.T) {
	noise := make([]byte, 1000)
	rand.Read(noise)
	messages := [][]byte{noise, nil, noise, []byte(strings.Repeat("many words ", 10000)), []byte("a"), noise}
	for _, takeover := range []bool{true, false} {
		for _, bits := range []int{0, 8, 12, 15} {
			d, i := NewDeflater(takeover, bits), Inflater{NoTakeover: !takeover}
			for n, m := range messages {
				payload := d.Compress(m)
				if got, err := i.Inflate(payload); err != nil || !bytes.Equal(got, m) {
					t.Fatalf("takeover %v, %d bits, message %d: %d bytes (%v), expected %d", takeover, bits, n, len(got), err, len(m))
				}
				if refers := len(payload) < 100; n == 2 && refers != (takeover && bits != 8) {
					t.Errorf("takeover %v, %d bits: a repeated message takes %d bytes", takeover, bits, len(payload))
				}
			}
		}
	}
	if _, err := new(Inflater).Inflate([]byte("\xff\xff")); err == nil {
		t.Error("inflated nonsense")
	}
}

// A small window holds: an inflater that knows no more of the past can read it.
func TestDeflateWindow(t *testing.T) {
	const bits = 9
	d := NewDeflater(true, bits)
	var i Inflater
	for n := range 100 {
		m := bytes.Repeat([]byte{byte(n), 'x', byte(n % 7)}, n*10)
		i.history = i.history[max(0, len(i.history)-1<<bits):]
		if got, err := i.Inflate(d.Compress(m)); err != nil || !bytes.Equal(got, m) {
			t.Fatalf("message %d: %v", n, err)
		}
	}
}
