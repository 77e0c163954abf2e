package status

import (
	"math"
	"sort"
	"time"
)

// buckets is the number of ranges into which run lengths are sorted. The first is below 1 ms, the
// last has no end and starts at 8.1 hours. Five ranges between them are two doublings.
const buckets = 64

// lengthsKept is how many runs a histogram has before it forgets half of them.
const lengthsKept = 10_000

// bounds are where the ranges start, from the second on.
var bounds = func() (all [buckets - 1]time.Duration) {
	for i := range all {
		all[i] = time.Duration(float64(time.Millisecond) * math.Exp2(float64(i)*2/5))
	}
	return all
}()

// Histogram is how long runs took: the last ones, between half of lengthsKept and lengthsKept, and
// all as long as they are fewer. It always has the same size.
type Histogram struct {
	Runs [buckets]uint16 `json:"runs"` // by range
	Sum  time.Duration   `json:"sum"`  // of their lengths
	Min  time.Duration   `json:"min"`  // of all runs, those that were forgotten too
	Max  time.Duration   `json:"max"`
}

// add adds a run.
func (h *Histogram) add(length time.Duration) {
	length = max(length, 0) // a step of the wall clock after a re-exec
	of := h.of()
	if of >= lengthsKept {
		for i := range h.Runs {
			h.Runs[i] /= 2
		}
		h.Sum = time.Duration(float64(h.Sum) * float64(h.of()) / float64(of))
	}
	if of == 0 {
		h.Min = length
	}
	h.Min, h.Max = min(h.Min, length), max(h.Max, length)
	h.Sum += length
	h.Runs[sort.Search(len(bounds), func(i int) bool { return bounds[i] > length })]++
}

// of returns the number of runs.
func (h *Histogram) of() (n int) {
	for _, runs := range h.Runs {
		n += int(runs)
	}
	return n
}

// summary calculates mean and percentiles. A percentile is the geometric middle of the range in which
// the run of that rank is, within the shortest and the longest run: it is wrong by 15 % at most, below
// 1 ms and above 8.1 hours by more.
func (h *Histogram) summary() Lengths {
	n := h.of()
	if n == 0 {
		return Lengths{}
	}
	rank := func(percent int) time.Duration {
		left := (n*percent + 99) / 100 // by the nearest rank
		i := 0
		for left > int(h.Runs[i]) {
			left -= int(h.Runs[i])
			i++
		}
		middle := h.Max
		if i < len(bounds) {
			middle = time.Duration(float64(bounds[i]) / math.Exp2(0.2))
		}
		return min(max(middle, h.Min), h.Max)
	}
	return Lengths{Of: n, Mean: h.Sum / time.Duration(n), P50: rank(50), P90: rank(90), P99: rank(99)}
}
