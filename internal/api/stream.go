package api

import (
	"context"
	"net/http"
	"strconv"
	"time"
)

// together is how long a stream waits after an event for those that follow, so that a burst wakes its
// reader once.
const together = 25 * time.Millisecond

// getEvents answers with the kept events after the one with the number "after", a line for each. With
// "follow" the answer goes on with those to come, until the client closes the connection, or gophd ends
// or re-execs.
func (s *Server) getEvents(w http.ResponseWriter, q *http.Request) {
	after, follow := uint64(0), false
	for name, values := range q.URL.Query() {
		var err error
		switch name {
		case "after":
			after, err = strconv.ParseUint(values[0], 10, 64)
		case "follow":
			follow, err = strconv.ParseBool(values[0])
		default:
			fail(w, http.StatusBadRequest, "%.100q is no parameter of events; use after and follow", name)
			return
		}
		if err != nil {
			fail(w, http.StatusBadRequest, "%s: %.100q is not valid; after is the id of an event, follow is true or false", name, values[0])
			return
		}
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	t := stream{w: w, control: http.NewResponseController(w), events: s.o.Events, after: after}
	_ = t.control.SetReadDeadline(time.Time{}) // the connection may be open for long
	if !t.send() || !follow {
		return
	}
	if t.follow(q.Context(), s.ending); s.reexecuting.Load() && t.send() {
		t.write(note(typeReexecuting, "the stream ends because gophd re-execs; continue after the last id"))
	}
}

// stream writes events to a client.
type stream struct {
	w       http.ResponseWriter
	control *http.ResponseController
	events  *Events
	after   uint64 // number of the last event that was written; 0 for none
	news    <-chan struct{}
}

// follow writes events until the client is gone, or ending is closed.
func (t *stream) follow(ctx context.Context, ending <-chan struct{}) {
	burst := time.NewTimer(together)
	defer burst.Stop()
	for {
		select {
		case <-t.news:
		case <-ctx.Done():
			return
		case <-ending:
			t.send()
			return
		}
		burst.Reset(together)
		select {
		case <-burst.C:
		case <-ending:
		}
		if !t.send() {
			return
		}
	}
}

// send writes the events that are new. It returns false if the client is gone, or does not read.
func (t *stream) send() bool {
	events, first, news := t.events.since(t.after)
	t.news = news
	var text []byte
	if t.after > 0 && first != t.after+1 {
		text = note(typeLost, "events before the next one are not kept any more")
	}
	for i, k := range events {
		text = append(text, k.text(first+uint64(i))...)
	}
	t.after = first + uint64(len(events)) - 1
	return t.write(text)
}

func (t *stream) write(text []byte) bool {
	_ = t.control.SetWriteDeadline(time.Now().Add(writeTime))
	if _, err := t.w.Write(text); err != nil {
		return false
	}
	return t.control.Flush() == nil
}
