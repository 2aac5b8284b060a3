package origin

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"
)

const (
	eventPause = 200 * time.Millisecond
	maxResult  = 1 << 20
)

// PlainText is the body of /plain.
const PlainText = "plain text of the origin\n"

func (s *Server) registerWeb() {
	s.web.HandleFunc("/plain", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		w.Header().Set("Etag", `"lab-1"`)
		w.Header().Set("Content-Length", strconv.Itoa(len(PlainText)))
		io.WriteString(w, PlainText)
	})
	s.web.HandleFunc("/chunked", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Lab-Trailer")
		for i := range 3 {
			fmt.Fprintf(w, "chunk %d\n", i)
			http.NewResponseController(w).Flush()
		}
		w.Header().Set("X-Lab-Trailer", "the end")
	})
	s.web.HandleFunc("/upload", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body) // sends 100 Continue if that was asked for
		if err != nil {
			http.Error(w, "bad body", http.StatusBadRequest)
			return
		}
		for name, values := range r.Trailer {
			w.Header()["X-Lab-Got-"+name] = values
		}
		w.Write(body)
	})
	s.web.HandleFunc("/events", func(w http.ResponseWriter, r *http.Request) {
		count, err := strconv.Atoi(r.URL.Query().Get("n"))
		if err != nil {
			http.Error(w, "n is not a number", http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		w.Header().Set("Cache-Control", "no-store")
		for i := range count {
			if i > 0 {
				select {
				case <-r.Context().Done():
					return
				case <-time.After(eventPause):
				}
			}
			fmt.Fprintf(w, "id: %d\ndata: event %d\n\n", i, i)
			http.NewResponseController(w).Flush()
		}
	})
	s.web.HandleFunc("/big", func(w http.ResponseWriter, r *http.Request) {
		size, err := strconv.ParseInt(r.URL.Query().Get("size"), 10, 64)
		if err != nil || size < 0 {
			http.Error(w, "size is not a number", http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
		line := make([]byte, 32<<10)
		for i := range line {
			line[i] = byte('a' + i%26)
		}
		for ; size > 0; size -= int64(len(line)) {
			if _, err := w.Write(line[:min(size, int64(len(line)))]); err != nil {
				return
			}
		}
	})
	s.web.HandleFunc("POST /result", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxResult))
		if err != nil {
			http.Error(w, "bad body", http.StatusBadRequest)
			return
		}
		s.mu.Lock()
		s.results[r.URL.Query().Get("run")] = body
		s.announce()
		s.mu.Unlock()
		w.WriteHeader(http.StatusNoContent)
	})
}
