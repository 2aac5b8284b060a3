package audit

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// Witnesses cosign checkpoints (https://c2sp.org/tlog-witness): each states that
// it has seen this checkpoint at a time, and none before that does not agree.
const (
	witnessDir = "witness"
	// algCosignature marks "cosignature/v1" keys, in verifier keys and key ids.
	algCosignature = 0x04
	// cosignatureSize is that of the timestamp and the Ed25519 signature.
	cosignatureSize = 8 + ed25519.SignatureSize
)

// A Witness is the public key of a witness.
type Witness struct {
	name   string
	hash   uint32
	public ed25519.PublicKey
}

// ParseWitness parses the verifier key of a witness, "name+hash+data" with data
// of type 0x04 (https://c2sp.org/tlog-cosignature, timestamped Ed25519).
func ParseWitness(vkey string) (*Witness, error) {
	name, rest, _ := strings.Cut(vkey, "+")
	digits, data, _ := strings.Cut(rest, "+")
	key, err := base64.StdEncoding.Strict().DecodeString(data)
	hash, hashErr := strconv.ParseUint(digits, 16, 32)
	switch {
	case err != nil || hashErr != nil || len(digits) != 8 || name == "" || strings.ContainsAny(name, " \n"):
		return nil, errors.New(`not the public key of a witness: expected "name+hash+data"`)
	case len(key) == 1+ed25519.PublicKeySize && key[0] == 1:
		return nil, errors.New("the key of a log, expected that of a witness (type 4, cosignature/v1)")
	case len(key) != 1+ed25519.PublicKeySize || key[0] != algCosignature:
		return nil, errors.New("not an Ed25519 key of a witness (type 4, cosignature/v1)")
	}
	// C2SP signed-note: the key id is "the first 4 bytes of SHA-256(<key name>
	// || 0x0A || <signature type> || <public key>)".
	sum := sha256.Sum256(append([]byte(name+"\n"), key...))
	if binary.BigEndian.Uint32(sum[:]) != uint32(hash) || fmt.Sprintf("%08x", hash) != digits {
		return nil, errors.New("the hash in the public key of the witness is not that of the key")
	}
	return &Witness{name, uint32(hash), key[1:]}, nil
}

// Name is that of the key.
func (w *Witness) Name() string { return w.name }

// KeyHash is the id of the key.
func (w *Witness) KeyHash() uint32 { return w.hash }

// String is the beginning of the public key, which tells it from others.
func (w *Witness) String() string { return fmt.Sprintf("%s+%08x", w.name, w.hash) }

// Verify checks a cosignature of the text of a checkpoint. With Name and
// KeyHash it makes a Witness a note.Verifier. The message that is signed is
// "cosignature/v1", a line with the time, and the whole text of the checkpoint.
func (w *Witness) Verify(text, sig []byte) bool {
	if len(sig) != cosignatureSize {
		return false
	}
	at := binary.BigEndian.Uint64(sig)
	msg := append(fmt.Appendf(nil, "cosignature/v1\ntime %d\n", at), text...)
	return at <= maxUnixTime && ed25519.Verify(w.public, msg, sig[8:])
}

var errNoCosignature = errors.New("no cosignature by this witness")

// maxUnixTime is the last second of the year 9999: what lies behind has no form
// in RFC 3339, and no witness has seen it.
const maxUnixTime = 253402300799

// Cosigned returns when the witness cosigned a checkpoint. Of several
// cosignatures by one witness all must be good, and the first counts.
func (w *Witness) Cosigned(msg []byte) (time.Time, error) {
	n, err := note.Open(msg, note.VerifierList(w))
	var unverified *note.UnverifiedNoteError
	switch {
	case errors.As(err, &unverified):
		return time.Time{}, errNoCosignature
	case err != nil:
		return time.Time{}, err
	}
	sig, err := base64.StdEncoding.Strict().DecodeString(n.Sigs[0].Base64)
	if err != nil {
		return time.Time{}, errors.New("a signature with bits that mean nothing")
	}
	return time.Unix(int64(binary.BigEndian.Uint64(sig[4:])), 0).UTC(), nil
}

// path is where the newest checkpoint with a cosignature of the witness lies.
// The name of a key may hold nearly anything; escaped it is one path element.
func (w *Witness) path(dir string) string {
	return filepath.Join(dir, witnessDir, fmt.Sprintf("%s+%08x", url.PathEscape(w.name), w.hash))
}

// ReadCosigned returns the checkpoint that WriteCosigned has left in the
// directory of a log.
func ReadCosigned(dir string, w *Witness) ([]byte, error) { return os.ReadFile(w.path(dir)) }

// WriteCosigned keeps a checkpoint with the cosignature of a witness beside the
// log, for whoever verifies it, and to go on from.
func WriteCosigned(dir string, w *Witness, msg []byte) error {
	path := w.path(dir)
	if err := makeDirs(filepath.Dir(path)); err != nil {
		return err
	}
	return writeFile(nil, path, msg)
}

// ParseCheckpoint reads a checkpoint without checking a signature.
func ParseCheckpoint(msg []byte) (c Checkpoint, err error) {
	lines := strings.SplitN(string(msg), "\n", 5)
	if len(lines) != 5 || lines[3] != "" {
		return c, errors.New("not a checkpoint of three lines")
	}
	c.Origin = lines[0]
	if c.Size, err = strconv.ParseUint(lines[1], 10, 63); err != nil {
		return c, errors.New("not a checkpoint: bad size")
	}
	if c.Root, err = tlog.ParseHash(lines[2]); err != nil {
		return c, errors.New("not a checkpoint: bad root")
	}
	return c, nil
}

// ProveConsistency makes the proof of RFC 6962 section 2.1.2 that the tree of c
// has its first size blocks in common with the tree of that size. The tiles
// that it is made of must give the root of c.
func ProveConsistency(dir string, c Checkpoint, size uint64) ([]tlog.Hash, error) {
	if size == 0 || size >= c.Size {
		return nil, nil // "If the old size is zero, the proof MUST be empty"
	}
	tiles := tlog.TileHashReader(tlog.Tree{N: int64(c.Size), Hash: c.Root}, tileFiles(dir))
	proof, err := tlog.ProveTree(int64(c.Size), int64(size), tiles)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", tileDir, err)
	}
	return proof, nil
}
