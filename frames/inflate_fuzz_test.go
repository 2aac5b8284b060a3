package frames

import (
	"bytes"
	"compress/flate"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
)

// oracle inflates one message with compress/flate, which takes one stream: up
// to a block with BFINAL set, after which the next one begins.
func oracle(window, payload []byte) (data []byte, ok bool) {
	// What comes behind the tail must be a block of its own, whatever it is.
	var both [2][]byte
	for i, last := range []string{"\x01\x00\x00\xff\xff", "\x03\x00"} {
		tail := string(inflateTail) + last
		data := bytes.Clone(window)
		for r := bytes.NewReader(append(bytes.Clone(payload), tail...)); r.Len() > 0; {
			b, err := io.ReadAll(flate.NewReaderDict(r, data[max(len(data)-maxWindow, 0):]))
			if err != nil {
				return nil, false
			}
			data = append(data, b...)
		}
		both[i] = data[len(window):]
	}
	return both[0], bytes.Equal(both[0], both[1])
}

// Two messages of one direction against compress/flate, whole and in pieces,
// without a limit and with one.
func FuzzInflate(f *testing.F) {
	f.Fuzz(func(t *testing.T, first, second []byte, takeover bool, limit uint16, cuts uint64) {
		if len(first)+len(second) > 1<<12 {
			return // oracle is slow where there are many final blocks
		}
		rnd := rand.New(rand.NewPCG(cuts, 0))
		context := Context{Takeover: takeover, Bits: maxWindowBits}
		free, limited := NewInflater(context), NewInflater(context)
		defer free.Close()
		defer limited.Close()
		var window []byte
		for _, payload := range [][]byte{first, second} {
			if !takeover {
				window = nil
			}
			want, ok := oracle(window, payload)
			got, err := free.Inflate(1<<40, split(rnd, payload)...)
			var e *ProtocolError
			if (err == nil) != ok || err != nil && (!errors.As(err, &e) || e.Code != InvalidPayload) {
				t.Fatalf("% x: %v, compress/flate: %v", payload, err, ok)
			}
			if err == nil && !bytes.Equal(got, want) {
				t.Fatalf("% x: %q, compress/flate: %q", payload, got, want)
			}

			small, e2 := limited.Inflate(int64(limit), split(rnd, payload)...)
			switch {
			case len(small) > int(limit):
				t.Fatalf("%d bytes, limit %d", len(small), limit)
			case e2 == ErrTooLarge:
				if err == nil && len(want) <= int(limit) {
					t.Fatalf("%d bytes are too large for %d", len(want), limit)
				}
			case (err == nil) != (e2 == nil) || !bytes.Equal(small, got):
				t.Fatalf("% x: %v without a limit, %v with %d", payload, err, e2, limit)
			}
			if err != nil {
				// Without takeover a limit ends the work early.
				if _, again := free.Inflate(1, []byte{0}); again != err {
					t.Fatalf("after %v came %v", err, again)
				}
				return
			}
			window = append(window, want...)
		}
	})
}

// split cuts payload anywhere.
func split(rnd *rand.Rand, payload []byte) (pieces [][]byte) {
	for {
		n := 1 + rnd.IntN(1<<rnd.IntN(12))
		if n >= len(payload) {
			return append(pieces, payload)
		}
		pieces, payload = append(pieces, payload[:n:n]), payload[n:]
	}
}
