package clients

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// A Job is what a real client is asked to do.
type Job struct {
	URL       string   `json:"url"`
	Protocols []string `json:"protocols,omitempty"` // subprotocols to offer
	Say       []string `json:"say,omitempty"`       // texts to send after the usual work
	Burst     []string `json:"burst,omitempty"`     // then texts, or [Binary] messages, to send without waiting for those before; the last has to come back
	End       string   `json:"end,omitempty"`       // sent last instead of a Close: it makes somebody else close
	Offer     Offer    `json:"offer,omitempty"`     // of compression
}

// An Offer is what a client other than Chromium, which has no choice, offers of
// permessage-deflate.
type Offer string

const (
	OfferDefault Offer = ""     // as the library does if it is not told
	OfferEach    Offer = "each" // no context takeover in either direction
	OfferNone    Offer = "none"
)

// Binary is how [Job.Burst] and [Report.Heard] write a binary message.
func Binary(payload string) string {
	return "base64:" + base64.StdEncoding.EncodeToString([]byte(payload))
}

// A Report is what a real client experienced.
type Report struct {
	Client     string          `json:"client"` // name and version
	Protocol   string          `json:"protocol"`
	Extensions string          `json:"extensions"`
	Checks     map[string]bool `json:"checks"` // by name: did all come back as it was sent
	Said       []bool          `json:"said"`   // for each of Job.Say
	Heard      []string        `json:"heard"`  // what came of Job.Burst; if it looks like JSON and is none, that is an Error
	Close      *Closing        `json:"close"`  // nil if there was no connection
	Status     int             `json:"status"` // of the reply, if it was no 101 and the client tells
	Error      string          `json:"error"`
}

// A Closing is how the client saw the connection end.
type Closing struct {
	Code   int    `json:"code"`
	Reason string `json:"reason"`
}

// Failed lists what did not go as it does without anybody in between.
func (r Report) Failed() []string {
	var failed []string
	if r.Error != "" {
		failed = append(failed, "error: "+r.Error)
	}
	if len(r.Checks) == 0 {
		failed = append(failed, "nothing was checked")
	}
	for name, ok := range r.Checks {
		if !ok {
			failed = append(failed, name)
		}
	}
	for i, ok := range r.Said {
		if !ok {
			failed = append(failed, fmt.Sprintf("said %d", i))
		}
	}
	if r.Close == nil || r.Close.Code != 1000 {
		failed = append(failed, fmt.Sprintf("close: %+v", r.Close))
	}
	return failed
}

// A Host is a machine on which real clients run.
type Host struct {
	// Command prepares a program to run there, as lab.Net.Command does.
	Command func(ctx context.Context, name string, args ...string) *exec.Cmd
	// Roots is a PEM file with the roots that the clients trust.
	Roots string
	// Home is an empty directory for the client to live in.
	Home string
}

// Node runs the ws package of Node.
func (h Host) Node(ctx context.Context, job Job) (Report, error) {
	return h.run(ctx, job, "NODE_EXTRA_CA_CERTS="+h.Roots, "node", "node/client.js")
}

// Python runs the websockets library of the system's Python: the one that
// Debian's package belongs to.
func (h Host) Python(ctx context.Context, job Job) (Report, error) {
	return h.run(ctx, job, "SSL_CERT_FILE="+h.Roots, "/usr/bin/python3", "python/client.py")
}

func (h Host) run(ctx context.Context, job Job, trust, interpreter, script string) (Report, error) {
	var report Report
	argument, err := json.Marshal(job)
	if err != nil {
		return report, err
	}
	dir, err := scripts()
	if err != nil {
		return report, err
	}
	cmd := h.Command(ctx, interpreter, filepath.Join(dir, script), string(argument))
	cmd.Env = append(os.Environ(), "HOME="+h.Home, trust)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err == nil {
		err = json.Unmarshal(out, &report)
	}
	if err != nil {
		err = fmt.Errorf("%s: %w: %s", script, err, strings.TrimSpace(stderr.String()))
	}
	return report, err
}

// scripts finds this directory in the module that the working directory is in.
func scripts() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		_, err := os.Stat(filepath.Join(dir, "go.mod"))
		if err == nil {
			return filepath.Join(dir, "internal/lab/clients"), nil
		}
		parent := filepath.Dir(dir)
		if !errors.Is(err, fs.ErrNotExist) || parent == dir {
			return "", fmt.Errorf("no module around the working directory: %w", err)
		}
		dir = parent
	}
}
