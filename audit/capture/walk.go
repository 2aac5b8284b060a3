package capture

import (
	"encoding/json"
	"fmt"
	"io"
)

// maxDepth is how deep JSON may nest: each level that is open takes memory.
const maxDepth = 256

// A walker goes through a JSON text of any size and keeps one value of it.
type walker struct {
	dec    *json.Decoder
	window window
	most   int64 // bytes of a value
}

func newWalker(r io.Reader) *walker {
	w := &walker{window: window{r: r}, most: maxValue}
	w.dec = json.NewDecoder(&w.window)
	return w
}

// A window lets a json.Decoder read so far ahead and no farther: a decoder
// buffers a value whole before it looks at its size.
type window struct {
	r           io.Reader
	read, limit int64
}

func (w *window) Read(b []byte) (int, error) {
	if w.read >= w.limit {
		return 0, errTooLarge
	}
	b = b[:min(int64(len(b)), w.limit-w.read)]
	n, err := w.r.Read(b)
	w.read += int64(n)
	return n, err
}

func (w *walker) token() (json.Token, error) {
	w.window.limit = w.dec.InputOffset() + w.most
	t, err := w.dec.Token()
	return t, inside(err)
}

// more reports whether the array or object goes on. If the input does not, the
// next token says so.
func (w *walker) more() bool {
	w.window.limit = w.dec.InputOffset() + w.most
	return w.dec.More()
}

// decode reads the next value into v.
func (w *walker) decode(v any) error {
	w.window.limit = w.dec.InputOffset() + w.most
	return inside(w.dec.Decode(v))
}

// inside turns the end of the input into the error that it is for a walker,
// which stops reading at the end of the outermost value.
func inside(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return errTruncated
	}
	return err
}

// object reads an object and calls field for each key; field reads the value.
// It takes null for an object without fields.
func (w *walker) object(field func(key string) error) error {
	t, err := w.token()
	if err != nil || t == nil {
		return err
	}
	if t != json.Delim('{') {
		return fmt.Errorf("%s instead of an object", describe(t))
	}
	for w.more() {
		t, err := w.token()
		if err != nil {
			return err
		}
		key, _ := t.(string) // the decoder takes nothing else
		if err := field(key); err != nil {
			return err
		}
	}
	_, err = w.token()
	return err
}

// array reads an array and calls element for each element; element reads it.
func (w *walker) array(element func() error) error {
	t, err := w.token()
	if err != nil || t == nil {
		return err
	}
	if t != json.Delim('[') {
		return fmt.Errorf("%s instead of an array", describe(t))
	}
	for w.more() {
		if err := element(); err != nil {
			return err
		}
	}
	_, err = w.token()
	return err
}

// skip reads a value and forgets it.
func (w *walker) skip() error {
	for depth := 0; ; {
		t, err := w.token()
		if err != nil {
			return err
		}
		switch t {
		case json.Delim('{'), json.Delim('['):
			if depth++; depth > maxDepth {
				return fmt.Errorf("nested deeper than %d levels", maxDepth)
			}
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
		if depth == 0 {
			return nil
		}
	}
}

func describe(t json.Token) string {
	switch t := t.(type) {
	case json.Delim:
		return t.String()
	case string:
		return "a string"
	case bool:
		return "a boolean"
	}
	return "a number"
}
