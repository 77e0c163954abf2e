package headtail_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"gophd/internal/goroutine"
	"gophd/internal/headtail"
	"gophd/internal/process"
)

func dump(t interface{ Fatal(...any) }, b *headtail.Buffer) string {
	var out strings.Builder
	if err := b.Dump(&out); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func write(t interface{ Fatal(...any) }, w io.Writer, chunks ...string) {
	for _, c := range chunks {
		if n, err := io.WriteString(w, c); n != len(c) || err != nil {
			t.Fatal(n, err)
		}
	}
}

func TestDump(t *testing.T) {
	for _, c := range []struct {
		name       string
		head, tail int
		in, want   string
	}{
		{"empty", 10, 10, "", ""},
		{"complete, with an unfinished last line", 10, 10, "one\ntwo\nthree", "one\ntwo\nthree"},
		{"complete, at the size limit", 8, 6, "one\ntwo\nthree\n", "one\ntwo\nthree\n"},
		{"whole lines at both ends", 8, 9, "one\ntwo\nthree\nfour\nfive\n",
			"one\ntwo\n... 11 bytes left out ...\nfive\n"},
		{"a line longer than head and tail", 4, 4, "0123456789", "0123\n... 2 bytes left out ...\n6789"},
		{"a last line longer than the tail", 4, 4, "one\n0123456789\n", "one\n... 7 bytes left out ...\n789\n"},
		{"no head", 0, 9, "one\ntwo\nthree\n", "... 8 bytes left out ...\nthree\n"},
		{"no tail", 4, 0, "one\ntwo\n", "one\n... 4 bytes left out ...\n"},
		{"neither head nor tail", 0, 0, "one\n", "... 4 bytes left out ...\n"},
		{"lines of a progress bar", 8, 9, "one\rtwo\rthree\rfour\rfive\r",
			"one\rtwo\r\n... 11 bytes left out ...\nfive\r"},
		{"line ends of two bytes", 8, 11, "one\r\ntwo\r\nthree\r\nfour\r\nfive\r\n",
			"one\r\n... 18 bytes left out ...\nfive\r\n"},
		{"binary data", 20, 20, "\x00\xff\r\n\x1b", "\x00\xff\r\n\x1b"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := headtail.New(c.head, c.tail)
			w := b.Writer()
			write(t, w, c.in)
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			for range 2 { // a Dump changes nothing
				if got := dump(t, b); got != c.want {
					t.Errorf("got %q, want %q", got, c.want)
				}
			}
		})
	}
}

var leftOut = regexp.MustCompile(`(?m)^\.\.\. (\d+) bytes left out \.\.\.\n`)

// The dump is a head and a tail of the input, with the right count between. Both are within their
// bounds, and consist of whole lines where lines are short.
func TestDumpIsHeadCountAndTail(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		head, tail := rapid.IntRange(0, 300).Draw(t, "head"), rapid.IntRange(0, 300).Draw(t, "tail")
		longest := rapid.IntRange(0, 100).Draw(t, "longest line")
		var in bytes.Buffer
		for _, n := range rapid.SliceOfN(rapid.IntRange(0, longest), 0, 40).Draw(t, "lines") {
			fmt.Fprintf(&in, "%s\n", strings.Repeat("x", n))
		}
		all := in.String()
		b := headtail.New(head, tail)
		w := b.Writer()
		for rest := all; rest != ""; {
			n := rapid.IntRange(1, len(rest)).Draw(t, "chunk")
			write(t, w, rest[:n])
			rest = rest[n:]
		}
		got := dump(t, b)
		m := leftOut.FindStringSubmatchIndex(got)
		if m == nil {
			if got != all {
				t.Fatalf("%q became %q", all, got)
			}
			return
		}
		first, last := got[:m[0]], got[m[1]:]
		n, err := strconv.Atoi(got[m[2]:m[3]])
		if head == 0 || longest < head {
			if !strings.HasPrefix(all, first) || first != "" && !strings.HasSuffix(first, "\n") {
				t.Fatalf("%q starts with %q", all, first)
			}
			if err != nil || n != len(all)-len(first)-len(last) || n == 0 {
				t.Fatalf("%d bytes of %q are not in %q", n, all, got)
			}
		}
		if !strings.HasSuffix(all, last) || len(first) > head+1 || len(last) > tail {
			t.Fatalf("%q ends with %q; bounds %d, %d", all, last, head, tail)
		}
		if len(all) <= min(head, tail) {
			t.Fatalf("%q fits, but bytes were left out", all)
		}
		if 2*longest+2 < tail && !strings.HasSuffix(all[:len(all)-len(last)], "\n") {
			t.Fatalf("the tail %q is not whole lines of %q", last, all)
		}
	})
}

func TestStreamsDoNotMix(t *testing.T) {
	buffer := headtail.New(1000, 1000)
	a, b := buffer.Writer(), buffer.Writer()
	write(t, a, "al")
	write(t, b, "beta\nga")
	write(t, a, "pha\nlast of a")
	write(t, b, "mma\nlast of b")
	if err := errors.Join(a.Close(), b.Close()); err != nil {
		t.Fatal(err)
	}
	if got := dump(t, buffer); got != "beta\nalpha\ngamma\nlast of a\nlast of b" {
		t.Errorf("got %q", got)
	}
}

// A carriage return ends a line, and one with a newline is one line end wherever the chunks end.
func TestCarriageReturnsEndLinesOfStreams(t *testing.T) {
	buffer := headtail.New(1000, 1000)
	a, b := buffer.Writer(), buffer.Writer()
	write(t, a, " 5%\r10%\r")
	write(t, b, "beta\r")
	write(t, a, "15%")
	write(t, b, "\nend")
	write(t, a, "\r20%\r")
	if all := buffer.Unfinished(); len(all) != 1 || string(all[0].Start) != "end" {
		t.Errorf("it shows %+v", all)
	}
	if err := errors.Join(a.Close(), b.Close()); err != nil {
		t.Fatal(err)
	}
	if got := dump(t, buffer); got != " 5%\r10%\rbeta\r\n15%\r20%\rend" {
		t.Errorf("got %q", got)
	}
}

// A line that is not finished when the buffer is handed off is continued, whether a part of it is
// stored or not.
func TestRestoredBufferContinuesTheLine(t *testing.T) {
	for _, n := range []int{0, 1, 100 << 10} {
		old := headtail.New(64<<10, 192<<10)
		w := old.Writer()
		in := "one\n" + strings.Repeat("x", n)
		write(t, w, in)
		rester := w.(process.Rester)
		rest := rester.Rest()
		if len(old.Unfinished()) != 0 {
			t.Error("the old buffer still shows the line")
		}
		next := headtail.New(64<<10, 192<<10)
		next.Restore([]byte(dump(t, old)))
		w = next.Writer()
		w.(process.Rester).Continue(rest)
		shown := 0
		for _, part := range next.Unfinished() {
			shown += part.Bytes
		}
		if shown != n {
			t.Errorf("of a line of %d bytes the new buffer shows %d", n, shown)
		}
		write(t, w, "yy\nlast\n")
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if got := dump(t, next); got != in+"yy\nlast\n" {
			t.Errorf("%d bytes became %d", len(in)+8, len(got))
		}
	}
}

// Two goroutines write lines without an end at the same time. Memory stays bounded.
func TestHugeLinesUseBoundedMemory(t *testing.T) {
	b := headtail.New(64<<10, 192<<10)
	chunk := bytes.Repeat([]byte("0123456789abcdef"), 4096)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	var writers goroutine.Group
	for range 2 {
		writers.Go(func() {
			w := b.Writer()
			for range 50 << 20 / len(chunk) {
				if _, err := w.Write(chunk); err != nil {
					t.Error(err)
				}
			}
			if err := w.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	writers.Wait()
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 4<<20 {
		t.Errorf("%d bytes were allocated", n)
	}
	got := dump(t, b)
	if len(got) > 256<<10+100 || !strings.HasSuffix(got, "def") || len(leftOut.FindAllString(got, -1)) != 1 {
		t.Errorf("%d bytes, ending in %q", len(got), got[len(got)-20:])
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestDumpReportsTheWritersError(t *testing.T) {
	b := headtail.New(10, 10)
	write(t, b.Writer(), "a line\n")
	if err := b.Dump(brokenWriter{}); !errors.Is(err, io.ErrClosedPipe) {
		t.Error(err)
	}
}
