package ship

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"framegate/audit"
)

// A witnessPusher has checkpoints cosigned by a witness that speaks
// https://c2sp.org/tlog-witness, and keeps them with the cosignature.
type witnessPusher struct {
	client  *http.Client
	url     string // of add-checkpoint
	dir     string // of the log
	version string
	keys    []*audit.Witness // by one of which the answer must be signed

	seen  uint64 // size that the witness has cosigned, as far as we know
	begun bool   // seen is more than a guess
}

func (p *witnessPusher) push(ctx context.Context, checkpoints [][]byte) (int, error) {
	msg := checkpoints[len(checkpoints)-1]
	c, err := audit.ParseCheckpoint(msg)
	if err != nil {
		return 0, err
	}
	if c.Size == 0 {
		return 0, nil // nothing is logged: there is nothing to witness
	}
	if !p.begun {
		p.seen = p.lastSeen(c)
	}
	conflict, err := p.add(ctx, msg, c)
	// "the client SHOULD" go on from the size in a 409. Once: a second one is
	// somebody else's race, or a lie, and waits for the next try.
	if conflict {
		_, err = p.add(ctx, msg, c)
	}
	if err != nil {
		return 0, err
	}
	return 1, nil
}

// lastSeen is the size of the checkpoint that was cosigned last, if one of this
// log is kept. The witness corrects it.
func (p *witnessPusher) lastSeen(c audit.Checkpoint) (size uint64) {
	for _, w := range p.keys {
		msg, err := audit.ReadCosigned(p.dir, w)
		if err != nil {
			continue
		}
		if old, err := audit.ParseCheckpoint(msg); err == nil && old.Origin == c.Origin && old.Size <= c.Size {
			size = max(size, old.Size)
		}
	}
	return size
}

// add makes one request. It says true if the witness has seen another size, and
// a request that goes on from it is worth making.
func (p *witnessPusher) add(ctx context.Context, msg []byte, c audit.Checkpoint) (conflict bool, err error) {
	proof, err := audit.ProveConsistency(p.dir, c, p.seen)
	if err != nil {
		return false, err
	}
	// "The request body MUST be a sequence of - a previous size line, - zero or
	// more consistency proof lines, - and an empty line, followed by a checkpoint".
	var body bytes.Buffer
	fmt.Fprintf(&body, "old %d\n", p.seen)
	for _, h := range proof {
		fmt.Fprintf(&body, "%s\n", h)
	}
	body.WriteByte('\n')
	body.Write(msg)
	resp, answer, err := post(ctx, p.client, p.url, http.Header{"User-Agent": {"framegate/" + p.version}}, body.Bytes())
	if err != nil {
		return false, err
	}
	switch resp.StatusCode {
	case http.StatusOK:
		if err := p.keep(msg, answer); err != nil {
			return false, err
		}
		p.seen, p.begun = c.Size, true
		return false, nil
	case http.StatusConflict:
		return p.conflict(resp, answer, c)
	case http.StatusForbidden:
		return false, errors.New("the witness does not accept our signature (403): give its operator the file key.pub of the log")
	case http.StatusNotFound:
		return false, errors.New("the witness does not know this log (404): give its operator the file key.pub of the log")
	case http.StatusUnprocessableEntity:
		return false, fmt.Errorf("the witness refuses the proof that the log has only grown since block %d (422): it has seen another log of this name, and the log may have been rewritten", p.seen)
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		return false, &busyError{fmt.Errorf("the witness answered %s", status(resp)), retryAfter(resp.Header.Get("Retry-After"), time.Now())}
	}
	return false, fmt.Errorf("the witness answered %s", status(resp))
}

// conflict: "If the old size does not match ... the witness MUST respond with
// 409 Conflict. The response body MUST consist of the tree size of the latest
// cosigned checkpoint in decimal, followed by a newline", text/x.tlog.size.
func (p *witnessPusher) conflict(resp *http.Response, answer []byte, c audit.Checkpoint) (bool, error) {
	digits, newline := strings.CutSuffix(string(answer), "\n")
	size, err := strconv.ParseUint(digits, 10, 63)
	switch {
	case err != nil || !newline || resp.Header.Get("Content-Type") != "text/x.tlog.size":
		return false, errors.New("the witness answered 409 without a size")
	case size > c.Size:
		return false, fmt.Errorf("the witness has seen %d blocks of this log, which has %d: the log was put back to an older state, or something else signs with its key", size, c.Size)
	case size == p.seen && size == c.Size:
		return false, fmt.Errorf("the witness has seen another log of %d blocks: the log was rewritten, or something else signs with its key", size)
	case size == p.seen:
		return false, fmt.Errorf("the witness refuses what goes on from size %d, and says that this is what it has seen", size)
	}
	p.seen, p.begun = size, true
	return true, fmt.Errorf("the witness has seen size %d, and before said otherwise", size)
}

// keep checks the cosignatures and writes those that are good beside the log.
// "The client MUST ignore any cosignatures from unknown keys."
func (p *witnessPusher) keep(msg, lines []byte) error {
	found := false
	for _, w := range p.keys {
		prefix := fmt.Sprintf("— %s ", w.Name())
		for line := range strings.Lines(string(lines)) {
			data, ok := strings.CutPrefix(line, prefix)
			sig, err := base64.StdEncoding.DecodeString(strings.TrimSuffix(data, "\n"))
			if !ok || err != nil || len(sig) < 4 || !bytes.Equal(sig[:4], keyID(w)) {
				continue
			}
			cosigned := append(bytes.Clone(msg), line...)
			if _, err := w.Cosigned(cosigned); err != nil {
				return fmt.Errorf("the cosignature of the witness is not good: %w", err)
			}
			if err := audit.WriteCosigned(p.dir, w, cosigned); err != nil {
				return err
			}
			found = true
		}
	}
	if !found {
		return errors.New("the witness sent no cosignature by a key of audit.witness_keys")
	}
	return nil
}

func keyID(w *audit.Witness) []byte {
	h := w.KeyHash()
	return []byte{byte(h >> 24), byte(h >> 16), byte(h >> 8), byte(h)}
}

func (p *witnessPusher) close() { p.client.CloseIdleConnections() }
