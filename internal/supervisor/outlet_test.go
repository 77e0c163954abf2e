package supervisor

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"gophd/internal/job"
	"gophd/internal/process"
)

// ENXIO has several reasons, and each its fix: only a FIFO waits for its reader.
func TestOpenOutputNamesTheFix(t *testing.T) {
	dir := t.TempDir()
	fifo, socket := filepath.Join(dir, "fifo"), filepath.Join(dir, "socket")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for path, want := range map[string]string{
		fifo: "start its reader first", socket: "choose another --output",
		dir + "/none/x": "choose another --output", dir + "/" + strings.Repeat("x", 300): "shorten the path, or choose another --output",
	} {
		f, err := openOutput(path, nil, func(err error) { t.Error(err) })
		if err == nil {
			f.Close()
			t.Errorf("%s was opened", path)
		} else if !strings.HasSuffix(err.Error(), ": "+want) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
}

// gophd's own stdout and stderr are passed to the command as they are, whatever they are and however
// they are named.
func TestOutputsRecognizesOwnDescriptors(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(dir, "link")
	if err := os.Symlink("/dev/stderr", link); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]*os.File{
		"/dev/stdout": os.Stdout, "/dev/fd/1": os.Stdout, "/dev/stderr": os.Stderr, link: os.Stderr,
		"/dev/null": nil, filepath.Join(dir, "stdout"): nil,
	} {
		stdout, stderr, file := outputs(job.Spec{Output: job.Output(path)}, nil, nil)
		both := []process.Output{stdout, stderr}
		if want == nil {
			if file != path || stdout.File != nil || stderr.File != nil {
				t.Errorf("%s is %v, %q", path, both, file)
			}
		} else if file != "" || stdout.File != want || stderr.File != want {
			t.Errorf("%s is %v, %q; want %s", path, both, file, want.Name())
		}
	}
}
