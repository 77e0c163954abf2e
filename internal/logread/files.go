package logread

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"gophd/internal/logging"
)

const (
	maxLine = 1 << 20                // bytes of a line that are read; gophd writes no longer one
	pollsIn = 100 * time.Millisecond // from one look at a file that is followed to the next

	// olderBytes is how many bytes of lines that are older than wanted end a search for the first one: one line
	// is not enough, because the clock may have been set back.
	olderBytes = 256 << 10
)

// reader reads the files of a log.
type reader struct {
	Source
	Query
	ctx   context.Context
	yield func(Line) bool
	now   func() time.Time

	files  []logging.LogFile
	active *os.File // the last of them, open; nil if there is none
	size   int64    // of active when it was opened
	offset int64    // of the next byte of active
	rest   []byte   // the start of a line of active
	last   time.Time
}

func (r *reader) close() {
	if r.active != nil {
		_ = r.active.Close()
	}
}

// read yields the lines of all files.
func (r *reader) read(follow bool) error {
	if err := r.open(); err != nil {
		return err
	}
	if len(r.files) == 0 && !follow {
		return &fs.PathError{Op: "read", Path: logging.FileAt(r.File, r.now()), Err: ErrNone}
	}
	first, at, err := r.start()
	if err != nil {
		return err
	}
	for i := first; i < len(r.files); i++ {
		if err := r.readFile(i, at, !follow); err != nil {
			return err
		}
		at = 0
	}
	if !follow {
		return r.line(r.rest)
	}
	return r.follow()
}

// open lists the files, and opens the last one. It repeats that if the file was rotated meanwhile.
func (r *reader) open() error {
	for r.ctx.Err() == nil {
		files, err := logging.Files(r.File, r.now())
		if len(files) == 0 {
			return err
		}
		last := files[len(files)-1]
		f, err := openRead(last.Path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		info, err := f.Stat()
		if err != nil || !os.SameFile(info, last.Info) {
			f.Close()
			if err != nil {
				return err
			}
			continue
		}
		if last.Compressed { // the log has a file for each time, and none for now
			f.Close()
			f = nil
		}
		r.files, r.active, r.size, r.offset, r.rest = files, f, info.Size(), 0, nil
		return nil
	}
	return r.ctx.Err()
}

// openRead opens a regular file. It does not wait for the writer of a FIFO.
func openRead(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		f.Close()
		return nil, errors.Join(err, &fs.PathError{Op: "read", Path: path, Err: errors.New("not a regular file")})
	}
	return f, nil
}

// start returns the first file and the offset in it from which lines are read, as the Query wants: it
// searches from the end.
func (r *reader) start() (file int, at int64, err error) {
	from, want := r.from(), r.Last
	if want == 0 && from.IsZero() {
		return 0, 0, nil
	}
	var searched int64
	for i := len(r.files) - 1; i >= 0; i-- {
		f := r.files[i]
		// The kernel's time of a write is that of its last tick, and a line gets its time before it is written.
		if f.Info.ModTime().Add(slack).Before(from) && i < len(r.files)-1 {
			return i + 1, 0, nil
		}
		var stopped bool
		if f.Compressed && r.MaxScan > 0 {
			return i + 1, 0, nil
		}
		if f.Compressed {
			at, stopped, err = r.startCompressed(i, &want)
		} else {
			at, stopped, err = r.startPlain(i, from, &want, &searched)
		}
		if err != nil || stopped {
			return i, at, err
		}
	}
	return 0, 0, nil
}

// startPlain searches one file. want is reduced by the lines that were found.
func (r *reader) startPlain(i int, from time.Time, want *int, searched *int64) (at int64, stopped bool, err error) {
	f, err := r.openFile(i)
	if err != nil || f == nil {
		return 0, false, err
	}
	if f != r.active {
		defer f.Close()
	}
	end := r.size
	if f != r.active {
		if end, err = f.Seek(0, io.SeekEnd); err != nil {
			return 0, false, err
		}
	}
	at = end
	older := 0 // bytes of lines in a row
	err = backward(f, end, func(start int64, text []byte) bool {
		if r.ctx.Err() != nil {
			stopped = true
			return false
		}
		*searched += int64(len(text)) + 1
		if r.MaxScan > 0 && *searched > r.MaxScan {
			stopped = true
			return false
		}
		l, mine := r.parse(text)
		switch {
		case l.Time.IsZero() || !l.Time.Before(from):
			older = 0
			at = start
		default:
			older += len(text) + 1
			stopped = older > olderBytes
		}
		if mine && r.selects(l) && *want > 0 {
			*want--
			stopped = *want == 0
		}
		return !stopped
	})
	return at, stopped, errors.Join(err, r.ctx.Err())
}

// startCompressed is startPlain for a compressed file, which can only be read forward.
func (r *reader) startCompressed(i int, want *int) (at int64, stopped bool, err error) {
	if *want == 0 { // all lines since some time
		return 0, false, nil
	}
	var offsets []int64 // of the last lines
	err = r.eachLine(i, 0, func(start int64, text []byte) error {
		if l, mine := r.parse(text); mine && r.selects(l) {
			if len(offsets) == *want {
				offsets = offsets[1:]
			}
			offsets = append(offsets, start)
		}
		return r.ctx.Err()
	})
	if err != nil || len(offsets) == 0 {
		return 0, false, err
	}
	*want -= len(offsets)
	return offsets[0], *want == 0, nil
}

// openFile opens a file of the list: active, or one that the caller closes. It is nil if it does not exist
// any more. One that was compressed meanwhile is opened by its new name.
func (r *reader) openFile(i int) (*os.File, error) {
	if i == len(r.files)-1 && r.active != nil {
		return r.active, nil
	}
	f, err := openRead(r.files[i].Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return f, err
}

// readFile yields the lines of a file from an offset on; with opened, those of active when it was opened: the
// last ones were counted up to there.
func (r *reader) readFile(i int, at int64, opened bool) error {
	if i == len(r.files)-1 && r.active != nil {
		r.offset = at
		if opened {
			return r.more(io.NewSectionReader(r.active, 0, r.size))
		}
		return r.more(r.active)
	}
	return r.eachLine(i, at, func(_ int64, text []byte) error { return r.line(text) })
}

// eachLine calls f with the lines of an archive and their offsets, in the uncompressed content.
func (r *reader) eachLine(i int, at int64, f func(start int64, text []byte) error) error {
	file, err := r.openFile(i)
	compressed := r.files[i].Compressed
	if file == nil && err == nil && !compressed { // perhaps it was compressed meanwhile
		compressed = true
		if file, err = openRead(r.files[i].Path + ".gz"); errors.Is(err, fs.ErrNotExist) {
			return nil // removed: log.keep
		}
	}
	if err != nil || file == nil {
		return err
	}
	defer file.Close()
	var in io.Reader = file
	if compressed {
		z, err := gzip.NewReader(file)
		if err != nil {
			return &fs.PathError{Op: "read", Path: file.Name(), Err: err}
		}
		in = z
	}
	if at > 0 {
		if _, err := io.CopyN(io.Discard, in, at); err != nil {
			return &fs.PathError{Op: "read", Path: file.Name(), Err: err}
		}
	}
	lines := bufio.NewReaderSize(in, 64<<10)
	for {
		text, size, err := readLine(lines)
		if size > 0 {
			if err := f(at, text); err != nil {
				return err
			}
		}
		at += size
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return &fs.PathError{Op: "read", Path: file.Name(), Err: err}
		}
	}
}

// readLine reads a line, of which it returns at most maxLine bytes, without its end. size includes that.
func readLine(in *bufio.Reader) (text []byte, size int64, err error) {
	for {
		piece, err := in.ReadSlice('\n')
		size += int64(len(piece))
		if room := maxLine - len(text); room > 0 {
			text = append(text, piece[:min(len(piece), room)]...)
		}
		if err != bufio.ErrBufferFull {
			return bytes.TrimSuffix(text, []byte{'\n'}), size, err
		}
	}
}

// line yields a line if it is selected.
func (r *reader) line(text []byte) error {
	if err := r.ctx.Err(); err != nil {
		return err
	}
	if len(text) == 0 {
		return nil
	}
	l, mine := r.parse(text)
	at := l
	if l.Time.IsZero() { // it belongs to the line before it
		at.Time = r.last
	} else if mine {
		r.last = l.Time
	}
	if mine && r.selects(at) && !r.yield(l) {
		return errEnough
	}
	return nil
}

// more yields the lines that active, or a part of it, has more.
func (r *reader) more(active io.ReaderAt) error {
	buf := make([]byte, 64<<10)
	for {
		n, err := active.ReadAt(buf, r.offset)
		r.offset += int64(n)
		text := buf[:n]
		for {
			end := bytes.IndexByte(text, '\n')
			if end < 0 {
				break
			}
			whole := text[:end]
			if len(r.rest) > 0 {
				r.rest = append(r.rest, whole...)
				whole = r.rest
			}
			if err := r.line(whole); err != nil {
				return err
			}
			r.rest, text = r.rest[:0], text[end+1:]
		}
		if room := maxLine - len(r.rest); room > 0 {
			r.rest = append(r.rest, text[:min(len(text), room)]...)
		}
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
	}
}

// follow yields the lines to come.
func (r *reader) follow() error {
	poll := time.NewTicker(pollsIn)
	defer poll.Stop()
	for {
		select {
		case <-poll.C:
		case <-r.Until:
			if err := r.step(); err != nil {
				return err
			}
			return r.line(r.rest)
		case <-r.ctx.Done():
			return r.ctx.Err()
		}
		if err := r.step(); err != nil {
			return err
		}
	}
}

// step yields what is new. If the file was rotated, or another one is in use, it goes on with those after it.
func (r *reader) step() error {
	moved := true
	if r.active != nil {
		if now, err := os.Stat(logging.FileAt(r.File, r.now())); err == nil {
			info, err := r.active.Stat()
			if err != nil {
				return err
			}
			if size := info.Size(); size < r.offset {
				r.truncated(size)
			}
			moved = !os.SameFile(now, info)
			if !moved && info.Size() == r.offset {
				return nil
			}
		}
		if err := r.more(r.active); err != nil || !moved { // also what was written before it was moved
			return err
		}
	}
	before, active, rest, offset := r.files, r.active, r.rest, r.offset
	r.files, r.active = nil, nil
	if err := r.open(); err != nil || len(r.files) == 0 {
		r.files, r.active, r.rest, r.offset = before, active, rest, offset
		if errors.Is(err, fs.ErrPermission) {
			return err
		}
		return nil // the directory may be missing for some time
	}
	first, same := r.after(before, active)
	if same { // nothing came after it
		if r.active != nil {
			r.active.Close()
		}
		r.active, r.rest, r.offset = active, rest, offset
		return nil
	}
	if active != nil {
		active.Close()
		if err := r.line(rest); err != nil {
			return err
		}
	}
	for i := first; i < len(r.files); i++ {
		if err := r.readFile(i, 0, false); err != nil {
			return err
		}
	}
	return nil
}

// truncated goes on with a file that has become shorter: by a line that was not complete, or as a whole, by
// another program.
func (r *reader) truncated(size int64) {
	if size < r.offset-int64(len(r.rest)) {
		r.offset = 0
	} else {
		r.offset -= int64(len(r.rest))
	}
	r.rest = r.rest[:0]
}

// after returns the index of the first file after the one that was read until now, which was active. same is
// true if that is still the last one.
func (r *reader) after(before []logging.LogFile, active *os.File) (first int, same bool) {
	known := map[string]bool{}
	for _, f := range before {
		known[uncompressed(f)] = true
	}
	first = slices.IndexFunc(r.files, func(f logging.LogFile) bool { return !known[uncompressed(f)] })
	if active == nil {
		return first, first < 0
	}
	info, err := active.Stat()
	if err != nil {
		return len(r.files), false
	}
	if i := slices.IndexFunc(r.files, func(f logging.LogFile) bool { return os.SameFile(f.Info, info) }); i >= 0 {
		return i + 1, i == len(r.files)-1
	}
	// It was compressed, or removed. Its archive is the first one that is new, unless the name has a time.
	i := slices.IndexFunc(r.files, func(f logging.LogFile) bool { return f.Compressed && uncompressed(f) == active.Name() })
	switch {
	case i >= 0:
		return i + 1, false
	case first < 0:
		return len(r.files) - 1, false // another file has its name
	case r.files[first].Rotated.IsZero():
		return first, false
	}
	return first + 1, false
}

// uncompressed returns the path of a file before it was compressed.
func uncompressed(f logging.LogFile) string { return strings.TrimSuffix(f.Path, ".gz") }

// backward calls visit with each line of the first size bytes, the last one first, and its offset, until it
// returns false. Of a line that is too long it passes the start.
func backward(f io.ReaderAt, size int64, visit func(start int64, text []byte) bool) error {
	const chunk = 64 << 10
	var tail []byte // of the line whose start was not read yet
	for at := size; at > 0; {
		n := min(chunk, at)
		block := make([]byte, n, n+int64(len(tail)))
		if _, err := f.ReadAt(block, at-n); err != nil {
			return err
		}
		at -= n
		if len(tail)+len(block) > maxLine {
			tail = nil
		}
		block = append(block, tail...)
		for {
			i := bytes.LastIndexByte(block[:max(len(block)-1, 0)], '\n')
			if i < 0 {
				break
			}
			if !visit(at+int64(i)+1, bytes.TrimSuffix(block[i+1:], []byte{'\n'})) {
				return nil
			}
			block = block[:i+1]
		}
		tail = block
	}
	if len(tail) > 0 {
		visit(0, bytes.TrimSuffix(tail, []byte{'\n'}))
	}
	return nil
}
