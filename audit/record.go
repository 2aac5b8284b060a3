package audit

import "time"

// A Record is one line of a log.
type Record struct {
	Raw []byte `json:"-"` // the line as it is stored, without the newline; the caller's to keep

	Seq         uint64    `json:"seq"`
	Time        time.Time `json:"time"`
	Event       string    `json:"event"`
	Conn        string    `json:"conn"`
	Dir         string    `json:"dir"`
	Opcode      string    `json:"opcode"`
	Size        int64     `json:"size"`
	WireSize    int64     `json:"wire_size"`
	Frames      int       `json:"frames"`
	Compressed  bool      `json:"compressed"`
	SHA256      string    `json:"sha256"`
	Rules       []string  `json:"rules"`
	Shadow      []string  `json:"shadow"`
	Action      string    `json:"action"`
	Policy      string    `json:"policy"`
	Client      string    `json:"client"`
	Server      string    `json:"server"`
	SNI         string    `json:"sni"`
	Host        string    `json:"host"`
	Method      string    `json:"method"`
	Path        string    `json:"path"`
	Subprotocol string    `json:"subprotocol"`
	Code        int       `json:"code"`
	Reason      string    `json:"reason"`
	State       string    `json:"state"`
	// At most one of the next four is there; see Payloads.
	Payload        *string       `json:"payload"`         // nil: the record has none
	PayloadB64     string        `json:"payload_b64"`     // of a payload that is not UTF-8
	PayloadSealed  string        `json:"payload_sealed"`  // nonce, ciphertext and tag in base64
	PayloadOmitted string        `json:"payload_omitted"` // why there is none, though payloads are recorded
	Evidence       string        `json:"evidence"`
	Totals         *RecordTotals `json:"totals"`  // nil: the record has none
	Gap            *RecordGap    `json:"gap"`     // nil: the record has none
	Expired        *Expired      `json:"expired"` // nil: the record has none
	Unshipped      *Unshipped    `json:"unshipped"`
}

// RecordTotals are the Totals of a record.
type RecordTotals struct {
	ToServer RecordTally `json:"to_server"`
	ToClient RecordTally `json:"to_client"`
}

// A RecordTally is the Tally of a direction in a record.
type RecordTally struct {
	Messages int64  `json:"messages"`
	Bytes    int64  `json:"bytes"`
	SHA256   string `json:"sha256"`
}

// A RecordGap is the Gap of a record.
type RecordGap struct {
	Count int64     `json:"count"`
	Bytes int64     `json:"bytes"`
	Since time.Time `json:"since"`
}
