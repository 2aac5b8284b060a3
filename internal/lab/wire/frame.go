package wire

import (
	"bufio"
	"fmt"
	"io"

	"framegate/frames"
)

// maxPayload is the largest frame that ReadFrame takes.
const maxPayload = 256 << 20

// ReadFrame reads one frame, whatever its header says, and returns the payload
// unmasked.
func ReadFrame(r *bufio.Reader) (frames.Header, []byte, error) {
	h, err := readHeader(r)
	if err != nil {
		return h, nil, err
	}
	if h.Length > maxPayload {
		return h, nil, fmt.Errorf("frame of %d bytes", h.Length)
	}
	payload := make([]byte, h.Length)
	if _, err := io.ReadFull(r, payload); err != nil {
		return h, nil, err
	}
	if h.Masked {
		frames.Mask(payload, payload, h.Mask, 0)
	}
	return h, payload, nil
}

func readHeader(r *bufio.Reader) (frames.Header, error) {
	for size := 2; ; size++ {
		b, err := r.Peek(size)
		if err != nil {
			return frames.Header{}, err
		}
		h, n, err := frames.ConsumeHeader(b)
		if n > 0 || err != nil {
			r.Discard(n)
			return h, err
		}
	}
}
