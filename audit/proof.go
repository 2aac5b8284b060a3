package audit

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const (
	proofMagic     = "framegate-audit-proof@v1"
	tlogProofMagic = "c2sp.org/tlog-proof@v1"
)

// A Proof shows that one record is in a log, without the log. Its text is the
// record with its path in the block, and behind an empty line a C2SP tlog-proof
// (https://c2sp.org/tlog-proof) of the block, with its header as the extra data.
type Proof struct {
	Record     []byte // the line, without its newline
	Index      uint64 // of the record in its block
	Path       []tlog.Hash
	Entry      []byte // content of the block's header
	Block      uint64
	TreePath   []tlog.Hash
	Checkpoint []byte // signed
}

// Text is the proof as it is kept in a file.
func (p *Proof) Text() []byte {
	var b bytes.Buffer
	path := func(hashes []tlog.Hash) {
		for _, h := range hashes {
			fmt.Fprintln(&b, h)
		}
		fmt.Fprintln(&b)
	}
	fmt.Fprintf(&b, "%s\n%s\nindex %d\n", proofMagic, p.Record, p.Index)
	path(p.Path)
	fmt.Fprintf(&b, "%s\nextra %s\nindex %d\n", tlogProofMagic, base64.StdEncoding.EncodeToString(p.Entry), p.Block)
	path(p.TreePath)
	b.Write(p.Checkpoint)
	return b.Bytes()
}

// ParseProof parses the text of a proof. It proves nothing until it is checked.
func ParseProof(text []byte) (*Proof, error) {
	p := new(Proof)
	rest := string(text)
	line := func() string {
		l, r, _ := strings.Cut(rest, "\n")
		rest = r
		return l
	}
	fail := func(what string) (*Proof, error) {
		return nil, fmt.Errorf("not a proof of %s: %s", proofMagic, what)
	}
	path := func() (hashes []tlog.Hash, err error) {
		for l := line(); l != ""; l = line() {
			h, err := tlog.ParseHash(l)
			if err != nil || len(hashes) == 64 {
				return nil, errors.New("a path of something else than hashes")
			}
			hashes = append(hashes, h)
		}
		return hashes, nil
	}
	if line() != proofMagic {
		return fail("other first line")
	}
	p.Record = []byte(line())
	var err error
	if p.Index, err = parseIndex(line()); err != nil {
		return fail(err.Error())
	}
	if p.Path, err = path(); err != nil {
		return fail(err.Error())
	}
	if line() != tlogProofMagic {
		return fail("no proof of the block")
	}
	extra, ok := strings.CutPrefix(line(), "extra ")
	if p.Entry, err = base64.StdEncoding.DecodeString(extra); err != nil || !ok {
		return fail("no header of the block")
	}
	if p.Block, err = parseIndex(line()); err != nil {
		return fail(err.Error())
	}
	if p.TreePath, err = path(); err != nil {
		return fail(err.Error())
	}
	p.Checkpoint = []byte(rest)
	if !bytes.Equal(p.Text(), text) {
		return fail("not in its shortest form")
	}
	return p, nil
}

func parseIndex(s string) (uint64, error) {
	digits, ok := strings.CutPrefix(s, "index ")
	n, err := strconv.ParseUint(digits, 10, 63)
	if !ok || err != nil {
		return 0, errors.New("no index")
	}
	return n, nil
}

// errSignature: the checkpoint of a proof is not signed by the key.
type errSignature struct{ error }

// Check checks a proof with the public key of its log. It returns the checkpoint
// that covers the record, or what is wrong.
func (p *Proof) Check(vkey string) (Checkpoint, *Finding) {
	key, err := newVerifier(vkey)
	if err == nil {
		var c Checkpoint
		if c, err = p.check(key); err == nil {
			return c, nil
		}
	}
	fault := Altered
	var signature errSignature
	if errors.As(err, &signature) {
		fault = Unsigned
	}
	return Checkpoint{}, &Finding{Fault: fault, Place: "proof", Block: p.Block, Reason: err.Error()}
}

// check returns the checkpoint under which the record was logged.
func (p *Proof) check(key note.Verifier) (Checkpoint, error) {
	c, err := openCheckpoint(p.Checkpoint, key)
	if err != nil {
		return c, errSignature{err}
	}
	if p.Block >= c.Size {
		return c, fmt.Errorf("block %d is not below the size of the checkpoint, %d", p.Block, c.Size)
	}
	if err := tlog.CheckRecord(p.TreePath, int64(c.Size), c.Root, int64(p.Block), tlog.RecordHash(p.Entry)); err != nil {
		return c, fmt.Errorf("the header of block %d is not in the tree of the checkpoint", p.Block)
	}
	h, err := parseEntry(p.Entry)
	switch {
	case err != nil:
		return c, err
	case h.Number != p.Block || h.ID.origin() != c.Origin:
		return c, fmt.Errorf("the header is of block %d of %s", h.Number, h.ID.origin())
	case p.Index >= uint64(h.Count):
		return c, fmt.Errorf("the block has no record of index %d", p.Index)
	}
	if err := tlog.CheckRecord(p.Path, int64(h.Count), tlog.Hash(h.Root), int64(p.Index), tlog.RecordHash(p.Record)); err != nil {
		return c, fmt.Errorf("the record is not that of block %d", p.Block)
	}
	if !bytes.HasPrefix(p.Record, fmt.Appendf(nil, `{"seq":%d,`, h.FirstSeq+p.Index)) {
		return c, errors.New("the record does not bear the seq of its place")
	}
	return c, nil
}
