package server

import (
	"encoding/json"
	"net/http"

	"github.com/julienschmidt/httprouter"
)

// healthz answers 200 while the process serves requests.
func (s *Server) healthz(w http.ResponseWriter, _ *http.Request, _ httprouter.Params) {
	w.Header().Set(headerContentType, "text/plain; charset=utf-8")
	_, _ = w.Write([]byte("ok\n"))
}

// Readiness is the body of /-/readyz.
type Readiness struct {
	Pull   bool   `json:"pull"`
	Push   bool   `json:"push"`
	Reason string `json:"reason,omitempty"` // why not
}

// readyz answers 200 while pulls can be served, and with ?for=push only while pushes are accepted too.
func (s *Server) readyz(w http.ResponseWriter, r *http.Request, _ httprouter.Params) {
	ready := Readiness{Pull: true, Push: true}
	if err := s.store.Writable(); err != nil {
		ready.Push, ready.Reason = false, err.Error()
	}
	if err := s.store.Ping(r.Context()); err != nil {
		s.log.Error("not ready", "err", err)
		ready = Readiness{Reason: "the database does not answer"}
	}
	status := http.StatusOK
	if !ready.Pull || !ready.Push && r.URL.Query().Get("for") == "push" {
		status = http.StatusServiceUnavailable
	}
	w.Header().Set(headerContentType, "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(ready)
}
