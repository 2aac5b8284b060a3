package clients

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

// A Mailbox waits for what a page posts, as origin.Server does.
type Mailbox interface {
	Result(ctx context.Context, run string) ([]byte, error)
}

// Page serves the page that Chromium opens. The origin has it at /page.
func Page() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		dir, err := scripts()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		http.ServeFile(w, r, filepath.Join(dir, "chromium/page.html"))
	})
}

// Chromium opens site, such as https://chat.demo.test, in a headless browser
// with a fresh profile, and returns what its page posts to the mailbox.
func (h Host) Chromium(ctx context.Context, site string, mail Mailbox, job Job) (Report, error) {
	var report Report
	if err := h.trustNSS(ctx); err != nil {
		return report, err
	}
	run := rand.Text()
	argument, err := json.Marshal(struct {
		Run string `json:"run"`
		Job
	}{run, job})
	if err != nil {
		return report, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	cmd := h.Command(ctx, "chromium",
		"--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic",
		"--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
		"--no-proxy-server", "--disable-features=HttpsUpgrades", "--user-data-dir="+filepath.Join(h.Home, "profile"),
		// A fragment is not sent, so it may be longer than a request's head.
		site+"/page#job="+url.QueryEscape(string(argument)))
	cmd.Env = append(os.Environ(), "HOME="+h.Home)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		return report, err
	}
	ended := make(chan struct{})
	go func() {
		cancel(fmt.Errorf("chromium ended by itself: %v", cmd.Wait()))
		close(ended)
	}()
	posted, err := mail.Result(ctx, run)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	cancel(nil)
	<-ended
	if err == nil {
		err = json.Unmarshal(posted, &report)
	}
	if err != nil {
		err = fmt.Errorf("%w: %s", err, strings.TrimSpace(stderr.String()))
	}
	return report, err
}

// trustNSS makes the roots authorities for TLS servers in the user's NSS
// database, which is where Chromium on Linux looks:
// https://chromium.googlesource.com/chromium/src/+/main/docs/linux/cert_management.md
func (h Host) trustNSS(ctx context.Context) error {
	dir := filepath.Join(h.Home, ".pki/nssdb")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	roots, err := os.ReadFile(h.Roots)
	if err != nil {
		return err
	}
	if err := h.certutil(ctx, nil, "-N", "-d", "sql:"+dir, "--empty-password"); err != nil {
		return err
	}
	for i := 0; ; i++ {
		var block *pem.Block
		if block, roots = pem.Decode(roots); block == nil {
			return nil
		}
		name := fmt.Sprintf("lab root %d", i)
		if err := h.certutil(ctx, pem.EncodeToMemory(block), "-A", "-d", "sql:"+dir, "-a", "-n", name, "-t", "C,,"); err != nil {
			return err
		}
	}
}

func (h Host) certutil(ctx context.Context, stdin []byte, args ...string) error {
	cmd := h.Command(ctx, "certutil", args...)
	cmd.Stdin = bytes.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("certutil %s: %w: %s", args[0], err, bytes.TrimSpace(out))
	}
	return nil
}
