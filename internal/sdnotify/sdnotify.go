// Package sdnotify answers: what does the command tell us about itself?
//
// A Socket is where a command sends messages in the protocol of sd_notify(3), by which programs speak to
// systemd: datagrams of lines NAME=VALUE. It reads them, with who sent them as the kernel knows it, and
// reports each. Message.Whose says which run sent it. What comes of a message is not decided here, and
// nothing here speaks to a service manager above gophd.
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
	maxMessage = 4096 // bytes; systemd takes no more either

	// maxExtend is the most that can be asked for. USEC_INFINITY, which is 2^64-1, is that much.
	maxExtend = 100 * 365 * 24 * time.Hour

	runID = "GOPHD_RUN_ID" // in the environment of every run
)

// Message is one datagram. What it did not tell is the zero value.
type Message struct {
	// The sender, as the kernel says. It may have ended meanwhile; PID 0 is one that this PID namespace does not see.
	PID, UID int

	RunID         string        // GOPHD_RUN_ID: of the run that it speaks for
	ExtendTimeout time.Duration // EXTEND_TIMEOUT_USEC: the time it wants from now on
	Status        *string       // STATUS: a line for people; an empty one takes the last one back
	Ready         bool          // READY=1
	Stopping      bool          // STOPPING=1
	Watchdog      bool          // WATCHDOG=1
}

// Parse reads the text of a message. Names that are not known are left out, as sd_notify(3) wants it; a line
// that is no NAME=VALUE, or a number that is none, spoils the whole message. The last of two equal names
// counts. A status is made fit to be shown: what cannot be printed becomes a blank, and what is no UTF-8 U+FFFD.
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
			m.Status = new(shown(value))
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

// shown is a status that changes nothing but its own line, on a terminal and in a log.
func shown(s string) string {
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
	Leader int    // PID of its command, which is that of its process group too; 0 is not known yet
}

// Whose finds the run that sent the message, or -1: the command itself, a member of its process group, or a process
// that has the run's GOPHD_RUN_ID in its environment. Of senders with one of the uids two more count: one
// that writes the GOPHD_RUN_ID into its message, and, while exactly one run goes on, one that cannot be looked
// at, as systemd-notify(1) often cannot: it is exiting or gone by then, or it was the command itself and, as root,
// sends in the name of its parent, which is this process.
func (m Message) Whose(runs []Run, uids ...int) int {
	sender, _ := procfs.ReadStat(m.PID) // zero is one that is gone
	if i := slices.IndexFunc(runs, func(r Run) bool { return r.Leader != 0 && (r.Leader == m.PID || r.Leader == sender.Group) }); i >= 0 {
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

// hasMemory returns false for a process that is exiting, a zombie, or gone.
func hasMemory(pid int) bool {
	s, err := procfs.ReadStat(pid)
	return err == nil && s.Memory != 0
}
