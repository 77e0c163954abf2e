package logging

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/rs/zerolog"
)

// BenchmarkCapture writes the output of a command to a file, in chunks of 64 KiB as read from a
// pipe, with lines of 80 bytes. MB/s counts the command's bytes. cat writes the same bytes without
// a log, for comparison.
func BenchmarkCapture(b *testing.B) {
	const line = "2026-11-22 GET /a/path/of/a/request HTTP/1.1 200 12345 \"agent\" 0.001234 seconds\n"
	chunk := bytes.Repeat([]byte(line), 800)
	b.Run("cat", func(b *testing.B) {
		f, err := os.Create(filepath.Join(b.TempDir(), "log"))
		if err != nil {
			b.Fatal(err)
		}
		defer f.Close()
		b.SetBytes(int64(len(chunk)))
		for i := 0; b.Loop(); i++ {
			if _, err := f.Write(chunk); err != nil {
				b.Fatal(err)
			}
			trim(b, f.Name(), i)
		}
	})
	for _, format := range []string{simple, inJSON} {
		b.Run(format, func(b *testing.B) {
			l, err := Open(Options{File: filepath.Join(b.TempDir(), "log"), Format: format, Job: "nightly", PID: 4711})
			if err != nil {
				b.Fatal(err)
			}
			w := l.Capture("stdout")(4720)
			b.SetBytes(int64(len(chunk)))
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if _, err := w.Write(chunk); err != nil {
					b.Fatal(err)
				}
				trim(b, l.Path(), i)
			}
			if err := l.Close(); err != nil {
				b.Fatal(err)
			}
		})
	}
}

// trim keeps the file of a benchmark below about 100 MB.
func trim(b *testing.B, path string, i int) {
	if i%1000 == 999 {
		if err := os.Truncate(path, 0); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkOwn writes one of gophd's own lines.
func BenchmarkOwn(b *testing.B) {
	for _, format := range []string{simple, inJSON, console} {
		b.Run(format, func(b *testing.B) {
			l, err := Open(Options{
				File: os.DevNull, Format: format, Job: "nightly", PID: 4711, Level: zerolog.InfoLevel,
			})
			if err != nil {
				b.Fatal(err)
			}
			z := l.Logger()
			b.ReportAllocs()
			for b.Loop() {
				z.Info().Int("number", 7).Str("outcome", "exit 0").Msg("run ended")
			}
			if err := l.Close(); err != nil {
				b.Fatal(err)
			}
		})
	}
}
