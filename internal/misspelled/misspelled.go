// Package misspelled answers: which of the known words did the user mean?
package misspelled

import (
	"strings"
	"unicode"
)

// Nearest returns the candidate of which text is most likely a misspelling, or "". Candidates
// are in lower case, text may be in any. A short candidate may differ less: a user's own [db] is not
// a misspelled [job].
func Nearest(text string, candidates []string) string {
	best, least := "", 3
	for _, c := range candidates {
		allowed := 2
		if len(c) <= 4 {
			allowed = 1
			if text == "" || c == "" || unicode.ToLower(rune(text[0])) != rune(c[0]) {
				continue
			}
		}
		if d := distance(strings.ToLower(text), c); d <= allowed && d < least {
			best, least = c, d
		}
	}
	return best
}

// distance counts the letters to insert, delete, replace or swap with their neighbor to turn a into
// b (optimal string alignment). It returns 3 at once if the lengths differ by more than 2.
func distance(a, b string) int {
	if n := len(a) - len(b); n > 2 || n < -2 {
		return 3
	}
	var before []int
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		next := make([]int, len(b)+1)
		next[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			next[j+1] = min(row[j]+cost, row[j+1]+1, next[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				next[j+1] = min(next[j+1], before[j-1]+1)
			}
		}
		before, row = row, next
	}
	return row[len(b)]
}
