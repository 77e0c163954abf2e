package file

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gophd/internal/heartbeat"
	"gophd/internal/heartbeat/heartbeattest"
)

const key = "job_process_heartbeat"

// TestMain is also the other process of these tests: it does what the environment asks for and
// says so line by line on stdout.
func TestMain(m *testing.M) {
	path := os.Getenv("FILE_TEST_PATH")
	if path == "" {
		os.Exit(m.Run())
	}
	if err := instance(path, os.Getenv("FILE_TEST_ROLE")); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

func instance(path, role string) error {
	ctx := context()
	if role == "adopt" {
		s, err := Adopt(path, os.NewFile(9, path))
		if err != nil {
			return err
		}
		e, err := s.Get(ctx, key)
		if err != nil {
			return err
		}
		fmt.Printf("adopted %s\n", e.Value)
		_, err = io.Copy(io.Discard, os.Stdin)
		runtime.KeepAlive(s)
		return err
	}
	s, err := Open(path)
	if err != nil {
		return err
	}
	if err := s.Add(ctx, key, []byte(`{"pid":1}`), 0); err != nil {
		return err
	}
	if role == "job" { // a command that outlives its gophd; it speaks by the same pipe
		job := exec.Command("/bin/sh", "-c", "echo running; cat")
		job.Stdin, job.Stdout = os.Stdin, os.Stdout
		if err := job.Start(); err != nil {
			return err
		}
	}
	fmt.Println("held")
	in := bufio.NewReader(os.Stdin)
	if role == "exec" {
		if _, err := in.ReadString('\n'); err != nil {
			return err
		}
		if err := unix.Dup2(int(s.Descriptor().Fd()), 9); err != nil { // without close-on-exec
			return err
		}
		return unix.Exec("/proc/self/exe", os.Args, append(os.Environ(), "FILE_TEST_ROLE=adopt"))
	}
	select {}
}
