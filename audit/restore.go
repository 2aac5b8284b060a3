package audit

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/mod/sumdb/note"
)

// maxHole is how many blocks in a row may be unreadable when the tree is
// brought in step with the blocks. More is not damage but a forged number.
const maxHole = 1 << 16

// loadNotary takes up the tree where the last checkpoint has left it. A log
// without a key, new or of the version before the tree, has none yet.
func loadNotary(o *Options, id logID) (*notary, error) {
	n := &notary{dir: o.Dir, id: id, step: o.step, follower: o.Follower, tree: new(tree), progress: new(progress)}
	signer, vkey, err := readKey(o.Dir, id)
	if err != nil || signer == nil {
		return n, err
	}
	n.signer = signer
	v, err := newVerifier(vkey)
	if err != nil {
		return nil, err
	}
	c, err := n.lastCheckpoint(v)
	if err != nil {
		return n, err
	}
	if n.expired, err = readClaim(o.Dir, v); err != nil {
		o.Logger.Warn("audit log: not what was written, the record in the log counts", "file", filepath.Join(o.Dir, expiredFile), "error", err)
	} else if n.expired != nil && (!n.signed || n.expired.checkpoint.Size > c.Size) {
		c, n.signed = n.expired.checkpoint, true
	}
	if !n.signed {
		return n, nil
	}
	n.tree, err = readTree(o.Dir, c.Size)
	if err != nil || n.tree.root() != c.Root {
		if err := n.rebuild(c); err != nil {
			return n, err
		}
	}
	n.expired, err = newestClaim(o.Dir, v, n.expired)
	return n, err
}

// lastCheckpoint returns the largest checkpoint that was signed. C2SP
// tlog-checkpoint: "A log MUST not sign any checkpoint which is inconsistent
// with any checkpoint it previously signed", so it does not go on from an older
// one that somebody has put back.
func (n *notary) lastCheckpoint(v note.Verifier) (c Checkpoint, err error) {
	path := filepath.Join(n.dir, checkpointFile)
	msg, err := os.ReadFile(path)
	if err == nil {
		n.signed = true
		if c, err = openCheckpoint(msg, v); err != nil {
			return c, fmt.Errorf("%s: %w", path, err)
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return c, err
	}
	path = filepath.Join(n.dir, historyFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return c, err
	}
	notes, rest := splitHistory(b)
	if rest != "" { // a kill in the middle of adding to it
		if err := replaceFile(n.step, path, b[:len(b)-len(rest)]); err != nil {
			return c, err
		}
	}
	n.history, n.kept = len(notes), time.Now()
	if len(notes) == 0 {
		return c, nil
	}
	last, err := openCheckpoint([]byte(notes[len(notes)-1]), v)
	if err != nil {
		return c, fmt.Errorf("%s: checkpoint %d: %w", path, len(notes), err)
	}
	n.last = last.Size
	if !n.signed || last.Size > c.Size {
		n.signed = true
		c = last
	}
	return c, nil
}

// rebuild makes the tree of a checkpoint anew where its tiles are missing or
// damaged, from the headers of the blocks and the bundles, whichever are good.
// Nothing is signed on what does not give the root of the checkpoint.
func (n *notary) rebuild(c Checkpoint) error {
	begin := min(n.expired.until(), c.Size)
	present, err := blockEntries(n.dir, n.id, begin, c.Size)
	if err != nil {
		return err
	}
	fromBlocks := append(make([][]byte, begin), present...) // nothing of what is removed
	for len(fromBlocks) < int(c.Size) {
		fromBlocks = append(fromBlocks, nil)
	}
	var lost error // entries of what is removed
	fromBundles := make([][]byte, 0, c.Size)
	for i := uint64(0); i < c.Size; i += tileWidth {
		w := int(min(tileWidth, c.Size-i))
		entries, err := readBundle(n.dir, i/tileWidth, w)
		if err != nil {
			if i < begin && lost == nil {
				lost = err
			}
			entries = fromBlocks[i : i+uint64(w)]
		}
		fromBundles = append(fromBundles, entries...)
	}
	for i, e := range fromBlocks {
		if len(e) == 0 {
			fromBlocks[i] = fromBundles[i]
		}
	}
	for _, entries := range [][][]byte{fromBundles, fromBlocks} {
		t := new(tree)
		files := t.grow(entries)
		if t.root() != c.Root {
			continue
		}
		for _, f := range files {
			if err := n.write(f); err != nil {
				return err
			}
		}
		n.tree = t
		return nil
	}
	if lost != nil {
		return fmt.Errorf("%s: the tree of blocks 0 to %d, which are removed, is lost and cannot be made again: bring %s back from a copy, or begin a log in another directory: %w",
			n.dir, begin-1, tilePath(entryLevel, 0, tileWidth), lost)
	}
	return fmt.Errorf("%s: the tree of its last checkpoint, of %d blocks, cannot be made from what is there: what the log holds was changed; see framegate audit verify, and begin a log in another directory",
		n.dir, c.Size)
}

// catchUp signs the blocks below next that no checkpoint covers yet. It makes the
// key if there is none.
func (n *notary) catchUp(next uint64) (err error) {
	if n.signer, err = ensureKey(n.dir, n.id, n.step); err != nil {
		return err
	}
	n.sweep()
	entries, err := blockEntries(n.dir, n.id, n.tree.size, next)
	if err != nil {
		return err
	}
	return n.sign(statement{entries: entries, keep: true})
}

// sweep removes partial tiles that are wider than the tree: a kill came before
// the checkpoint that needed them, and what was in them may come otherwise.
func (n *notary) sweep() {
	for level := entryLevel; level <= len(n.tree.edge); level++ {
		size := n.tree.size >> (tileHeight * max(level, 0))
		dir := filepath.Join(n.dir, tilePath(level, size/tileWidth, tileWidth)+".p")
		files, err := os.ReadDir(dir)
		if err != nil {
			continue
		}
		for _, f := range files {
			if width, err := strconv.Atoi(f.Name()); err != nil || uint64(width) > size%tileWidth {
				os.Remove(filepath.Join(dir, f.Name()))
			}
		}
	}
}

// blockEntries returns the entries of the tree for the blocks from one number
// up to another: the contents of their headers, empty where there is no
// readable block.
func blockEntries(dir string, id logID, from, to uint64) (entries [][]byte, err error) {
	if from >= to {
		return nil, nil
	}
	names, err := segments(dir)
	if err != nil {
		return nil, err
	}
	next := from
	for i, name := range names {
		if i+1 < len(names) && firstBlock(names[i+1]) <= from {
			continue
		}
		s, err := openSource(dir, name, id)
		if err != nil {
			return nil, err
		}
		for b, err := range s.blocks(0) {
			var damage *DamageError
			if err != nil && !errors.As(err, &damage) {
				s.close()
				return nil, err
			}
			if err != nil || b.Number < next || b.Number >= to {
				continue
			}
			if b.Number-next > maxHole {
				s.close()
				return nil, s.damage(b.off, fmt.Errorf("block %d where %d should be", b.Number, next))
			}
			for ; next < b.Number; next++ {
				entries = append(entries, nil)
			}
			entries = append(entries, b.header.append(nil)[8:])
			next++
		}
		s.close()
	}
	return entries, nil
}

// firstBlock is the number in the name of a segment.
func firstBlock(name string) uint64 {
	n, _ := strconv.ParseUint(name[:12], 10, 64) // twelve digits, says segments
	return n
}

// A covered is what a checkpoint covers and the segments no longer have.
type covered struct {
	blocks  uint64 // how many
	from    uint64 // number of the first of them
	records uint64 // 0: not known
}

func (c *covered) String() string {
	s := fmt.Sprintf("block %d, which a checkpoint covers, is gone", c.from)
	if c.blocks > 1 {
		s = fmt.Sprintf("blocks %d to %d, which a checkpoint covers, are gone", c.from, c.from+c.blocks-1)
	}
	if c.records > 0 {
		s += fmt.Sprintf(" with %d records", c.records)
	}
	return s
}

// seqBehind returns the seq behind the blocks of a tree of the given size: what
// the last entry says, or as far on as the blocks without an entry could reach,
// for no seq may come twice.
func seqBehind(dir string, size, seq uint64, from uint64) (behind uint64, known bool) {
	unread := uint64(0)
	for i := size; i > from; i-- {
		n, at := (i-1)/tileWidth, int((i-1)%tileWidth)
		width := int(min(tileWidth, size-n*tileWidth))
		entries, err := readBundle(dir, n, width)
		if err == nil && len(entries[at]) == headerSize {
			if h, err := parseEntry(entries[at]); err == nil {
				return h.FirstSeq + uint64(h.Count) + unread*maxCount, unread == 0
			}
		}
		unread++
	}
	return seq + unread*maxCount, unread == 0
}
