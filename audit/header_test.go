package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"math"
	"strings"
	"testing"
)

var testHeader = header{
	ID: logID{1, 15: 2}, Number: 3, FirstSeq: 4, Count: 5, First: -6, Last: math.MaxInt64,
	RawLen: 7, StoredLen: 8, Stored: [32]byte{9, 31: 10}, Root: [32]byte{11, 31: 12},
}

// The layout of docs/AUDIT-FORMAT.md, byte for byte.
func TestHeaderLayout(t *testing.T) {
	h := header{
		ID: logID{0xa0, 0xa1, 15: 0xaf}, Number: 1, FirstSeq: 2, Count: 3, First: 1773014523000004005, Last: 1773014524000000000,
		RawLen: 4, StoredLen: 5, Stored: sha256.Sum256(nil),
	}
	const want = "572a4d18" + "88000000" + "4647415544495431" +
		"a0a100000000000000000000000000af" + "0000000000000001" + "0000000000000002" + "00000003" +
		"189b035099061da5" + "189b0350d4a0d800" + "00000004" + "00000005" +
		"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" +
		"0000000000000000000000000000000000000000000000000000000000000000" + "af9b2552"
	if got := hex.EncodeToString(h.append(nil)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestHeaderRoundTrip(t *testing.T) {
	b := testHeader.append(nil)
	if len(b) != headerFrame {
		t.Fatalf("%d bytes", len(b))
	}
	h, n, err := consumeHeader(append(b, "more"...))
	if err != nil || n != headerFrame || h != testHeader {
		t.Errorf("got %+v, %d, %v", h, n, err)
	}
	for i := range b {
		if _, n, err := consumeHeader(b[:i]); n != 0 || err != nil {
			t.Errorf("%d bytes: %d, %v; want more to be asked for", i, n, err)
		}
	}
}

// Every bit of a header is covered by its magic or its checksum.
func TestHeaderBitFlips(t *testing.T) {
	b := testHeader.append(nil)
	for i := range len(b) * 8 {
		c := bytes.Clone(b)
		c[i/8] ^= 1 << (i % 8)
		if _, n, err := consumeHeader(c); err == nil {
			t.Fatalf("bit %d of byte %d: accepted, %d", i%8, i/8, n)
		}
	}
}

func TestHeaderRefused(t *testing.T) {
	change := func(f func(h *header)) []byte {
		h := testHeader
		f(&h)
		return h.append(nil)
	}
	newer := testHeader.append(nil)
	newer[8+7] = '2'
	tests := []struct {
		name, want string
		b          []byte
	}{
		{"no records", "impossible", change(func(h *header) { h.Count = 0 })},
		{"too many records", "impossible", change(func(h *header) { h.Count = maxCount + 1 })},
		{"bomb", "impossible", change(func(h *header) { h.RawLen = math.MaxUint32 })},
		{"nothing stored", "impossible", change(func(h *header) { h.StoredLen = 0 })},
		{"times", "impossible", change(func(h *header) { h.First, h.Last = 1, 0 })},
		{"newer", "newer framegate", newer},
		{"another file", "no block header", []byte("PK\x03\x04 and so on and on and on")},
	}
	for _, tt := range tests {
		_, _, err := consumeHeader(tt.b)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", tt.name, err)
		}
		if got := errors.Is(err, errNewer); got != (tt.name == "newer") {
			t.Errorf("%s: newer is %v", tt.name, got)
		}
	}
}

func FuzzConsumeHeader(f *testing.F) {
	f.Add(testHeader.append(nil))
	f.Add((&header{}).append(nil))
	f.Add(testHeader.append(nil)[:20])
	f.Fuzz(func(t *testing.T, b []byte) {
		h, n, err := consumeHeader(b)
		if err != nil && n != 0 {
			t.Fatal("consumed with an error")
		}
		if n > 0 && !bytes.Equal(h.append(nil), b[:n]) {
			t.Fatalf("%x does not come back from %+v", b[:n], h)
		}
	})
}
