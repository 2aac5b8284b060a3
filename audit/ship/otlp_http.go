package ship

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// longestAnswer bounds what is read of an answer.
const longestAnswer = 64 << 10

// newClient returns a client that dials as the gateway does, knows no proxy, and
// follows no redirection: it goes to the target and nowhere else.
func newClient(dial dialFunc, c *tls.Config) *http.Client {
	return &http.Client{
		Timeout: sendTimeout,
		Transport: &http.Transport{
			DialContext: dial, TLSClientConfig: c, TLSHandshakeTimeout: connectTimeout,
			ForceAttemptHTTP2: true, MaxResponseHeaderBytes: longestAnswer, DisableCompression: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// post sends one request and returns the answer, of which the body is read.
func post(ctx context.Context, c *http.Client, url string, header http.Header, body []byte) (*http.Response, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	req.Header = header
	resp, err := c.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, longestAnswer+1))
	if err == nil && len(answer) > longestAnswer {
		err = fmt.Errorf("an answer of more than %d bytes", longestAnswer)
	}
	return resp, answer, err
}

// An otlpCarrier sends records to an OpenTelemetry collector: OTLP/HTTP
// (https://opentelemetry.io/docs/specs/otlp/#otlphttp), binary protobuf, gzip.
type otlpCarrier struct {
	client *http.Client
	url    string
	format *otlpFormat

	of   *batch // that is rendered
	body []byte
}

func (c *otlpCarrier) send(ctx context.Context, b *batch) error {
	if c.of != b {
		body, err := c.render(b)
		if err != nil {
			return &refusedError{fmt.Errorf("not records: %w", err), b.count}
		}
		c.of, c.body = b, body
	}
	resp, answer, err := post(ctx, c.client, c.url, http.Header{
		"Content-Type":     {"application/x-protobuf"},
		"Content-Encoding": {"gzip"},
		"User-Agent":       {"framegate/" + c.format.version},
	}, c.body)
	if err != nil {
		return err
	}
	return judge(resp, answer, b.count)
}

func (c *otlpCarrier) render(b *batch) ([]byte, error) {
	data, err := c.format.records(b, time.Now())
	if err != nil {
		return nil, err
	}
	raw, err := proto.Marshal(data)
	if err != nil {
		return nil, err
	}
	var buf bytes.Buffer
	z, err := gzip.NewWriterLevel(&buf, gzip.BestSpeed)
	if err != nil {
		return nil, err
	}
	if _, err := z.Write(raw); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil { // before buf is whole
		return nil, err
	}
	return buf.Bytes(), nil
}

func (c *otlpCarrier) close() { c.client.CloseIdleConnections() }

// judge says what an answer means for a batch of count records.
func judge(resp *http.Response, answer []byte, count int) error {
	switch code := resp.StatusCode; {
	case code/100 == 2: // the protocol says 200; some answer 204
		rejected, message := partialSuccess(answer)
		if rejected <= 0 {
			return nil // a message alone is a warning, "the server fully accepts"
		}
		// "The client MUST NOT retry the request when it receives a partial success".
		return &refusedError{fmt.Errorf("the collector rejected %d of %d: %q", rejected, count, message), int(min(rejected, int64(count)))}
	case code == http.StatusTooManyRequests, code == http.StatusBadGateway,
		code == http.StatusServiceUnavailable, code == http.StatusGatewayTimeout:
		return &busyError{fmt.Errorf("the collector answered %s", status(resp)), retryAfter(resp.Header.Get("Retry-After"), time.Now())}
	}
	// "All other 4xx or 5xx response status codes MUST NOT be retried." So is
	// a redirection, which is none of the collector's business.
	return &refusedError{fmt.Errorf("the collector answered %s", status(resp)), count}
}

// status is that of an answer, without the words that the peer chose for it.
func status(resp *http.Response) string {
	return strings.TrimSpace(strconv.Itoa(resp.StatusCode) + " " + http.StatusText(resp.StatusCode))
}

// retryAfter reads Retry-After (RFC 9110 section 10.2.3): seconds or a date.
func retryAfter(s string, now time.Time) time.Duration {
	if n, err := strconv.ParseUint(s, 10, 31); err == nil {
		return time.Duration(n) * time.Second
	}
	if t, err := http.ParseTime(s); err == nil {
		return max(0, t.Sub(now))
	}
	return 0
}

// partialSuccess reads an ExportLogsServiceResponse: field 1 is the partial
// success, in it 1 the number of rejected records and 2 a message.
func partialSuccess(b []byte) (rejected int64, message string) {
	for _, v := range fieldsOf(b, 1) {
		for _, n := range fieldsOf(v.bytes, 1) {
			rejected = int64(n.number)
		}
		for _, s := range fieldsOf(v.bytes, 2) {
			message = string(s.bytes[:min(len(s.bytes), 200)])
		}
	}
	return rejected, message
}

type wireValue struct {
	number uint64
	bytes  []byte
}

// fieldsOf returns the values of one field of a message, up to where it is none.
func fieldsOf(b []byte, field protowire.Number) (values []wireValue) {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return values
		}
		b = b[n:]
		var v wireValue
		switch typ {
		case protowire.VarintType:
			v.number, n = protowire.ConsumeVarint(b)
		case protowire.BytesType:
			v.bytes, n = protowire.ConsumeBytes(b)
		default:
			n = protowire.ConsumeFieldValue(num, typ, b)
		}
		if n < 0 {
			return values
		}
		b = b[n:]
		if num == field {
			values = append(values, v)
		}
	}
	return values
}
