package capture

import (
	"errors"
	"fmt"
	"math/bits"
	"time"
)

// Options of an interface.
const (
	optionEnd        = 0
	optionResolution = 9  // if_tsresol
	optionOffset     = 14 // if_tsoffset
)

const (
	maxInterfaces = 1 << 16 // of a section
	maxDescriptor = 1 << 20 // bytes of an interface block
)

// An ngInterface is what the packets of an interface are read by.
type ngInterface struct {
	link   uint32
	snap   uint32 // 0: no limit
	ticks  uint64 // a second
	offset int64  // seconds
}

// describe reads an interface block.
func (s *ngSource) describe(left int64) error {
	if left < 8 || left > maxDescriptor {
		return fmt.Errorf("interface description of %d bytes", left)
	}
	if len(s.interfaces) == maxInterfaces {
		return errors.New("too many interfaces")
	}
	b, err := s.read(int(left))
	if err != nil {
		return err
	}
	i := ngInterface{link: uint32(s.order.Uint16(b)), snap: s.order.Uint32(b[4:]), ticks: 1e6}
	for b = b[8:]; len(b) >= 4; {
		code, n := s.order.Uint16(b), int(s.order.Uint16(b[2:]))
		b = b[4:]
		if code == optionEnd {
			break
		}
		if n > len(b) {
			return fmt.Errorf("option %d of %d bytes in %d", code, n, len(b))
		}
		switch {
		case code == optionResolution && n == 1:
			if i.ticks, err = resolution(b[0]); err != nil {
				return err
			}
		case code == optionOffset && n == 8:
			i.offset = int64(s.order.Uint64(b))
		case code == optionResolution, code == optionOffset:
			return fmt.Errorf("option %d of %d bytes", code, n)
		}
		b = b[min(len(b), (n+3)&^3):] // padded to 32 bits
	}
	s.interfaces = append(s.interfaces, i)
	return nil
}

// resolution returns the ticks a second: "If the Most Significant Bit is equal
// to zero, the remaining bits indicates the resolution [...] as a negative
// power of 10. If [...] one, [...] as negative power of 2".
func resolution(b byte) (uint64, error) {
	if n := b & 0x7f; b != n && n < 64 {
		return 1 << n, nil
	}
	if b > 19 { // 10^20 has no place in 64 bits
		return 0, fmt.Errorf("timestamp resolution %#x", b)
	}
	ticks := uint64(1)
	for range b {
		ticks *= 10
	}
	return ticks, nil
}

// time converts a timestamp. Neither the remainder nor its product with 1e9
// divided by ticks can overflow, as the remainder is below ticks.
func (i *ngInterface) time(high, low uint32) time.Time {
	t := uint64(high)<<32 | uint64(low)
	hi, lo := bits.Mul64(t%i.ticks, 1e9)
	ns, _ := bits.Div64(hi, lo, i.ticks)
	return time.Unix(int64(t/i.ticks)+i.offset, int64(ns)).UTC()
}
