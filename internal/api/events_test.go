package api

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"gophd/internal/event"
	"gophd/internal/job"
)

type eventLine struct {
	ID      uint64 `json:"id"`
	Type    string `json:"type"`
	Job     string `json:"job"`
	Run     uint64 `json:"run"`
	Level   string `json:"level"`
	Message string `json:"message"`
}

var at = time.Date(2026, 11, 27, 3, 17, 0, 0, time.UTC)

func started(run uint64) event.Event {
	return event.RunStarted("nightly", job.Run{Number: run}, 901, at)
}

// publish passes the start of these runs to the reader, as a stream does.
func publish(e *Events, from, to uint64) {
	s := event.NewStream(e.Read)
	for run := from; run <= to; run++ {
		s.Publish(started(run))
	}
}

// follow connects and returns a function that reads the next event.
func follow(t *testing.T, path, query string) (next func() eventLine, c net.Conn) {
	t.Helper()
	c = connect(t, path)
	fmt.Fprintf(c, "GET /v1/events%s HTTP/1.0\r\n\r\n", query) // 1.0: no chunks
	r := bufio.NewReader(c)
	for {
		text, err := r.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if text == "\r\n" {
			break
		}
	}
	return func() (l eventLine) {
		t.Helper()
		text, err := r.ReadString('\n')
		if err != nil {
			return eventLine{Type: "end"}
		}
		if err := json.Unmarshal([]byte(text), &l); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		return l
	}, c
}

func TestStreamResumesByID(t *testing.T) {
	events := NewEvents(SavedEvents{})
	path := listenTo(t, newServer(t, t.TempDir(), func(o *Options) { o.Events = events }))
	events.Read(event.JobState("nightly", job.Waiting, job.Run{}, at, at)) // for the board only
	events.Read(event.Dump(nil))
	publish(events, 1, 3)
	next, _ := follow(t, path, "?follow=true")
	first := next()
	if want := (eventLine{events.Last() - 2, "run.started", "nightly", 1, "debug", "run 1 started, pid 901"}); first != want {
		t.Errorf("%+v, want %+v", first, want)
	}
	if l := next(); l.ID != first.ID+1 || l.Run != 2 {
		t.Errorf("%+v", l)
	}
	next()
	publish(events, 4, 4)
	if l := next(); l.ID != first.ID+3 || l.Run != 4 {
		t.Errorf("a new one: %+v", l)
	}
	// Without follow it ends.
	again, _ := follow(t, path, fmt.Sprintf("?after=%d", first.ID+1))
	if a, b, c := again(), again(), again(); a.Run != 3 || b.Run != 4 || c.Type != "end" {
		t.Errorf("%+v %+v %+v", a, b, c)
	}
}

func TestHoleIsAnEvent(t *testing.T) {
	events := NewEvents(SavedEvents{})
	path := listenTo(t, newServer(t, t.TempDir(), func(o *Options) { o.Events = events }))
	publish(events, 1, 1)
	first := events.Last()
	publish(events, 2, 2+maxEvents)
	next, _ := follow(t, path, fmt.Sprintf("?after=%d", first))
	if a, b := next(), next(); a.Type != "events.lost" || a.ID != 0 || b.Run != 3 || b.ID != first+2 {
		t.Errorf("%+v %+v", a, b)
	}
	// A number that this daemon has not reached is that of another.
	next, _ = follow(t, path, fmt.Sprintf("?after=%d", events.Last()+1000))
	if a, b := next(), next(); a.Type != "events.lost" || b.Run != 3 {
		t.Errorf("%+v %+v", a, b)
	}
	next, _ = follow(t, path, "")
	if a := next(); a.Run != 3 {
		t.Errorf("%+v", a)
	}
}

func TestEventsAreKeptOverARestart(t *testing.T) {
	for _, n := range []uint64{0, 1, maxEvents - 1, maxEvents, maxEvents + 7, 3 * maxEvents} {
		old := NewEvents(SavedEvents{})
		publish(old, 1, n)
		e := NewEvents(old.Save())
		publish(e, n+1, n+2)
		kept, first, _ := e.since(0)
		if want := min(n+2, maxEvents); uint64(len(kept)) != want || e.Last() != old.Last()+2 || first != e.Last()-want+1 {
			t.Errorf("%d events: %d are kept, from %d to %d", n, len(kept), first, e.Last())
		}
		for i, k := range kept {
			var l eventLine
			if err := json.Unmarshal(k.text(first+uint64(i)), &l); err != nil || l.ID != first+uint64(i) ||
				l.Run != n+2-uint64(len(kept))+uint64(i)+1 {
				t.Errorf("%d events: event %d is %+v, %v", n, i, l, err)
			}
		}
	}
}

func TestStreamEndsWithAReexec(t *testing.T) {
	dir, events := t.TempDir(), NewEvents(SavedEvents{})
	s := newServer(t, dir, func(o *Options) { o.Events = events })
	path := listenTo(t, s)
	publish(events, 1, 1)
	next, _ := follow(t, path, "?follow=true")
	last := next()
	publish(events, 2, 2)
	f, place, err := s.HandOff()
	if err != nil {
		t.Fatal(err)
	}
	if a, b, c := next(), next(), next(); a.Run != 2 || b.Type != "daemon.reexecuting" || c.Type != "end" {
		t.Errorf("%+v %+v %+v", a, b, c)
	}
	resumed := NewEvents(events.Save())
	if err := newServer(t, dir, func(o *Options) { o.Events = resumed }).Adopt(f, place); err != nil {
		t.Fatal(err)
	}
	publish(resumed, 3, 3)
	next, _ = follow(t, path, fmt.Sprintf("?follow=true&after=%d", last.ID))
	if a, b := next(), next(); a.Run != 2 || b.Run != 3 || b.ID != last.ID+2 {
		t.Errorf("%+v %+v", a, b)
	}
}

func TestStreamEndsWithTheDaemon(t *testing.T) {
	events := NewEvents(SavedEvents{})
	s := newServer(t, t.TempDir(), func(o *Options) { o.Events = events })
	next, _ := follow(t, listenTo(t, s), "?follow=true")
	publish(events, 1, 1)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if a, b := next(), next(); a.Run != 1 || b.Type != "end" {
		t.Errorf("%+v %+v", a, b)
	}
}

func TestParametersOfEvents(t *testing.T) {
	c := connect(t, listenTo(t, newServer(t, t.TempDir(), nil)))
	for query, want := range map[string]string{
		"?after=x": `after: \"x\" is not valid`, "?follow=2": `follow: \"2\" is not valid`, "?since=1": `\"since\" is no parameter`,
	} {
		if code, body := ask(t, c, "GET /v1/events"+query); code != 400 || !strings.Contains(body, want) {
			t.Errorf("%s: %d %s", query, code, body)
		}
	}
}
