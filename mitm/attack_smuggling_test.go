package mitm

import (
	"slices"
	"strings"
	"testing"

	"framegate/audit"
)

const (
	post       = "POST / HTTP/1.1\r\nHost: a\r\n"
	chunked    = post + "Transfer-Encoding: chunked\r\n\r\n"
	smuggled   = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
	manyFields = "many fields"

	probe = "GET /probe HTTP/1.1\r\nHost: a\r\n\r\n"
)

// Where a body could end in two places, the request goes nowhere.
var smugglings = []attack{
	{"CL.TE", "Linhart et al. 2005; CVE-2005-2088; RFC 9112, 6.1", post + "Content-Length: 40\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + smuggled, []int{400}, nil},
	{"TE.CL", "Kettle 2019; CVE-2024-1135", post + "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n24\r\n" + smuggled + "\r\n0\r\n\r\n", []int{400}, nil},
	{"TE.TE, two lines", "CVE-2020-8287", post + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n" + smuggled, []int{400}, nil},
	{"TE.TE, a list", "CVE-2022-32213", post + "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + smuggled, []int{400}, nil},
	{"TE.TE, prefix", "Kettle 2019", post + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + smuggled, []int{400}, nil},
	{"TE.TE, parameter", "Kettle 2019", post + "Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n" + smuggled, []int{400}, nil},
	{"TE.TE, quoted", "Kettle 2019", post + "Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n" + smuggled, []int{400}, nil},
	{"TE.TE, vertical tab", "CVE-2019-15605, CVE-2022-1705", post + "Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n" + smuggled, []int{400}, nil},
	{"TE.TE, no-break space", "Kettle 2019", post + "Transfer-Encoding: \xa0chunked\r\n\r\n0\r\n\r\n" + smuggled, []int{400}, nil},
	{"TE.TE, letters that fold", "CVE-2022-1705; RFC 9110, 5.6.2", post + "Transfer-Encoding: chun\u212aed\r\n\r\n0\r\n\r\n" + smuggled, []int{400}, nil},
	{"TE.TE, space before the colon", "CVE-2019-16276; RFC 9112, 5.1", post + "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + smuggled, []int{400}, nil},
	{"TE.TE, folded line", "CVE-2022-32215; RFC 9112, 5.2", post + "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n" + smuggled, []int{400}, nil},
	{"TE.TE, behind a bare LF", "CVE-2022-32214; RFC 9112, 2.2", post + "X: x\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + smuggled, []int{400}, nil},
	{"TE.TE, behind a bare CR", "CVE-2023-30589; RFC 9112, 2.2", post + "X: x\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + smuggled, []int{400}, nil},
	{"TE.TE, underscore", "RFC 3875, 4.1.18", post + "Transfer_Encoding: chunked\r\n\r\n0\r\n\r\n" + smuggled, []int{400}, nil},
	{"TE in HTTP/1.0", "CVE-2026-2835; RFC 9112, 6.1", strings.Replace(chunked, "1.1", "1.0", 1) + "0\r\n\r\n" + smuggled, []int{400}, nil},
	{"CL.CL", "Linhart et al. 2005; RFC 9112, 6.3", post + "Content-Length: 0\r\nContent-Length: 35\r\n\r\n" + smuggled, []int{400}, nil},
	{"CL.CL, a list", "RFC 9110, 8.6", post + "Content-Length: 0, 35\r\n\r\n" + smuggled, []int{400}, nil},
	{"CL, inner space", "CVE-2018-7159", post + "Content-Length: 0 35\r\n\r\n" + smuggled, []int{400}, nil},
	{"CL, sign", "CVE-2022-42252; RFC 9110, 8.6", post + "Content-Length: +35\r\n\r\n" + smuggled, []int{400}, nil},
	{"CL, empty", "CVE-2023-40225", post + "Content-Length:\r\n\r\n" + smuggled, []int{400}, nil},
	{"CL, overflow", "RFC 9110, 8.6", post + "Content-Length: 18446744073709551616\r\n\r\n" + smuggled, []int{400}, nil},
	{"CL, underscore", "RFC 3875, 4.1.18", post + "Content_Length: 35\r\n\r\n" + smuggled, []int{400}, nil},
	{"CL, folded line before", "CVE-2024-27982; RFC 9112, 2.2", "POST / HTTP/1.1\r\n Content-Length: 35\r\nHost: a\r\n\r\n" + smuggled, []int{400}, nil},
	{"empty field name", "CVE-2023-25725", post + ": x\r\nContent-Length: 0\r\n\r\n", []int{400}, nil},
	{"head ended by LF LF", "CVE-2022-35256; RFC 9112, 2.2", "GET / HTTP/1.1\r\nHost: a\n\n" + smuggled, []int{400}, nil},
	{"two versions", "CVE-2021-33193", "GET / HTTP/1.1 HTTP/1.1\r\nHost: a\r\n\r\n", []int{400}, nil},
	{"fragment", "CVE-2023-45539", "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", []int{400}, nil},
	{"another host in the target", "Kettle 2017; RFC 9112, 3.2.2", "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", []int{400}, nil},
	{"two Hosts", "RFC 9112, 3.2", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", []int{400}, nil},
	{"0.CL by Expect", "Kettle 2025", post + "Expect: y 100-continue\r\nContent-Length: 35\r\n\r\n" + smuggled, []int{400}, nil},
	{"two Expects", "Kettle 2025", post + "Expect: 100-continue\r\nExpect:\r\nContent-Length: 35\r\n\r\n" + smuggled, []int{400}, nil},

	// The head is good, and has left when the body turns out not to be. The server
	// never gets a whole request.
	{"chunk size, overflow", "CVE-2013-2028; RFC 9112, 7.1", chunked + "10000000000000005\r\nabcde\r\n0\r\n\r\n" + smuggled, []int{400}, nil},
	{"chunk size, 0x", "Funky chunks 2025; RFC 9112, 7.1", chunked + "0x5\r\nabcde\r\n0\r\n\r\n" + smuggled, []int{400}, nil},
	{"chunk size, bare LF", "CVE-2025-22871", chunked + "5\nabcde\r\n0\r\n\r\n" + smuggled, []int{400}, nil},
	{"chunk extension, bare LF", "CVE-2025-55315; Funky chunks 2025", chunked + "2;\nxx\r\nab\r\n0\r\n\r\n" + smuggled, []int{400}, nil},
	{"chunk extension, bare CR", "Funky chunks 2025", chunked + "2;\rxx\r\nab\r\n0\r\n\r\n" + smuggled, []int{400}, nil},
	{"chunk extension, endless", "CVE-2023-39326", chunked + "2;" + strings.Repeat("x", maxChunkLine) + "\r\nab\r\n0\r\n\r\n" + smuggled, []int{400}, nil},
	{"chunk size, inner space", "Funky chunks 2025; RFC 9112, 7.1", chunked + "2 ;x\r\n" + smuggled + "ab\r\n0\r\n\r\n", []int{400}, nil},
	{"chunk extensions, many", "CVE-2023-39326", chunked + strings.Repeat("23;"+strings.Repeat("x", 1900)+"\r\n"+smuggled+"\r\n", 20) + "0\r\n\r\n", []int{400}, nil},
	{"chunk longer than it says", "Funky chunks 2025", chunked + "2\r\nabXX0\r\n\r\n" + smuggled, []int{400}, nil},
	{"trailer, Content-Length", "CVE-2025-12642; RFC 9110, 6.5.1", post + "Transfer-Encoding: chunked\r\nTrailer: X\r\n\r\n0\r\nX: y\r\nContent-Length: 35\r\n\r\n" + smuggled, []int{400}, nil},
	{"trailer, who asks", "CVE-2025-12642; RFC 9110, 6.5.1", chunked + "0\r\nX-Forwarded_For: 127.0.0.1\r\n\r\n", []int{400}, nil},
	{"trailer, Connection names it", "RFC 9110, 7.6.1", post + "Transfer-Encoding: chunked\r\nConnection: X\r\nTrailer: X\r\n\r\n0\r\nX: y\r\n\r\n", []int{400}, nil},
	{"trailer, no field", "CVE-2025-58068; RFC 9112, 7.1.2", chunked + "0\r\n" + smuggled, []int{400}, nil},
	{"trailers, endless", "CVE-2023-46589", chunked + "0\r\n" + strings.Repeat("X: yyyyyyyyyyyy\r\n", maxTrailers/16+1) + "\r\n", []int{400}, nil},

	// Odd, and yet of one meaning. What leaves is worded anew.
	{"CL.0", "Kettle 2022", post + "Content-Length: 35\r\n\r\n" + smuggled + probe, []int{200, 200},
		[]string{described("POST", "/", []byte(smuggled)), `GET /probe ""`}},
	{"GET with a body", "Kettle 2022; RFC 9110, 9.3.1", "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 35\r\n\r\n" + smuggled + probe, []int{200, 200},
		[]string{described("GET", "/", []byte(smuggled)), `GET /probe ""`}},
	{"TE.0", "Bugcrowd 2024", "OPTIONS / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\tcHuNkEd \r\n\r\n0023;x=\"y\"\r\n" + smuggled + "\r\n0\r\n\r\n" + probe, []int{200, 200},
		[]string{described("OPTIONS", "/", []byte(smuggled)), `GET /probe ""`}},
	{"chunk extensions", "RFC 9112, 7.1.1", chunked + "4;a;b=c\r\nbody\r\n0;d\r\n\r\n" + probe, []int{200, 200}, []string{`POST / "body"`, `GET /probe ""`}},
	{"absolute target", "RFC 9112, 3.2.2", "GET http://a/x?y HTTP/1.1\r\nHost: a\r\n\r\n" + probe, []int{200, 200}, []string{`GET /x?y ""`, `GET /probe ""`}},
	{"a long field name", "CVE-2021-40346", post + "Content-Length0" + strings.Repeat("a", 255) + ": x\r\nContent-Length: 4\r\n\r\nbody" + probe, []int{200, 200},
		[]string{`POST / "body"`, `GET /probe ""`}},
	{manyFields, "CVE-2024-37890", "GET / HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("x:y\r\n", 10000) + "\r\n" + probe, []int{200, 200}, []string{`GET / ""`, `GET /probe ""`}},
	{"pipelined", "RFC 9112, 9.3.2", post + "Content-Length: 4\r\n\r\nbody" + chunked + "0\r\n\r\n" + probe, []int{200, 200, 200},
		[]string{`POST / "body"`, `POST / ""`, `GET /probe ""`}},
}

func TestAttackSmuggling(t *testing.T) { attackAll(t, smugglings) }

// checkRecorded compares the records of a connection with the answers to it.
func checkRecorded(t *testing.T, g *gateway, end audit.Event, answers []int) {
	t.Helper()
	var codes []int
	for _, e := range g.ledger.of(audit.HTTPRequest) {
		codes = append(codes, e.Code)
		if refused := e.Code >= 400; refused != (e.Action == "block") || refused != (e.Reason != "") {
			t.Errorf("recorded: %+v", e)
		}
	}
	want := audit.StateInspected
	if answers[len(answers)-1] >= 400 {
		want = audit.StateFailed
	}
	if !slices.Equal(codes, answers) || end.State != want {
		t.Errorf("recorded are %v, and the end as %s (%s); want %v and %s", codes, end.State, end.Reason, answers, want)
	}
}

// What Connection names does not pass (RFC 9110, Section 7.6.1), but no name
// takes away what a request is made of.
func TestAttackNominated(t *testing.T) {
	o := countingOrigin(t)
	g := newGateway(t, o.addr, "")
	c := g.dial()
	send(t, c, "POST /nominated HTTP/1.1\r\nHost: a\r\nConnection: Host, Content-Length, Transfer-Encoding\r\nConnection: x-forwarded-for,COOKIE, Upgrade, HTTP2-Settings, , \"X-Quoted\"\r\n"+
		"X-Forwarded-For: 127.0.0.1\r\nCookie: a=b\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\nX-Quoted: stays\r\nContent-Length: 4\r\n\r\nbody"+probe)
	r := newReader(c)
	for range 2 {
		if status, _ := answer(t, r); status != 200 {
			t.Errorf("status %d", status)
		}
	}
	c.Close()
	g.ended(1)
	head, _, _ := strings.Cut(o.received(), "\r\n\r\n")
	want := []string{"POST /nominated HTTP/1.1", "Content-Length: 4", "Host: a", "X-Quoted: stays"}
	if got := lines(head); !slices.Equal(got, want) {
		t.Errorf("the server got %q, want %q", got, want)
	}
	if got := strictRequests(o.received()); !slices.Equal(got, []string{`POST /nominated "body"`, `GET /probe ""`}) {
		t.Errorf("the server sees %q", got)
	}
}
