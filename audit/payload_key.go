package audit

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"filippo.io/age"
)

// Sealed payloads
//
// Each WebSocket has a key of its own for each day (UTC), 32 random bytes. Its
// messages are sealed with AES-256-GCM (NIST SP 800-38D) under that key, and the key is stored in a
// file of its own, encrypted by age (https://age-encryption.org/v1) to the
// recipients of the configuration. The gateway has the key only in memory and
// as long as it uses it; it has no identity and cannot open the file. Without
// the file the payloads are random bytes: to remove it erases them, while every
// byte of the log stays as it was signed. As a key is for one day, the keys of a
// day can go when its records do, however long the connections live.
//
// Nonces are counted (SP 800-38D, section 8.2.1, the deterministic
// construction): the fixed field is the day of the key, so that a reader finds
// its file, the invocation field the number of the message among those that the
// key has sealed. A key is made for one connection of one process, is held by
// one PayloadKey, and is never read back from its file, so no number can come
// twice under it.
//
// The additional data bind a payload to its record: connection, direction,
// opcode and the SHA-256 of the message. A payload that is moved to another
// record does not open, nor does one with the key file of another connection,
// which names its own. As GCM does not commit to a key, whoever opens one also
// compares the SHA-256.
const (
	keysDir      = "keys"
	keyFileMagic = "framegate-payload-key@v1"
	sealMagic    = "framegate-payload@v1"

	dataKeySize = 32
	nonceSize   = 12
	tagSize     = 16
)

// Recipients are those who can open sealed payloads.
type Recipients struct{ list []age.Recipient }

// ParseRecipients takes age recipients ("age1...") and names of files that have
// one a line. Empty lines and lines that begin with # are passed over.
func ParseRecipients(list []string) (*Recipients, error) {
	var rs Recipients
	for _, s := range list {
		var more []age.Recipient
		var err error
		if IsRecipient(s) {
			more, err = age.ParseRecipients(strings.NewReader(s))
			if err != nil {
				return nil, fmt.Errorf("%q is not an age recipient", s)
			}
		} else if more, err = recipientFile(s); err != nil {
			return nil, err
		}
		rs.list = append(rs.list, more...)
	}
	if len(rs.list) == 0 {
		return nil, errors.New("no recipient, and without one nobody could open what is sealed")
	}
	// age refuses some together, such as those that are safe against quantum
	// computers and those that are not.
	if _, err := age.Encrypt(io.Discard, rs.list...); err != nil {
		return nil, fmt.Errorf("these recipients do not go together: %w", err)
	}
	return &rs, nil
}

// IsRecipient tells an age recipient from the name of a file.
func IsRecipient(s string) bool { return strings.HasPrefix(s, "age1") && !strings.Contains(s, "/") }

func recipientFile(name string) ([]age.Recipient, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	list, err := age.ParseRecipients(f)
	if err != nil { // which says nothing of what the file has
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return list, nil
}

// A PayloadKey seals the payloads of one connection. Both directions may use it
// at the same time.
type PayloadKey struct {
	conn    string
	current atomic.Pointer[dataKey]

	renewal sync.Mutex
	log     *Log
	retry   time.Time // not before; a renewal has failed
}

// A dataKey is the key of one day.
type dataKey struct {
	aead  cipher.AEAD
	dir   string // of the log that has its file
	day   uint32 // since 1970-01-01
	count atomic.Uint64
}

// old says that another key is due: the day is over, or the log is in another
// directory now, where the file of this one is not. A log that takes no payloads
// any more gives no reason.
func (k *dataKey) old(s *keyStore, t time.Time) bool {
	return s != nil && (s.dir != k.dir || dayOf(t) > k.day)
}

func newDataKey(secret []byte, day uint32) *dataKey {
	return &dataKey{aead: newAEAD(secret), day: day}
}

func newAEAD(secret []byte) cipher.AEAD {
	block, err := aes.NewCipher(secret)
	if err != nil {
		panic(err) // of the length of the key, which is a constant
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err) // of the size of a block
	}
	return aead
}

const secondsOfDay = 24 * 60 * 60

// dayOf numbers the days, in UTC, from 1970-01-01. A time outside the range is
// a day that no key is made for.
func dayOf(t time.Time) uint32 { return uint32(max(0, t.Unix()/secondsOfDay)) }

// dayName is the directory of the keys of a day.
func dayName(day uint32) string {
	return time.Unix(int64(day)*secondsOfDay, 0).UTC().Format(time.DateOnly)
}

// Seal appends data, the message that m tells of, sealed: nonce, ciphertext,
// tag. t is the time of its record: with the first of a new day it makes and
// stores a new key, which takes a write to the disk; so does the first after the log
// was reopened in another directory. If that fails, the old one
// serves until a minute later. Seal does not allocate when dst has room for the
// result and the additional data.
func (k *PayloadKey) Seal(dst []byte, m *Message, data []byte, t time.Time) []byte {
	key := k.current.Load()
	if key.old(k.log.keys.Load(), t) {
		key = k.renew(t)
	}
	start := len(dst)
	end := start + nonceSize + len(data) + tagSize
	dst = slices.Grow(dst, nonceSize+len(data)+tagSize+maxBinding)
	dst = binary.BigEndian.AppendUint32(dst, key.day)
	dst = binary.BigEndian.AppendUint64(dst, key.count.Add(1))
	// The additional data lie behind the place of the result.
	bound := appendBinding(dst[end:end], k.conn, m.Dir, m.Opcode, m.SHA256[:])
	return key.aead.Seal(dst, dst[start:], data, bound)
}

// renew returns the key for the day of t.
func (k *PayloadKey) renew(t time.Time) *dataKey {
	k.renewal.Lock()
	defer k.renewal.Unlock()
	old := k.current.Load()
	if !old.old(k.log.keys.Load(), t) || t.Before(k.retry) {
		return old
	}
	key, err := k.log.makeKey(k.conn, t)
	if err != nil {
		k.retry = t.Add(time.Minute)
		return old
	}
	k.current.Store(key)
	return key
}

// maxBinding is more than the additional data ever are, with ids as they are here.
const maxBinding = 256

// appendBinding appends the additional data of a payload.
func appendBinding(b []byte, conn, dir, opcode string, sum []byte) []byte {
	for _, s := range [...]string{sealMagic, conn, dir, opcode} {
		b = append(append(b, s...), '\n')
	}
	return append(hex.AppendEncode(b, sum), '\n')
}

// A keyStore makes the keys of connections and stores them.
type keyStore struct {
	dir        string // of the log
	recipients []age.Recipient
	step       stepFunc
	told       *slog.Logger
}

// make stores a new key for conn and the day of t. It is on the disk when make
// returns, and so before any record that needs it.
func (s *keyStore) make(conn string, t time.Time) (*dataKey, error) {
	if !validConn(conn) {
		return nil, fmt.Errorf("the id %q is no name for a file", conn)
	}
	var secret [dataKeySize]byte
	rand.Read(secret[:])
	defer clear(secret[:])
	var wrapped bytes.Buffer
	w, err := age.Encrypt(&wrapped, s.recipients...)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(keyText(conn, secret[:])); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	day := filepath.Join(s.dir, keysDir, dayName(dayOf(t)))
	path := filepath.Join(day, conn)
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s is there already", path)
	}
	err = writeFile(s.step, path, wrapped.Bytes())
	if errors.Is(err, fs.ErrNotExist) {
		if err := makeDirs(day); err != nil {
			return nil, err
		}
		err = writeFile(s.step, path, wrapped.Bytes())
	}
	if err != nil {
		return nil, err
	}
	key := newDataKey(secret[:], dayOf(t))
	key.dir = s.dir
	return key, nil
}

// keyText is what a key file has once it is decrypted.
func keyText(conn string, secret []byte) []byte {
	return fmt.Appendf(nil, "%s\n%s\n%s\n", keyFileMagic, conn, base64.StdEncoding.EncodeToString(secret))
}

// parseKeyText returns the key for conn in a decrypted key file.
func parseKeyText(text []byte, conn string) ([]byte, error) {
	lines := strings.Split(string(text), "\n")
	if len(lines) != 4 || lines[0] != keyFileMagic || lines[3] != "" {
		return nil, errors.New("not a payload key of this version")
	}
	if lines[1] != conn {
		return nil, fmt.Errorf("the key of connection %q, not of %q", lines[1], conn)
	}
	secret, err := base64.StdEncoding.Strict().DecodeString(lines[2])
	if err != nil || len(secret) != dataKeySize {
		return nil, fmt.Errorf("not a key of %d bytes", dataKeySize)
	}
	return secret, nil
}

// validConn reports whether conn is an id as the gateway makes them, and so a
// name of a file in the directory where it is looked for.
func validConn(conn string) bool {
	return conn != "" && len(conn) <= 64 && strings.Trim(conn, "-0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") == ""
}

// PayloadKey makes the key for the payloads of a connection that begins now. If
// it cannot be stored, the answer is that of Record: an error with on_failure
// "block"; with "gap" nil for both, and a record that says so.
func (l *Log) PayloadKey(conn string) (*PayloadKey, error) {
	if l.keys.Load() == nil {
		return nil, errNoRecipients
	}
	first, err := l.makeKey(conn, time.Now())
	if err == nil {
		k := &PayloadKey{conn: conn, log: l}
		k.current.Store(first)
		return k, nil
	}
	if l.demand.Load().block {
		return nil, fmt.Errorf("%w: %w", ErrUnwritable, err)
	}
	return nil, l.Record(Event{Event: AuditGap, Conn: conn, Reason: err.Error() + "; its payloads are not recorded"})
}

var errNoRecipients = errors.New("the log was opened without recipients of payload keys")

// makeKey makes the key of a day, and says if it cannot be stored.
func (l *Log) makeKey(conn string, t time.Time) (*dataKey, error) {
	s := l.keys.Load()
	if s == nil {
		return nil, errNoRecipients
	}
	key, err := s.make(conn, t)
	if err != nil {
		err = fmt.Errorf("the payload key of connection %s cannot be stored: %w", conn, err)
		s.told.Error("payload key cannot be stored", "dir", s.dir, "conn", conn, "error", err)
	}
	return key, err
}
