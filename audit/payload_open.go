package audit

import (
	"bytes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
	"unicode/utf8"

	"filippo.io/age"
)

// Payloads reads the payloads of a log, which may be growing. It writes nothing
// and is for one goroutine.
type Payloads struct {
	dir        string
	identities []age.Identity
	keys       map[string]openedKey // by path below keys
}

// An openedKey is what was found of a key.
type openedKey struct {
	aead cipher.AEAD
	err  error // why there is none
}

// maxOpened is how many keys are kept to be used again.
const maxOpened = 4096

// OpenPayloads returns the payloads of the log in dir. identityFiles are files
// of age identities ("AGE-SECRET-KEY-1..."), for payloads that are sealed.
func OpenPayloads(dir string, identityFiles ...string) (*Payloads, error) {
	p := &Payloads{dir: dir, keys: map[string]openedKey{}}
	for _, name := range identityFiles {
		ids, err := readIdentities(name)
		if err != nil {
			return nil, err
		}
		p.identities = append(p.identities, ids...)
	}
	return p, nil
}

func readIdentities(name string) ([]age.Identity, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	ids, err := age.ParseIdentities(f)
	if err != nil { // which says nothing of what the file has
		return nil, fmt.Errorf("%s: not a file of age identities: %w", name, err)
	}
	return ids, nil
}

// Of returns the payload of r, a record of the log: nil with ErrNoPayload,
// ErrErased or ErrSealed, or another error if what is there is damaged. A
// payload that is not sealed may be masked; it is the message as it was sent if
// its SHA-256 is that of the record, as it always is for a sealed one. The slice
// is the caller's.
func (p *Payloads) Of(r *Record) ([]byte, error) {
	switch {
	case r.Payload != nil:
		return []byte(*r.Payload), nil
	case r.PayloadB64 != "":
		b, err := base64.StdEncoding.DecodeString(r.PayloadB64)
		if err != nil {
			return nil, fmt.Errorf("record %d: payload_b64: %w", r.Seq, err)
		}
		return b, nil
	case r.PayloadSealed != "":
		b, err := p.unseal(r)
		if err != nil && err != ErrErased && err != ErrSealed {
			err = fmt.Errorf("record %d: %w", r.Seq, err)
		}
		return b, err
	}
	return nil, ErrNoPayload
}

func (p *Payloads) unseal(r *Record) ([]byte, error) {
	sealed, err := base64.StdEncoding.DecodeString(r.PayloadSealed)
	if err != nil {
		return nil, fmt.Errorf("payload_sealed: %w", err)
	}
	if len(sealed) < nonceSize+tagSize {
		return nil, errors.New("the sealed payload is cut short")
	}
	sum, err := hex.DecodeString(r.SHA256)
	if err != nil || len(sum) != sha256.Size {
		return nil, errors.New("a sealed payload, and no SHA-256 of the message")
	}
	if !validConn(r.Conn) {
		return nil, fmt.Errorf("%q is not the id of a connection", r.Conn)
	}
	path := filepath.Join(dayName(binary.BigEndian.Uint32(sealed)), r.Conn)
	key, ok := p.keys[path]
	if !ok {
		if len(p.keys) >= maxOpened {
			clear(p.keys)
		}
		key.aead, key.err = p.key(path, r.Conn)
		p.keys[path] = key
	}
	if key.err != nil {
		return nil, key.err
	}
	return openSealed(key.aead, sealed, appendBinding(nil, r.Conn, r.Dir, r.Opcode, sum), sum)
}

// openSealed opens what Seal has made.
func openSealed(aead cipher.AEAD, sealed, bound, sum []byte) ([]byte, error) {
	data, err := aead.Open([]byte{}, sealed[:nonceSize], sealed[nonceSize:], bound)
	if err != nil {
		return nil, errors.New("the sealed payload was altered, or is that of another record")
	}
	if got := sha256.Sum256(data); !bytes.Equal(got[:], sum) {
		return nil, errors.New("the sealed payload is not the message that the record tells of")
	}
	return data, nil
}

// key opens the key of conn that is at path.
func (p *Payloads) key(path, conn string) (cipher.AEAD, error) {
	f, err := os.Open(filepath.Join(p.dir, keysDir, path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrErased
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if len(p.identities) == 0 {
		return nil, ErrSealed
	}
	secret, err := openKeyFile(f, conn, p.identities)
	var foreign *age.NoIdentityMatchError
	if errors.As(err, &foreign) {
		return nil, ErrSealed
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	return newAEAD(secret), nil
}

// maxKeyFile is far more than the text of a key for many recipients.
const maxKeyFile = 1 << 20

// openKeyFile decrypts a key file.
func openKeyFile(f io.Reader, conn string, identities []age.Identity) ([]byte, error) {
	r, err := age.Decrypt(io.LimitReader(f, maxKeyFile), identities...)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(r, maxKeyFile))
	if err != nil {
		return nil, err
	}
	return parseKeyText(text, conn)
}

// findKeys returns the paths of the keys of a connection, one a day.
func findKeys(dir, conn string) (paths []string, err error) {
	if !validConn(conn) {
		return nil, fmt.Errorf("%q is not the id of a connection", conn)
	}
	days, err := keyDays(dir)
	if err != nil {
		return nil, err
	}
	for _, day := range days {
		path := filepath.Join(dir, keysDir, day, conn)
		_, err := os.Lstat(path)
		if err == nil {
			paths = append(paths, path)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return paths, nil
}

// keyDays lists the directories of keys, in the order of the days.
func keyDays(dir string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(dir, keysDir)) // sorted
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var days []string
	for _, e := range entries {
		if _, err := time.Parse(time.DateOnly, e.Name()); err == nil && e.IsDir() {
			days = append(days, e.Name())
		}
	}
	return days, nil
}

// AppendLine appends r as it is in the log and, if its payload is sealed, one
// more key: payload_opened or payload_opened_b64 with what was sealed, or
// payload_error with the reason why it cannot be opened.
func (p *Payloads) AppendLine(b []byte, r *Record) []byte {
	body, ok := bytes.CutSuffix(r.Raw, []byte("}"))
	if r.PayloadSealed == "" || !ok {
		return append(b, r.Raw...)
	}
	b = append(b, body...)
	data, err := p.Of(r)
	switch {
	case err != nil:
		b = appendField(b, `,"payload_error":`, err.Error())
	case utf8.Valid(data):
		b = appendString(append(b, `,"payload_opened":`...), data)
	default:
		b = append(b, `,"payload_opened_b64":"`...)
		b = append(base64.StdEncoding.AppendEncode(b, data), '"')
	}
	return append(b, '}')
}
