package audit

import "time"

// A Fault is a way in which a log is not what was written.
type Fault string

const (
	Altered   Fault = "altered"   // something was changed, added, moved or put in the place of something else
	Truncated Fault = "truncated" // the end is missing
	Missing   Fault = "gap"       // blocks in the middle are missing
	Unsigned  Fault = "signature" // a signature is not that of the log, or missing
)

// A Finding is one place where the log is not what was written.
type Finding struct {
	Fault  Fault  `json:"fault"`
	Place  string `json:"place"` // a file below the directory, with an offset where it has one
	Block  uint64 `json:"block"` // the first block that may be concerned
	Reason string `json:"reason"`
}

// A Span is a run of blocks.
type Span struct {
	Blocks     uint64 `json:"blocks"`
	lastBlock  uint64
	FirstBlock uint64     `json:"first_block"`
	Records    uint64     `json:"records"`
	FirstSeq   uint64     `json:"first_seq,omitempty"`
	LastSeq    uint64     `json:"last_seq,omitempty"`
	From       *time.Time `json:"from,omitempty"` // earliest time of a record
	To         *time.Time `json:"to,omitempty"`   // latest time of a record
}

// A Loss is an audit.gap record: the log says of itself that records are missing.
type Loss struct {
	Seq    uint64    `json:"seq"`
	Time   time.Time `json:"time"`
	Count  int64     `json:"count,omitempty"`
	Reason string    `json:"reason"`
}

// A Report says how much of a log is intact.
type Report struct {
	Log        string      `json:"log"`
	Verdict    string      `json:"verdict"` // "intact", the fault of the first finding, or "unreadable" beside an error
	Checkpoint *Checkpoint `json:"checkpoint,omitempty"`
	Compared   int         `json:"compared"` // other checkpoints that the log has been compared with

	Witnessed []Witnessed `json:"witnessed,omitempty"` // by the witnesses whose keys were given

	// Intact is the first run of blocks that are what a signature covers.
	Intact Span `json:"intact"`
	// Uncovered are whole blocks behind the checkpoint: of a log that is being
	// written, or of one that was killed. Nothing is proved of them.
	Uncovered Span `json:"uncovered"`
	// Unrooted counts the blocks among the intact that were written before
	// there was a tree: what is proved is that they are as they were when the
	// tree was begun.
	Unrooted uint64 `json:"unrooted,omitempty"`

	// ExpiredBlocks is how many blocks, from the first, are removed as a signed
	// record says, and ExpiredSeq the last seq of them. Expired are the records
	// of removals, as far as they are there.
	ExpiredBlocks uint64   `json:"expired_blocks,omitempty"`
	ExpiredSeq    uint64   `json:"expired_seq,omitempty"`
	Expired       []Expiry `json:"expired,omitempty"`
	// Present are genuine blocks that are there though they are on record as
	// removed: the removal is not at its end, or a copy was put back.
	Present *Span `json:"present,omitempty"`

	Findings []Finding `json:"findings,omitempty"` // in the order of the log, at most maxFindings
	Losses   []Loss    `json:"losses,omitempty"`   // of the intact range, at most maxFindings
	Notes    []string  `json:"notes,omitempty"`
}

// Witnessed is the largest checkpoint that a witness has cosigned, of those that
// were given.
type Witnessed struct {
	Witness string    `json:"witness"`
	Size    uint64    `json:"size"`
	Time    time.Time `json:"time"` // by the clock of the witness
}

// maxFindings bounds a report: a log of noise is not worth a line for each block.
const maxFindings = 1000

// Fault is that of the first finding, or "" for a log that is intact.
func (r *Report) Fault() Fault {
	if len(r.Findings) == 0 {
		return ""
	}
	return r.Findings[0].Fault
}
