package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"gophd/internal/event"
)

// maxEvents is how many events a daemon keeps for the readers of its stream.
const maxEvents = 256

// Events keeps the last events of a daemon, over its re-execs. Each has a number, one more than that of
// the event before. Any goroutine may use it.
type Events struct {
	mu          sync.Mutex
	first, next uint64               // numbers of the oldest that is kept, and of the next event
	kept        [maxEvents]keptEvent // by number, modulo maxEvents; memory that was never written to costs nothing
	news        chan struct{}        // closed at the next event; nil if nobody waits for it
}

// keptEvent is an event, or its line if it is of the old process.
type keptEvent struct {
	event event.Event
	line  []byte
}

// SavedEvents is what the old process hands off to the new one: the number of the next event, and the
// lines of those that are kept. They are no part of the JSON, which would delay the new process.
type SavedEvents struct {
	Next  uint64 `json:"next,omitempty"`
	Bytes int    `json:"bytes,omitempty"` // of Lines
	Lines []byte `json:"-"`
}

// NewEvents continues with the events of the old process. Without them the first number is the time, so
// that a later daemon has higher numbers.
func NewEvents(s SavedEvents) *Events {
	var lines [][]byte
	for line := range bytes.Lines(s.Lines) {
		lines = append(lines, line)
	}
	lines = lines[max(0, len(lines)-maxEvents):]
	e := &Events{first: s.Next - uint64(len(lines)), next: s.Next}
	for i, line := range lines {
		e.kept[(e.first+uint64(i))%maxEvents] = keptEvent{line: bytes.Clone(line)}
	}
	if e.next == 0 {
		e.next = uint64(time.Now().UnixMicro())
		e.first = e.next
	}
	return e
}

// Read keeps an event. It is a reader of event.Stream. Events that are for the status board only, and
// dumps, are not kept.
func (e *Events) Read(of event.Event) {
	if of.Level == event.Never || of.Type == event.TypeDump {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.kept[e.next%maxEvents] = keptEvent{event: of}
	e.next++
	e.first = max(e.first, e.next-maxEvents)
	if e.news != nil {
		close(e.news)
		e.news = nil
	}
}

// Last returns the number of the last event.
func (e *Events) Last() uint64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.next - 1
}

// since returns the kept events after the one with that number, the number of the first of them, and a
// channel that is closed at the next event. If there is no such number yet, it is of another daemon, and
// all are returned.
func (e *Events) since(after uint64) (events []keptEvent, first uint64, news <-chan struct{}) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.news == nil {
		e.news = make(chan struct{})
	}
	if first = max(after+1, e.first); first > e.next {
		first = e.first
	}
	for id := first; id < e.next; id++ {
		events = append(events, e.kept[id%maxEvents])
	}
	return events, first, e.news
}

// Save returns the events for the new process.
func (e *Events) Save() SavedEvents {
	events, first, _ := e.since(0)
	s := SavedEvents{Next: first + uint64(len(events))}
	for i, k := range events {
		s.Lines = append(s.Lines, k.text(first+uint64(i))...)
	}
	s.Bytes = len(s.Lines)
	return s
}

// text returns the line of an event: its number, time, type, level, job, fields and message.
func (k keptEvent) text(id uint64) []byte {
	if k.line != nil {
		return k.line
	}
	e := k.event
	l := line{'{'}
	l.add("id", id)
	l.add("time", e.Time.UTC().Format(time.RFC3339Nano))
	l.add("type", string(e.Type))
	l.add("level", levels[e.Level])
	if e.Job != "" {
		l.add("job", e.Job)
	}
	e.Fields(l.add)
	l.add("message", e.Message())
	return append(l, '}', '\n')
}

var levels = map[event.Level]string{event.Debug: "debug", event.Info: "info", event.Warn: "warn", event.Error: "error",
	event.Always: "info"}

// The events of the stream itself. They have no number.
const (
	typeLost        = "events.lost"
	typeReexecuting = "daemon.reexecuting"
)

// note returns the line of an event of the stream itself.
func note(kind, message string) []byte {
	l := line{'{'}
	l.add("time", time.Now().UTC().Format(time.RFC3339Nano))
	l.add("type", kind)
	l.add("message", message)
	return append(l, '}', '\n')
}

// line is a JSON object that is being made. Its fields keep their order.
type line []byte

func (l *line) add(name string, value any) {
	text, err := json.Marshal(value)
	if err != nil {
		panic(fmt.Errorf("api: field %s: %w", name, err)) // fields are plain values
	}
	if len(*l) > 1 {
		*l = append(*l, ',')
	}
	*l = append(*l, '"')
	*l = append(*l, name...)
	*l = append(*l, '"', ':')
	*l = append(*l, text...)
}
