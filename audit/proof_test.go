package audit

import (
	"bytes"
	"encoding/base64"
	"path/filepath"
	"strings"
	"testing"
)

func TestProof(t *testing.T) {
	dir := smallLog(t, 5)
	key := strings.TrimSpace(string(read(t, dir, pubKeyFile)))
	recs := mustRead(t, dir, Filter{})
	for _, rec := range recs {
		p, err := Prove(dir, rec.Seq)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(p.Record, rec.Raw) {
			t.Errorf("record %d: %s", rec.Seq, p.Record)
		}
		q, err := ParseProof(p.Text())
		if err != nil {
			t.Fatal(err)
		}
		if c, f := q.Check(key); f != nil || c.Size != 5 {
			t.Errorf("record %d: %+v %+v", rec.Seq, c, f)
		}
	}
	if _, err := Prove(dir, 16); err == nil || !strings.Contains(err.Error(), "no record 16") {
		t.Error(err)
	}
	// Every byte of it counts.
	p, err := Prove(dir, 8)
	if err != nil {
		t.Fatal(err)
	}
	text := p.Text()
	for i := range text {
		changed := bytes.Clone(text)
		changed[i] ^= 1 << (i % 8)
		q, err := ParseProof(changed)
		if err != nil {
			continue
		}
		if _, f := q.Check(key); f == nil {
			t.Fatalf("byte %d: accepted\n%s", i, changed)
		}
	}
	other := strings.TrimSpace(string(read(t, smallLog(t, 1), pubKeyFile)))
	if _, f := p.Check(other); f == nil || f.Fault != Unsigned {
		t.Errorf("with another key: %+v", f)
	}
	p.Record = bytes.Replace(p.Record, []byte("conn.open"), []byte("conn.oven"), 1)
	if _, f := p.Check(key); f == nil || f.Fault != Altered {
		t.Errorf("another record: %+v", f)
	}
}

// A block from before there was a tree has no path for a record.
func TestProveUnrooted(t *testing.T) {
	dir := oldLog(t)
	mustClose(t, mustOpen(t, Options{Dir: dir}))
	if _, err := Prove(dir, 2); err == nil || !strings.Contains(err.Error(), "before records had a tree") {
		t.Error(err)
	}
}

// oldLog is a log of the version before the tree: no roots, no key, no tiles.
func oldLog(t *testing.T) string {
	t.Helper()
	dir := smallLog(t, 3)
	for i := range segmentPaths(t, dir) {
		edit(i, func(t *testing.T, b []forged) []forged {
			for j := range b {
				b[j].Root = [32]byte{}
			}
			return b
		})(t, dir)
	}
	for _, name := range []string{keyFile, pubKeyFile, checkpointFile, historyFile, tileDir} {
		remove(t, filepath.Join(dir, name))
	}
	return dir
}

func FuzzParseProof(f *testing.F) {
	f.Add([]byte(proofMagic + "\n{}\nindex 0\n\n" + tlogProofMagic + "\nextra " +
		base64.StdEncoding.EncodeToString(testHeader.append(nil)[8:]) + "\nindex 0\n\no\n1\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ParseProof(b)
		if err == nil && !bytes.Equal(p.Text(), b) {
			t.Fatalf("%q", p.Text())
		}
		if err == nil {
			p.Check("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW")
		}
	})
}
