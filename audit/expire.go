package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"golang.org/x/mod/sumdb/note"
)

// expiredFile holds the proof of the newest audit.expire record. It is made
// before the first file goes, so that whoever opens or verifies the log knows
// at once, and from a signature, where it begins. It can be made again from the
// record itself.
const expiredFile = "expired"

// Why blocks expire.
const (
	ByKeep    = "keep"     // they were older than the log keeps records
	ByMaxSize = "max_size" // the log was larger than it may be
)

// Expired is what an audit.expire record says: which blocks are removed with it.
// All before them were removed before.
type Expired struct {
	By         string    `json:"by"` // ByKeep or ByMaxSize
	FirstBlock uint64    `json:"first_block"`
	LastBlock  uint64    `json:"last_block"`
	FirstSeq   uint64    `json:"first_seq"`
	LastSeq    uint64    `json:"last_seq"`
	Count      uint64    `json:"count"`             // records
	Bytes      int64     `json:"bytes"`             // of the blocks
	Missing    uint64    `json:"missing,omitempty"` // blocks that were not there as they were signed
	From       time.Time `json:"from"`              // earliest time of a record
	To         time.Time `json:"to"`                // latest
}

func (x *Expired) append(b []byte) []byte {
	b = append(b, `,"expired":{"by":`...)
	b = appendString(b, x.By)
	for _, f := range []struct {
		key   string
		value uint64
	}{
		{`,"first_block":`, x.FirstBlock}, {`,"last_block":`, x.LastBlock}, {`,"first_seq":`, x.FirstSeq},
		{`,"last_seq":`, x.LastSeq}, {`,"count":`, x.Count}, {`,"bytes":`, uint64(x.Bytes)}, {`,"missing":`, x.Missing},
	} {
		if f.key == `,"missing":` && f.value == 0 {
			continue
		}
		b = strconv.AppendUint(append(b, f.key...), f.value, 10)
	}
	b = appendTime(append(b, `,"from":"`...), x.From)
	b = appendTime(append(b, `","to":"`...), x.To)
	return append(b, `"}`...)
}

// An Expiry is an audit.expire record.
type Expiry struct {
	Seq    uint64    `json:"seq"`
	Time   time.Time `json:"time"`
	Reason string    `json:"reason"`
	Expired
}

// parseExpiry returns the audit.expire record that a line is.
func parseExpiry(line []byte) (Expiry, bool) {
	var rec struct {
		Seq     uint64    `json:"seq"`
		Time    time.Time `json:"time"`
		Event   string    `json:"event"`
		Reason  string    `json:"reason"`
		Expired *Expired  `json:"expired"`
	}
	if json.Unmarshal(line, &rec) != nil || rec.Event != AuditExpire || rec.Expired == nil ||
		rec.Expired.FirstBlock > rec.Expired.LastBlock {
		return Expiry{}, false
	}
	return Expiry{rec.Seq, rec.Time, rec.Reason, *rec.Expired}, true
}

var expireEvent = []byte(`,"event":"` + AuditExpire + `"`)

// A claim is an audit.expire record that a signature proves.
type claim struct {
	Expiry
	block      uint64 // that has the record
	checkpoint Checkpoint
}

// until is the number of the first block that is kept.
func (c *claim) until() uint64 {
	if c == nil {
		return 0
	}
	return c.LastBlock + 1
}

// nextSeq is the seq behind what is removed.
func (c *claim) nextSeq() uint64 {
	if c == nil {
		return 1
	}
	return c.LastSeq + 1
}

// claimOf checks the proof of an audit.expire record. A record can only speak of
// blocks before its own.
func claimOf(p *Proof, key note.Verifier) (*claim, error) {
	c, err := p.check(key)
	if err != nil {
		return nil, err
	}
	e, ok := parseExpiry(p.Record)
	if !ok || e.LastBlock >= p.Block {
		return nil, errors.New("not the record of a removal")
	}
	return &claim{e, p.Block, c}, nil
}

// readClaim reads what the log in dir says of its removals: nil if nothing.
func readClaim(dir string, key note.Verifier) (*claim, error) {
	text, err := os.ReadFile(filepath.Join(dir, expiredFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	p, err := ParseProof(text)
	if err != nil {
		return nil, err
	}
	return claimOf(p, key)
}

// newestClaim returns c or, if the log begins behind what c says, the newest
// that the log has a record of, if there is a newer one. For that it reads the
// log from its end.
func newestClaim(dir string, key note.Verifier, c *claim) (*claim, error) {
	id, err := readLogID(dir)
	if err != nil {
		return c, err
	}
	names, err := segments(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil // no segments at all, which is not a removal
	}
	if err != nil || len(names) == 0 || firstBlock(names[0]) <= c.until() {
		return c, err
	}
	dec, err := newDecoder()
	if err != nil {
		return c, err
	}
	for _, name := range slices.Backward(names) {
		s, err := openSource(dir, name, id)
		if errors.Is(err, fs.ErrNotExist) {
			break // removed since, and all before it
		}
		if err != nil {
			return c, err
		}
		var blocks []located
		for b, err := range s.blocks(0) {
			if err == nil && (c == nil || b.Number > c.block) {
				blocks = append(blocks, b)
			}
		}
		for _, b := range slices.Backward(blocks) {
			raw, err := s.lines(b, dec)
			if err != nil || !bytes.Contains(raw, expireEvent) {
				continue
			}
			for _, line := range slices.Backward(slices.Collect(bytes.Lines(raw))) {
				e, ok := parseExpiry(line)
				if !ok {
					continue
				}
				if p, err := prove(dir, key, e.Seq); err == nil {
					if found, err := claimOf(p, key); err == nil {
						s.close()
						return found, nil
					}
				}
			}
		}
		s.close()
	}
	return c, nil
}

// loadClaim returns the newest claim of a log; a file that is missing or not as
// it was written, which is the error, is made up for by the record.
func loadClaim(dir string, key note.Verifier) (*claim, error) {
	c, fileErr := readClaim(dir, key)
	c, err := newestClaim(dir, key, c)
	if fileErr != nil {
		fileErr = fmt.Errorf("%s: %w", filepath.Join(dir, expiredFile), fileErr)
	}
	return c, errors.Join(fileErr, err)
}

// A Beginning says where a log begins from which something was removed.
type Beginning struct {
	Block, Seq uint64    // of the first record that is there
	Time       time.Time // earliest time of a record in its block
	Removal    *Expiry   // the newest one on record; nil: none is
}

// Begins returns where the log in dir begins, or nil if nothing is missing
// before. vkey is its public key; empty: the one that lies with the log.
func Begins(dir, vkey string) (*Beginning, error) {
	id, err := readLogID(dir)
	if err != nil {
		return nil, err
	}
	names, err := segments(dir)
	if err != nil || len(names) == 0 || firstBlock(names[0]) == 0 {
		return nil, err
	}
	b := new(Beginning)
	s, err := openSource(dir, names[0], id)
	if err != nil {
		return nil, err
	}
	defer s.close()
	for first, err := range s.blocks(0) {
		if err == nil {
			b.Block, b.Seq, b.Time = first.Number, first.FirstSeq, time.Unix(0, first.First).UTC()
			break
		}
	}
	if vkey == "" {
		if vkey, err = ReadKey(dir); err != nil {
			return b, nil // what is there is there; that nothing is proved is for others to say
		}
	}
	key, err := newVerifier(vkey)
	if err != nil {
		return b, err
	}
	if c, _ := loadClaim(dir, key); c.until() >= firstBlock(names[0]) {
		b.Removal = &c.Expiry
	}
	return b, nil
}
