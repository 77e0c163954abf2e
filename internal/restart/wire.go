package restart

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"gophd/internal/request"
)

// wire is the handoff as it is written: the Handoff and the process that it is for, as one line of
// JSON. After it come Config, Previous and State as they are, since they may be large.
type wire struct {
	Version int
	PID     int    // execve keeps it; a process with another PID inherited the descriptor by accident
	BootID  string // of this boot of the kernel, for the instants; "" if the system has none
	Handoff
	Sizes       [3]int // of Config, Previous and State, in bytes
	Descriptors map[string]int
	Ignored     []syscall.Signal // ignored by Exec, and not at the start of the daemon
}

// readAll reads the regular file behind fd from its start. It rejects any other kind of file: a
// read could block, or take data from another reader.
func readAll(fd int) ([]byte, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, fmt.Errorf("the descriptor is not open: %v", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, errors.New("the descriptor is not that of a regular file")
	}
	head, err := readFirst(fd, min(int(st.Size), headSize))
	if err != nil {
		return nil, err
	}
	if limit := MaxSize(jobsIn(head)); st.Size > int64(limit) {
		return nil, fmt.Errorf("the file has %d bytes, more than %d", st.Size, limit)
	}
	return readFirst(fd, int(st.Size))
}

const (
	headSize = 256       // enough for what jobsIn reads
	maxJobs  = 1_000_000 // that jobsIn believes
)

// jobsIn returns the number of jobs of a handoff for this process; 0 for any other file, which may be
// of any size.
func jobsIn(head []byte) int {
	var version, pid, jobs int
	var boot string
	n, _ := fmt.Sscanf(string(head), `{"Version":%d,"PID":%d,"BootID":%q,"Jobs":%d,`, &version, &pid, &boot, &jobs)
	if n < 4 || pid != os.Getpid() || jobs < 0 {
		return 0
	}
	return min(jobs, maxJobs)
}

// readFirst reads that many bytes, or fewer at the end of the file.
func readFirst(fd, size int) ([]byte, error) {
	data := make([]byte, size)
	for have := 0; have < len(data); {
		n, err := unix.Pread(fd, data[have:], int64(have))
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return nil, err
		case n == 0:
			return data[:have], nil
		default:
			have += n
		}
	}
	return data, nil
}

// decode reads a handoff and checks all that can be checked without the kernel.
func decode(data []byte) (wire, error) {
	line, rest, _ := bytes.Cut(data, []byte("\n"))
	w, err := decodeHead(line)
	if err != nil {
		return wire{}, err
	}
	for i, part := range []*[]byte{&w.Config, &w.Previous, &w.State} {
		size := w.Sizes[i]
		if size < 0 || size > len(rest) {
			return wire{}, fmt.Errorf("it is incomplete: %d bytes of %d are left", len(rest), size)
		}
		*part, rest = rest[:size:size], rest[size:]
	}
	if len(rest) > 0 {
		return wire{}, fmt.Errorf("there are %d more bytes in it", len(rest))
	}
	return w, nil
}

// decodeHead reads the line of JSON.
func decodeHead(line []byte) (wire, error) {
	var w wire
	if err := json.Unmarshal(line, &w); err != nil {
		return wire{}, fmt.Errorf("it is incomplete: %v", err)
	}
	if w.Version != Version {
		return wire{}, fmt.Errorf("its version is %d, and this gophd reads %d", w.Version, Version)
	}
	if w.Restarts < 0 {
		return wire{}, fmt.Errorf("it counts %d restarts", w.Restarts)
	}
	for _, r := range w.Requests {
		if !slices.Contains(request.Verbs[:], r.Verb) {
			return wire{}, fmt.Errorf("it has the unknown request %d", r.Verb)
		}
	}
	for _, s := range w.Ignored {
		if s != syscall.SIGINT && s != syscall.SIGHUP {
			return wire{}, fmt.Errorf("it ignores signal %d; only INT and HUP may be ignored", int(s))
		}
	}
	seen := map[int]bool{}
	for name, fd := range w.Descriptors {
		if fd < 3 || seen[fd] {
			return wire{}, fmt.Errorf("descriptor %d, %.40q, is a standard one or named twice", fd, name)
		}
		seen[fd] = true
	}
	return w, nil
}

// parts returns what decode reads, in its sequence.
func (w *wire) parts() ([][]byte, error) {
	w.Sizes = [3]int{len(w.Config), len(w.Previous), len(w.State)}
	line, err := json.Marshal(w)
	return [][]byte{append(line, '\n'), w.Config, w.Previous, w.State}, err
}

// write writes the handoff to an anonymous file.
func (w *wire) write() (*os.File, error) {
	parts, err := w.parts()
	if err != nil {
		return nil, err
	}
	if _, err := decodeHead(parts[0]); err != nil {
		return nil, err // here gophd can still continue; the new process could not
	}
	size := 0
	for _, part := range parts {
		size += len(part)
	}
	if limit := MaxSize(w.Jobs); size > limit {
		return nil, fmt.Errorf("%d bytes are more than %d", size, limit)
	}
	f, err := anonymous()
	if err != nil {
		return nil, err
	}
	for _, part := range parts {
		if _, err := f.Write(part); err != nil {
			return nil, errors.Join(err, f.Close())
		}
	}
	return f, nil
}
