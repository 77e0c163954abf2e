package terminal

import (
	"errors"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// The names of keys that are no character. A key that has none is ignored.
const (
	Up        = "up"
	Down      = "down"
	PageUp    = "page up"
	PageDown  = "page down"
	Home      = "home"
	End       = "end"
	Enter     = "enter"
	Escape    = "escape"
	Backspace = "backspace"
	Interrupt = "ctrl-c"

	suspendKey = "ctrl-z"
	redrawKey  = "ctrl-l"
	ignoredKey = ""
)

// escapeTime is how long the rest of a sequence may take after its escape character, in milliseconds. An
// escape character alone is the key Escape.
const escapeTime = 50

// readKeys sends what is typed as Inputs, until Close or until the terminal is gone.
func (t *Terminal) readKeys() {
	defer t.send(Input{End: true})
	var typed []byte
	buffer := make([]byte, 256)
	for {
		timeout := -1
		if len(typed) > 0 {
			timeout = escapeTime
		}
		n, err := t.read(buffer, timeout)
		if err != nil {
			return
		}
		typed = append(typed, buffer[:n]...)
		for len(typed) > 0 {
			key, size := parseKey(typed, n == 0)
			if size == 0 {
				break
			}
			typed = typed[size:]
			switch key {
			case ignoredKey:
			case suspendKey:
				notice(t.stop)
			case redrawKey:
				t.Redraw()
			default:
				t.send(Input{Key: key})
			}
		}
	}
}

var errClosed = errors.New("closed")

// read reads what is typed. It returns 0 when nothing was typed for the timeout, in milliseconds; -1 is
// none.
func (t *Terminal) read(buffer []byte, timeout int) (int, error) {
	in := int(t.in.Fd())
	for {
		ready := []unix.PollFd{{Fd: int32(in), Events: unix.POLLIN}, {Fd: int32(t.wake[0]), Events: unix.POLLIN}}
		n, err := unix.Poll(ready, timeout)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return 0, err
		case ready[1].Revents != 0:
			return 0, errClosed
		case n == 0:
			return 0, nil
		}
		switch n, err = unix.Read(in, buffer); {
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN):
		case err != nil:
			return 0, err
		case n == 0:
			return 0, errors.New("the terminal is gone")
		default:
			return n, nil
		}
	}
}

// sequences are those that xterm and its descendants send, after the escape character.
var sequences = map[string]string{
	"[A": Up, "[B": Down, "OA": Up, "OB": Down, "[H": Home, "[F": End, "OH": Home, "OF": End,
	"[1~": Home, "[7~": Home, "[4~": End, "[8~": End, "[5~": PageUp, "[6~": PageDown,
}

// parseKey returns the first key of what was typed, and how many bytes it has. It has 0 if its rest is
// missing; at the end of the input there is no rest.
func parseKey(typed []byte, atEnd bool) (key string, size int) {
	switch c := typed[0]; {
	case c == 0x1b:
		return parseEscape(typed, atEnd)
	case c == '\r' || c == '\n':
		return Enter, 1
	case c == 0x7f || c == '\b':
		return Backspace, 1
	case c == 3:
		return Interrupt, 1
	case c == 26:
		return suspendKey, 1
	case c == 12:
		return redrawKey, 1
	case c < ' ':
		return ignoredKey, 1
	}
	if !utf8.FullRune(typed) && !atEnd {
		return "", 0
	}
	r, size := utf8.DecodeRune(typed)
	if r == utf8.RuneError || !unicode.IsPrint(r) {
		return ignoredKey, size
	}
	return string(r), size
}

// parseEscape is parseKey for what starts with an escape character: that alone, or a sequence of ECMA-48.
func parseEscape(typed []byte, atEnd bool) (key string, size int) {
	if len(typed) == 1 {
		if atEnd {
			return Escape, 1
		}
		return "", 0
	}
	if typed[1] != '[' && typed[1] != 'O' { // the key Escape, and then another one
		return Escape, 1
	}
	for i := 2; i < len(typed); i++ {
		if c := typed[i]; c >= 0x40 && c <= 0x7e { // the final byte
			return sequences[string(typed[1:i+1])], i + 1
		}
	}
	if atEnd {
		return ignoredKey, len(typed)
	}
	return "", 0
}
