// Package sdnotify answers: what does the command report about itself?
//
// A command sends messages to a Socket in the protocol of sd_notify(3), as to systemd: datagrams of
// lines NAME=VALUE. The Socket reads each message and its sender's credentials from the kernel, and
// reports it. Message.Run finds the run that sent it. This package does not decide what a message
// causes, and sends nothing to a service manager above gophd.
package sdnotify

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"gophd/internal/procfs"
)

const (
	maxMessage = 4096 // bytes, as in systemd

	// maxExtend is the longest extension. A longer request, as USEC_INFINITY (2^64-1), means
	// maxExtend.
	maxExtend = 100 * 365 * 24 * time.Hour

	runID = "GOPHD_RUN_ID" // in the environment of every run
)

// Message is one datagram. A variable that it does not contain has the zero value.
type Message struct {
	// The sender, from the kernel. It may have exited meanwhile. PID 0 is a process that is not
	// visible in this PID namespace.
	PID, UID int

	RunID         string        // GOPHD_RUN_ID: the run that it is about
	ExtendTimeout time.Duration // EXTEND_TIMEOUT_USEC: the time that it requests, from now on
	Status        *string       // STATUS: a line for people; an empty one clears the last one
	Ready         bool          // READY=1
	Stopping      bool          // STOPPING=1
	Watchdog      bool          // WATCHDOG=1
}

// Parse reads the text of a message. It ignores unknown names, as sd_notify(3) requires. A line
// that is not NAME=VALUE, or an invalid number, makes the whole message invalid. Of two equal names
// the last counts. In a status, characters that cannot be printed become blanks, and invalid UTF-8
// U+FFFD.
func Parse(text []byte) (Message, error) {
	var m Message
	number := 0
	for line := range bytes.Lines(text) {
		number++
		line = bytes.TrimSuffix(line, []byte("\n"))
		if len(line) == 0 {
			continue
		}
		name, value, ok := strings.Cut(string(line), "=")
		if !ok || !isName(name) {
			return Message{}, fmt.Errorf("its line %d is not like NAME=VALUE", number)
		}
		switch name {
		case runID:
			m.RunID = value
		case "EXTEND_TIMEOUT_USEC":
			usec, err := strconv.ParseUint(value, 10, 64)
			if err != nil {
				return Message{}, fmt.Errorf("its %s=%.20q is not a number of microseconds", name, value)
			}
			m.ExtendTimeout = time.Duration(min(usec, uint64(maxExtend/time.Microsecond))) * time.Microsecond
		case "STATUS":
			m.Status = new(printable(value))
		case "READY":
			m.Ready = value == "1"
		case "STOPPING":
			m.Stopping = value == "1"
		case "WATCHDOG":
			m.Watchdog = value == "1"
		}
	}
	return m, nil
}

func isName(s string) bool {
	return s != "" && strings.IndexFunc(s, func(c rune) bool {
		return c != '_' && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && (c < '0' || c > '9')
	}) < 0
}

// printable returns a status that cannot change anything but its own line, on a terminal and in a
// log.
func printable(s string) string {
	return strings.Map(func(c rune) rune {
		if strconv.IsPrint(c) {
			return c
		}
		return ' '
	}, strings.ToValidUTF8(s, "\uFFFD"))
}

// Run is a run that may have sent a message.
type Run struct {
	ID     string // its GOPHD_RUN_ID
	Leader int    // PID of its command, which is also the ID of its process group; 0 if not known yet
}

// Run returns the index of the run that sent the message, or -1. A message belongs to a run if its
// sender is the command itself, a member of its process group, or a process with the run's
// GOPHD_RUN_ID in its environment. If the sender has one of the uids, two more cases count:
//   - The message contains the run's GOPHD_RUN_ID.
//   - Exactly one run is active, and the sender cannot be inspected. This is common with
//     systemd-notify(1): it is exiting or has exited by then, or it is the command itself and, as
//     root, sends in the name of its parent, which is this process.
func (m Message) Run(runs []Run, uids ...int) int {
	sender, _ := procfs.ReadStat(m.PID) // zero if it has exited
	i := slices.IndexFunc(runs, func(r Run) bool {
		return r.Leader != 0 && (r.Leader == m.PID || r.Leader == sender.Group)
	})
	if i >= 0 {
		return i
	}
	id := ""
	if env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", m.PID)); err == nil && m.PID != os.Getpid() {
		for kv := range bytes.SplitSeq(env, []byte{0}) {
			if v, ok := bytes.CutPrefix(kv, []byte(runID+"=")); ok {
				id = string(v)
			}
		}
	}
	known := slices.Contains(uids, m.UID)
	if known && m.RunID != "" {
		id = m.RunID
	}
	switch {
	case id != "":
		return slices.IndexFunc(runs, func(r Run) bool { return r.ID == id })
	case known && len(runs) == 1 && (m.PID == os.Getpid() || !hasMemory(m.PID)):
		return 0
	}
	return -1
}

// hasMemory returns false for a process that is exiting, is a zombie, or has exited.
func hasMemory(pid int) bool {
	s, err := procfs.ReadStat(pid)
	return err == nil && s.Memory != 0
}
