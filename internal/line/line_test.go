package line_test

import (
	"bytes"
	"strings"
	"testing"

	"gophd/internal/line"
)

func TestLineEnds(t *testing.T) {
	for _, c := range []struct {
		in                string
		lone, first, last int
	}{
		{"", 0, 0, 0},
		{"a", 1, 0, 0},
		{"a\n", 2, 2, 2},
		{"a\nb", 3, 2, 2},
		{"a\r\nb\r\n", 6, 3, 6},
		{"a\rb", 1, 2, 2},
		{"a\r", 1, 0, 0},    // a newline may follow
		{"a\nb\r", 3, 2, 2}, // the same
		{"a\rb\nc", 1, 2, 4},
		{"a\nb\rc", 3, 2, 4},
		{"a\r\r\nb", 1, 2, 4}, // the second has a newline
		{"\r\r", 0, 1, 1},
		{"\n\r", 1, 1, 1},
		{"\r", 0, 0, 0},
	} {
		p := []byte(c.in)
		got := [3]int{line.Lone(p), line.First(p), line.Last(p)}
		if want := [3]int{c.lone, c.first, c.last}; got != want {
			t.Errorf("%q: got %v, want %v", c.in, got, want)
		}
	}
}

// First, repeated, finds the lines that Last counts, each with one end.
func FuzzLineEnds(f *testing.F) {
	f.Add([]byte("a\rb\r\nc\n\r\r\n"))
	f.Fuzz(func(t *testing.T, p []byte) {
		all := 0
		for n := line.First(p); n > 0; n = line.First(p[all:]) {
			text := p[all : all+n]
			end := bytes.TrimSuffix(text, []byte("\r\n"))
			if len(end) == n {
				end = text[:n-1]
			}
			if bytes.ContainsAny(end, "\r\n") {
				t.Errorf("%q has a line %q", p, text)
			}
			all += n
		}
		if last := line.Last(p); all != last {
			t.Errorf("%q has %d bytes in complete lines, Last says %d", p, all, last)
		}
	})
}

func TestPartKeepsCountAndStart(t *testing.T) {
	var p line.Part
	p.Add([]byte("Really "))
	p.Add([]byte("delete? "))
	if p.Bytes != 15 || string(p.Start) != "Really delete? " {
		t.Errorf("%d bytes, %q", p.Bytes, p.Start)
	}
	p.Add([]byte(strings.Repeat("😀", 60_000)))
	want := "Really delete? " + strings.Repeat("😀", 45)
	if p.Bytes != 240_015 || !strings.HasPrefix(string(p.Start), want) || len(p.Start) > 400 {
		t.Errorf("%d bytes, %q", p.Bytes, p.Start)
	}
	p.Reset()
	if p.Bytes != 0 || len(p.Start) != 0 {
		t.Errorf("after a reset: %d bytes, %q", p.Bytes, p.Start)
	}
}
