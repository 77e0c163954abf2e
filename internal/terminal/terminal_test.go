package terminal

import (
	"os"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestKeysOfATerminal(t *testing.T) {
	for typed, want := range map[string][]string{
		"q":                               {"q"},
		"jk":                              {"j", "k"},
		"äあ":                              {"ä", "あ"},
		"\r\x7f\b\x03":                    {Enter, Backspace, Backspace, Interrupt},
		"\x1b[A\x1bOB\x1b[5~\x1b[6~":      {Up, Down, PageUp, PageDown},
		"\x1b[H\x1b[4~\x1b[1~\x1bOF":      {Home, End, Home, End},
		"\x1b":                            {Escape},
		"\x1bq":                           {Escape, "q"},
		"\x1b[1;5Cx":                      {"", "x"}, // Ctrl and right
		"\x1b[":                           {""},
		"\x1a\x0c":                        {suspendKey, redrawKey},
		"\x00\x1f\xff\xc3":                {"", "", "", ""},
		"\u202e\u00a0":                    {"", ""}, // nothing that changes what is shown
		"\x1b[200~x\x1b[201~":             {"", "x", ""},
		"\x1b[" + strings.Repeat("1", 99): {""},
	} {
		var got []string
		for rest := []byte(typed); len(rest) > 0; {
			key, size := parseKey(rest, true)
			got, rest = append(got, key), rest[size:]
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", typed, got, want)
		}
	}
}

// A sequence is one key, wherever a read ends in it.
func TestKeyInParts(t *testing.T) {
	for _, typed := range []string{"\x1b[A", "\x1b[15~", "\x1bOA", "あ"} {
		for n := 1; n < len(typed); n++ {
			if key, size := parseKey([]byte(typed[:n]), false); size != 0 {
				t.Errorf("%q: %q of %d bytes, want more to be read", typed[:n], key, size)
			}
		}
		if _, size := parseKey([]byte(typed), false); size != len(typed) {
			t.Errorf("%q: %d bytes", typed, size)
		}
	}
}

func FuzzKeys(f *testing.F) {
	for _, typed := range []string{"q", "\x1b[1;5C", "\x1b", "ä\xff", "\x1bO"} {
		f.Add([]byte(typed))
	}
	f.Fuzz(func(t *testing.T, typed []byte) {
		for len(typed) > 0 {
			if _, size := parseKey(typed, false); size < 0 || size > len(typed) {
				t.Fatalf("%q has %d bytes", typed, size)
			}
			key, size := parseKey(typed, true)
			if size < 1 || size > len(typed) || !utf8.ValidString(key) || strings.ContainsAny(key, "\x1b\n") {
				t.Fatalf("%q: %q of %d bytes", typed, key, size)
			}
			typed = typed[size:]
		}
	})
}

func TestOnlyLinesThatDifferAreWritten(t *testing.T) {
	for _, c := range []struct{ shown, lines, want string }{
		{"a\nb\nc", "a\nx\nc", "\x1b[2;1H\x1b[0m\x1b[Kx"},
		{"a\nb", "a\nb", ""},
		{"a\nb", "a", "\x1b[2;1H\x1b[0m\x1b[K"},
		{"a", "a\nb", "\x1b[2;1H\x1b[0m\x1b[Kb"},
	} {
		if got := difference(strings.Split(c.shown, "\n"), strings.Split(c.lines, "\n")); got != c.want {
			t.Errorf("%q to %q: %q, want %q", c.shown, c.lines, got, c.want)
		}
	}
	if got := difference(nil, []string{"a"}); got != "\x1b[0m\x1b[2J\x1b[1;1H\x1b[0m\x1b[Ka" {
		t.Errorf("the first screen: %q", got)
	}
}

func TestWithoutATerminalNothingIsOpened(t *testing.T) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	if _, err := Open(null, null); err == nil || err.Error() != "stdin is not a terminal" {
		t.Error(err)
	}
}
