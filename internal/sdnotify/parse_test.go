package sdnotify

import (
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	for _, c := range []struct {
		text string
		want Message
		err  string
	}{
		{"", Message{}, ""},
		{"\n\n", Message{}, ""},
		{"READY=1\n", Message{Ready: true}, ""},
		{"READY=0\nSTOPPING=yes\nWATCHDOG=", Message{}, ""},
		{"STOPPING=1\nWATCHDOG=1", Message{Stopping: true, Watchdog: true}, ""},
		{"EXTEND_TIMEOUT_USEC=1500000", Message{ExtendTimeout: 1500 * time.Millisecond}, ""},
		{"EXTEND_TIMEOUT_USEC=1\nEXTEND_TIMEOUT_USEC=2", Message{ExtendTimeout: 2 * time.Microsecond}, ""},
		{"EXTEND_TIMEOUT_USEC=18446744073709551615", Message{ExtendTimeout: maxExtend}, ""},
		{"STATUS=", Message{Status: new("")}, ""},
		{"STATUS=3 of 10 = 30 %", Message{Status: new("3 of 10 = 30 %")}, ""},
		{"STATUS=a\x1b[2Jb\r\tc\xff\u2028d\x00", Message{Status: new("a [2Jb  c\uFFFD d ")}, ""},
		{"MAINPID=7\nX_OURS=1\nERRNO=2\nGOPHD_RUN_ID=1:2.3.4.5", Message{RunID: "1:2.3.4.5"}, ""},
		{"READY", Message{}, "line 1 is not like NAME=VALUE"},
		{"READY=1\n=1", Message{}, "line 2 is not like NAME=VALUE"},
		{"READY=1\nA B=1", Message{}, "line 2 is not like NAME=VALUE"},
		{"EXTEND_TIMEOUT_USEC=", Message{}, "is not a number of microseconds"},
		{"EXTEND_TIMEOUT_USEC=-1", Message{}, "is not a number of microseconds"},
		{"EXTEND_TIMEOUT_USEC=1s", Message{}, "is not a number of microseconds"},
		{"EXTEND_TIMEOUT_USEC=18446744073709551616", Message{}, "is not a number of microseconds"},
		{"STATUS=kept\nEXTEND_TIMEOUT_USEC=0x10", Message{}, "is not a number of microseconds"},
	} {
		got, err := Parse([]byte(c.text))
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("%q (-want +got):\n%s", c.text, d)
		}
		if c.err == "" && err != nil || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
			t.Errorf("%q: error %v, want %q", c.text, err, c.err)
		}
	}
}

// FuzzParse checks that a parsed message can be shown and calculated with, and is the same when it
// is written and parsed again. Any other text is an error of one line and an empty Message.
func FuzzParse(f *testing.F) {
	f.Add([]byte("READY=1\nSTATUS=well\nEXTEND_TIMEOUT_USEC=10\nGOPHD_RUN_ID=x\nX=\n"))
	f.Add([]byte("STATUS=\xff\x1b\x00\n\nWATCHDOG=1\nSTOPPING=1"))
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := Parse(text)
		if err != nil {
			if m != (Message{}) || strings.ContainsAny(err.Error(), "\n\x1b") {
				t.Errorf("%+v with error %q", m, err)
			}
			return
		}
		if m.ExtendTimeout < 0 || m.ExtendTimeout > maxExtend {
			t.Errorf("an extension of %s", m.ExtendTimeout)
		}
		again := fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d\nGOPHD_RUN_ID=%s", m.ExtendTimeout.Microseconds(), m.RunID)
		if s := m.Status; s != nil {
			if !utf8.ValidString(*s) || strings.ContainsFunc(*s, unicode.IsControl) {
				t.Errorf("the status %q is not printable", *s)
			}
			again += "\nSTATUS=" + *s
		}
		for name, set := range map[string]bool{"READY": m.Ready, "STOPPING": m.Stopping, "WATCHDOG": m.Watchdog} {
			if set {
				again += "\n" + name + "=1"
			}
		}
		same, err := Parse([]byte(again))
		if d := cmp.Diff(m, same); d != "" || err != nil {
			t.Errorf("%q becomes %q: %v\n%s", text, again, err, d)
		}
	})
}
