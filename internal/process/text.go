package process

import (
	"fmt"
	"io"
	"os"
)

// TextInput returns a file from which a command reads that text, for Command.Stdin. It is no pipe, so that
// a command that does not read it blocks nobody. The caller closes it when the command has started.
func TextInput(text string) (*os.File, error) {
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
		return nil, fmt.Errorf("the text for stdin cannot be written: %w", err)
	}
	return f, nil
}
