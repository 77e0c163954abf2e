package restart

import (
	"bytes"
	"slices"
	"testing"

	"gophd/internal/request"
)

// FuzzDecode checks that decode rejects garbage without a panic, that accepted data is valid, and
// that it can be handed off unchanged: written and read again it is the same to the byte.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{
		``, `{}`, `{"Version":10}`, `{"Version":10,"Version":0}`, `{"version":3,"PID":1e3}`, `{"Version":10}x`,
		`{"Version":10,"Requests":[{"Verb":1,"From":"\ud800"}],` +
			`"Born":"2026-01-02T03:04:05.000000006+14:00","Sizes":[1,0,2]}` + "\nabc",
		`{"Version":10,"Sizes":[1,0,2]}` + "\nab", `{"Version":10,"Sizes":[1,-1,2]}` + "\nabc",
		`{"Version":10,"State":18446744073709551615,"Descriptors":{"a":3,"b":4}}`,
		`{"Version":10,"Guard":{"Recoveries":[1,null]},"Handoff":{"Instance":"x"},"Files":{"a":1}}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		w, err := decode(data)
		if err != nil {
			return
		}
		if w.Version != Version || w.Files != nil {
			t.Errorf("accepted version %d with files %v", w.Version, w.Files)
		}
		seen := map[int]bool{0: true, 1: true, 2: true}
		for name, fd := range w.Descriptors {
			if fd < 0 || seen[fd] {
				t.Errorf("accepted descriptor %d, %q", fd, name)
			}
			seen[fd] = true
		}
		for _, r := range w.Requests {
			if !slices.Contains(request.Verbs[:], r.Verb) {
				t.Errorf("accepted request %d", r.Verb)
			}
		}
		first, err := w.parts()
		if err != nil {
			t.Fatalf("a decoded handoff cannot be encoded: %v", err)
		}
		again, err := decode(slices.Concat(first...))
		if err != nil {
			t.Fatalf("an encoded handoff cannot be decoded: %v", err)
		}
		second, err := again.parts()
		if err != nil || !slices.EqualFunc(first, second, bytes.Equal) {
			t.Errorf("it changed when encoded again (%v):\n%s\n%s", err, first, second)
		}
	})
}
