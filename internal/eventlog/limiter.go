package eventlog

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// A limiter lets a burst of each kind of event through, then one per period.
const (
	burst  = 10
	period = 10 * time.Second
)

// once lists the kinds with a burst of one. Such a kind is one outage, however often it is noticed.
var once = []string{"unreachable"}

// limiter limits events by kind and counts those that it suppresses.
type limiter struct {
	mu    sync.Mutex
	kinds map[string]*allowance
}

type allowance struct {
	left       float64 // grows by one each period
	at         time.Time
	suppressed int
}

// allow returns the number of events of the kind that were suppressed since the last allowed one.
// It returns false if this one must be suppressed.
func (l *limiter) allow(kind string, now time.Time) (suppressed int, ok bool) {
	limit := float64(burst)
	if slices.Contains(once, kind) {
		limit = 1
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.kinds[kind]
	if a == nil {
		if l.kinds == nil {
			l.kinds = map[string]*allowance{}
		}
		a = &allowance{left: limit, at: now}
		l.kinds[kind] = a
	}
	a.left = min(a.left+float64(now.Sub(a.at))/float64(period), limit)
	a.at = now
	if a.left < 1 {
		a.suppressed++
		return 0, false
	}
	a.left--
	suppressed, a.suppressed = a.suppressed, 0
	return suppressed, true
}

// rest returns the number of suppressed events of each kind, and resets the counts.
func (l *limiter) rest() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []string
	for _, kind := range slices.Sorted(maps.Keys(l.kinds)) {
		if a := l.kinds[kind]; a.suppressed > 0 {
			all = append(all, fmt.Sprintf("%d %s", a.suppressed, kind))
			a.suppressed = 0
		}
	}
	return strings.Join(all, ", ")
}

// settle subtracts n suppressed events of a kind, because another line has named them.
func (l *limiter) settle(kind string, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if a := l.kinds[kind]; a != nil {
		a.suppressed -= min(n, a.suppressed)
	}
}
