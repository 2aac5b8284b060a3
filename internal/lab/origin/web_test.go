package origin_test

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"framegate/internal/lab/clients"
	"framegate/internal/lab/origin"
)

func TestWeb(t *testing.T) {
	s := start(t)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: clients.Trust(s.pki.Roots(), name)}}
	defer client.CloseIdleConnections()
	do := func(method, target, body string, headers ...string) (*http.Response, string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, "https://"+s.tls+target, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(headers); i += 2 {
			r.Header.Set(headers[i], headers[i+1])
		}
		reply, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer reply.Body.Close()
		got, err := io.ReadAll(reply.Body)
		if err != nil {
			t.Fatal(err)
		}
		return reply, string(got)
	}
	if reply, body := do("GET", "/plain", ""); body != origin.PlainText || reply.Header.Get("Etag") != `"lab-1"` {
		t.Errorf("plain: %q", body)
	}
	if reply, body := do("HEAD", "/plain", ""); body != "" || reply.ContentLength != int64(len(origin.PlainText)) {
		t.Errorf("HEAD: %q, length %d", body, reply.ContentLength)
	}
	if reply, body := do("GET", "/chunked", ""); body != "chunk 0\nchunk 1\nchunk 2\n" || reply.Trailer.Get("X-Lab-Trailer") != "the end" ||
		!slices.Equal(reply.TransferEncoding, []string{"chunked"}) {
		t.Errorf("chunked: %q, trailer %v", body, reply.Trailer)
	}
	if _, body := do("POST", "/upload", "body", "Expect", "100-continue"); body != "body" {
		t.Errorf("upload: %q", body)
	}
	if _, body := do("GET", "/events?n=2", ""); body != "id: 0\ndata: event 0\n\nid: 1\ndata: event 1\n\n" {
		t.Errorf("events: %q", body)
	}
	if _, body := do("GET", "/big?size=100001", ""); len(body) != 100001 || body[:3] != "abc" {
		t.Errorf("big: %d bytes", len(body))
	}
	if reply, _ := do("POST", "/result?run=7", "{}"); reply.StatusCode != 204 {
		t.Errorf("result: %s", reply.Status)
	}
	if body, err := s.Result(t.Context(), "7"); string(body) != "{}" || err != nil {
		t.Errorf("result: %q (%v)", body, err)
	}
	for _, target := range []string{"/big?size=x", "/events?n="} {
		if reply, _ := do("GET", target, ""); reply.StatusCode != 400 {
			t.Errorf("%s: %s", target, reply.Status)
		}
	}
	s.HandleHTTP("/more", http.NotFoundHandler())
	if reply, _ := do("GET", "/more", ""); reply.StatusCode != 404 {
		t.Errorf("more: %s", reply.Status)
	}
}

func TestBannerSpeaksFirst(t *testing.T) {
	s := start(t)
	c, err := clients.DialRaw(t.Context(), clients.RawOptions{Address: s.banner})
	if err != nil {
		t.Fatal(err)
	}
	greeting := make([]byte, len(origin.Banner))
	if _, err := io.ReadFull(c, greeting); err != nil || string(greeting) != origin.Banner {
		t.Fatalf("%q (%v)", greeting, err)
	}
	io.WriteString(c, "EHLO lab\r\n")
	c.CloseWrite()
	if rest, err := c.Rest(); string(rest) != "EHLO lab\r\n" || err != nil {
		t.Errorf("%q (%v)", rest, err)
	}
}
