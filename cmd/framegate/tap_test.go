package main

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"framegate/audit/capture"
	"framegate/frames"
)

// readFrame is the payload of the first frame, and its length.
func readFrame(t *testing.T, b []byte) (string, int) {
	t.Helper()
	h, n, err := frames.ConsumeHeader(b)
	if err != nil || n == 0 || int64(len(b)-n) < h.Length {
		t.Fatalf("not a frame: %v, %.20x", err, b)
	}
	payload := bytes.Clone(b[n : n+int(h.Length)])
	if h.Masked {
		for i := range payload {
			payload[i] ^= h.Mask[i%4]
		}
	}
	return string(payload), n + len(payload)
}

func TestFrameCursor(t *testing.T) {
	var stream []byte
	var starts []int
	for i, size := range []int{0, 1, 125, 126, 65535, 65536, 3} {
		starts = append(starts, len(stream))
		h := frames.Header{Fin: true, Opcode: frames.Binary, Masked: i%2 == 0, Length: int64(size)}
		stream = frames.AppendFrame(stream, h, make([]byte, size))
	}
	for _, step := range []int{1, 2, 3, 7, 1000, len(stream)} {
		var c frameCursor
		for at := 0; at < len(stream); at += step {
			want := slices.Contains(starts, at)
			if got := c.pass(stream[at:min(at+step, len(stream))]); got != want {
				t.Fatalf("steps of %d: at %d it says %v", step, at, got)
			}
		}
		if !c.pass(nil) {
			t.Errorf("steps of %d: does not end with a frame", step)
		}
	}
	var c frameCursor // RFC 6455, Section 5.2: "the minimal number of bytes MUST be used"
	if !c.pass([]byte{0x81, 126, 0, 1}) || c.pass([]byte{0x81, 0}) {
		t.Error("what is no frame is taken for one")
	}
}

// What a tap is shown is read back by inspect, and by tshark: compressed,
// fragmented, over IPv4 and IPv6.
func TestTap(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "pcap")
	ring, err := capture.OpenRing(capture.RingOptions{Dir: dir, MaxSize: capture.MinRing, Application: "framegate", Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		t.Fatal(err)
	}
	for i, ends := range [][2]string{{"10.0.0.7:40000", "192.0.2.1:443"}, {"[2001:db8::7]:40000", "[2001:db8::1]:443"}} {
		s := tapOf(ring).Open(fmt.Sprint("c-", i), netip.MustParseAddrPort(ends[0]), netip.MustParseAddrPort(ends[1]), []byte(inspectRequest), []byte(inspectAnswer))
		at := time.Unix(1767366245, 0)
		s.Bytes(frames.ToServer, at, []byte(wsFrame(frames.ToServer, 0, "plain needle")))
		s.Bytes(frames.ToClient, at, []byte(wsFrame(frames.ToClient, 4, deflated("compressed needle"))))
		h := frames.Header{Opcode: frames.Text, Masked: true, Mask: [4]byte{1, 2, 3, 4}}
		b := frames.AppendFrame(nil, h, []byte("fragmented nee"))
		h.Opcode, h.Fin = frames.Continuation, true
		b = frames.AppendFrame(b, h, []byte("dle"))
		s.Bytes(frames.ToServer, at, b[:7])
		s.Bytes(frames.ToServer, at, b[7:])
		s.Close()
	}
	if err := ring.Close(); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	rules := filepath.Join(t.TempDir(), "rules.toml")
	if err := os.WriteFile(rules, []byte("[[rule]]\nid = \"all\"\naction = \"log\"\nmatch.contains = [\"needle\"]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	if code := execute(t.Context(), []string{"inspect", "--json", "--policy", rules, files[0]}, &out, &errs); code != 0 {
		t.Fatal(errs.String())
	}
	var got []string
	for _, f := range findingsOf(t, out.String()) {
		got = append(got, fmt.Sprintf("%d %s %d %v", f.Conn, f.Dir, f.Size, f.Rules))
	}
	slices.Sort(got)
	want := []string{"1 to-client 17 [all]", "1 to-server 12 [all]", "1 to-server 17 [all]", "2 to-client 17 [all]", "2 to-server 12 [all]", "2 to-server 17 [all]"}
	if !slices.Equal(got, want) {
		t.Errorf("inspect finds %q, want %q", got, want)
	}
	shown := tool(t, ".", "tshark", "-r", files[0], "-Y", "websocket", "-T", "fields", "-e", "frame.comment", "-e", "text", "-e", "websocket.fin")
	for _, want := range []string{"framegate conn=c-0\tTimestamps,plain needle\t1\n", "framegate conn=c-1\tTimestamps,compressed needle\t1\n", "fragmented needle\t0,1\n"} {
		if !strings.Contains(shown, want) {
			t.Errorf("tshark does not show %q:\n%s", want, shown)
		}
	}
	if bad := tool(t, ".", "tshark", "-r", files[0], "-Y", "_ws.malformed or tcp.analysis.flags or (_ws.expert.severity >= 0x600000 and not http)"); bad != "" {
		t.Errorf("tshark finds fault with\n%s", bad)
	}
}

// Each file of a ring is dissected by itself, from the heads on, and nothing is
// in two of them or in none.
func TestTapRotated(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "pcap")
	ring, err := capture.OpenRing(capture.RingOptions{Dir: dir, MaxSize: capture.MinRing, Application: "framegate", Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		t.Fatal(err)
	}
	s := tapOf(ring).Open("c-1", netip.MustParseAddrPort("10.0.0.7:40000"), netip.MustParseAddrPort("192.0.2.1:443"), []byte(inspectRequest), []byte(inspectAnswer))
	const messages = 400
	for i := range messages {
		dir := frames.Direction(i % 2)
		b := []byte(wsFrame(dir, 0, fmt.Sprintf("message %d %s", i, strings.Repeat("x", 10_000))))
		s.Bytes(dir, time.Unix(1767366245, 0), b[:5000])
		s.Bytes(dir, time.Unix(1767366245, 0), b[5000:])
	}
	s.Close()
	if err := ring.Close(); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) < 3 {
		t.Fatal(files, err)
	}
	var shown []string
	for _, file := range files {
		out := tool(t, ".", "tshark", "-r", file, "-Y", "websocket", "-T", "fields", "-e", "text")
		for line := range strings.Lines(out) {
			_, number, _ := strings.Cut(line, "message ")
			number, _, _ = strings.Cut(number, " ")
			shown = append(shown, number)
		}
		if bad := tool(t, ".", "tshark", "-r", file, "-Y", "_ws.malformed or tcp.analysis.flags"); bad != "" {
			t.Errorf("tshark finds fault with\n%s", bad)
		}
	}
	for i := range messages {
		if i >= len(shown) || shown[i] != fmt.Sprint(i) {
			t.Fatalf("%d messages shown, from %d on %q", len(shown), i, shown[min(i, len(shown)):min(i+3, len(shown))])
		}
	}
}

func tapOf(ring *capture.Ring) *packetTap {
	t := new(packetTap)
	t.ring.Store(ring)
	return t
}
