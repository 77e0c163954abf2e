package process

import (
	"fmt"
	"io"
	"os"
)

// TextFile returns a file without a name that has a text, for Command.Stdin or an Output. It is no pipe, so
// that a command that does not read it blocks nobody, and nobody has to read what a command writes to it. The
// caller closes it.
func TextFile(text string) (*os.File, error) {
	f, err := unnamed()
	if err == nil {
		if _, err = f.WriteString(text); err == nil {
			_, err = f.Seek(0, io.SeekStart)
		}
	}
	if err != nil {
		if f != nil {
			_ = f.Close() // the first error counts
		}
		return nil, fmt.Errorf("a file for the input or output of a command cannot be written: %w", err)
	}
	return f, nil
}
