package api

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"slices"
	"strings"
	"time"

	"gophd/internal/goroutine"
)

// maxHeader limits the header of a request, in bytes.
const maxHeader = 16 << 10

// route is what the API has at one path.
type route struct {
	method, path string
	serve        func(*Server, http.ResponseWriter, *http.Request)
}

const logsPath = "/v1/jobs/{name}/logs"

// routes lists the whole API. openapi.yaml describes it; a test compares them.
var routes = []route{
	{"GET", "/v1/status", (*Server).getStatus},
	{"GET", "/v1/jobs", (*Server).getJobs},
	{"GET", "/v1/jobs/{name}", (*Server).getJob},
	{"GET", logsPath, (*Server).getLogs},
	{"GET", runsPath, (*Server).getRuns},
	{"GET", "/v1/next", (*Server).getNext},
	{"GET", "/v1/events", (*Server).getEvents},
	{"POST", "/v1/jobs/{name}/{verb}", (*Server).postJob},
	{"POST", "/v1/stop", (*Server).postStop},
	{"POST", "/v1/reload", (*Server).postReload},
}

// handler serves the routes. A panic in one is that request's only.
func (t *site) handler() http.Handler {
	s := t.server
	mux, methods := http.NewServeMux(), map[string][]string{}
	for _, r := range routes {
		mux.HandleFunc(r.method+" "+r.path, func(w http.ResponseWriter, q *http.Request) { r.serve(s, w, q) })
		methods[r.path] = append(methods[r.path], r.method)
	}
	for path, allowed := range methods {
		for _, method := range otherMethods(path) {
			mux.HandleFunc(method+path, func(w http.ResponseWriter, q *http.Request) {
				w.Header().Set("Allow", strings.Join(allowed, ", "))
				fail(w, http.StatusMethodNotAllowed, "%s is not for %s; use %s", q.Method, q.URL.Path, strings.Join(allowed, " or "))
			})
		}
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, q *http.Request) {
		fail(w, http.StatusNotFound, "there is nothing at %.100q; the API is below /v1", q.URL.Path)
	})
	return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		t.handlers.Add(1)
		defer t.handlers.Done()
		q.Body = http.MaxBytesReader(w, q.Body, maxBody)
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(headerTime)) // of the body
		if p := goroutine.Catch(func() { mux.ServeHTTP(w, q) }); p != nil {
			s.o.Panicked(p)
			fail(w, http.StatusInternalServerError, "gophd has failed: %v", p.Value)
		}
	})
}

// otherMethods returns for which methods a path needs an answer that it is not for them, each with a space:
// "" is for all that have no route. The paths of the logs and runs also match that of a request for a job, so a
// pattern without a method would be ambiguous (net/http.ServeMux).
func otherMethods(path string) []string {
	if path == logsPath || path == runsPath {
		return []string{"POST ", "PUT ", "PATCH ", "DELETE "}
	}
	return []string{""}
}

// maxBody limits the body of a request, in bytes.
const maxBody = 64 << 10

// peerKey is the key of the Peer in the context of a request.
type peerKey struct{}

// discard returns a logger for the HTTP server: what it logs is about clients that behave badly.
func discard() *log.Logger { return log.New(io.Discard, "", 0) }

func (s *Server) getStatus(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, statusOf(s.o.Daemon.Snapshot()))
}

// ListedJob is a job with its daemon.
type ListedJob struct {
	Daemon string `json:"daemon"`
	PID    int    `json:"pid"`
	Job
}

// Listed returns the jobs of a daemon.
func (s Status) Listed() []ListedJob {
	all := make([]ListedJob, 0, len(s.Jobs))
	for _, j := range s.Jobs {
		all = append(all, ListedJob{Daemon: s.Daemon, PID: s.PID, Job: j})
	}
	return all
}

func (s *Server) getJobs(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, statusOf(s.o.Daemon.Snapshot()).Listed())
}

func (s *Server) getJob(w http.ResponseWriter, q *http.Request) {
	all := statusOf(s.o.Daemon.Snapshot()).Listed()
	name := q.PathValue("name")
	i := slices.IndexFunc(all, func(j ListedJob) bool { return j.Name == name })
	if i < 0 {
		fail(w, http.StatusNotFound, "there is no job %.100q", name)
		return
	}
	answer(w, http.StatusOK, all[i])
}

// answer writes an answer. A client that does not read it is disconnected.
func answer(w http.ResponseWriter, code int, body any) {
	text, err := json.Marshal(body)
	if err != nil {
		panic(fmt.Errorf("api: %w", err)) // all shapes are plain values
	}
	write(w, code, append(text, '\n'))
}

func write(w http.ResponseWriter, code int, text []byte) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTime))
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(text) // the client is gone
}

// fail answers with the reason of a failure.
func fail(w http.ResponseWriter, code int, format string, args ...any) {
	text, err := failureText(fmt.Sprintf(format, args...))
	if err != nil {
		panic(fmt.Errorf("api: %w", err))
	}
	write(w, code, text)
}

func failureText(why string) ([]byte, error) {
	text, err := json.Marshal(Failure{Error: why})
	return append(text, '\n'), err
}
