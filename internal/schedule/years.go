package schedule

import "math/bits"

// year is the last field with Options.Year.
var year = &field{name: "year", min: 1970, max: 2099, drawMax: 2099}

// years has a bit for each year from 1970 on. The zero value is every year, those after 2099 too.
type years [3]uint64

func (y *years) add(n int) { y[(n-year.min)/64] |= 1 << ((n - year.min) % 64) }

// from returns the first year that is not before n; ok is false if there is none.
func (y *years) from(n int) (first int, ok bool) {
	if *y == (years{}) {
		return n, true
	}
	for n = max(n, year.min); n <= year.max; {
		at := n - year.min
		if rest := y[at/64] >> (at % 64); rest != 0 {
			return n + bits.TrailingZeros64(rest), true
		}
		n += 64 - at%64
	}
	return 0, false
}

// parseYears reads the field of the year. A plain * is every year.
func parseYears(w word, d drawer) (years, error) {
	if w.text == "*" {
		return years{}, nil
	}
	p := parser{field: year, rest: w.text, column: w.column, draw: d}
	err := p.list(w, &set{})
	return p.years, err
}
