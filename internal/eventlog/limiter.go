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

// once are kinds with a burst of one: it is one outage, however often it is noticed.
var once = []string{"unreachable"}

// limiter counts what it suppresses.
type limiter struct {
	mu    sync.Mutex
	kinds map[string]*allowance
}

type allowance struct {
	left    float64 // grows by one each period
	at      time.Time
	skipped int
}

// allow returns how many of the kind were suppressed since the last that was not, or false if this
// one is to be suppressed.
func (l *limiter) allow(kind string, now time.Time) (skipped int, ok bool) {
	most := float64(burst)
	if slices.Contains(once, kind) {
		most = 1
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.kinds[kind]
	if a == nil {
		if l.kinds == nil {
			l.kinds = map[string]*allowance{}
		}
		a = &allowance{left: most, at: now}
		l.kinds[kind] = a
	}
	a.left = min(a.left+float64(now.Sub(a.at))/float64(period), most)
	a.at = now
	if a.left < 1 {
		a.skipped++
		return 0, false
	}
	a.left--
	skipped, a.skipped = a.skipped, 0
	return skipped, true
}

// rest returns how many of each kind were suppressed, and forgets them.
func (l *limiter) rest() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []string
	for _, kind := range slices.Sorted(maps.Keys(l.kinds)) {
		if a := l.kinds[kind]; a.skipped > 0 {
			all = append(all, fmt.Sprintf("%d %s", a.skipped, kind))
			a.skipped = 0
		}
	}
	return strings.Join(all, ", ")
}

// settle forgets n suppressed events of a kind, because another line has named them.
func (l *limiter) settle(kind string, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if a := l.kinds[kind]; a != nil {
		a.skipped -= min(n, a.skipped)
	}
}
