package daemon

import (
	"os"
	"runtime"
	"runtime/debug"
	"time"
)

// Memory that only the start needs is free after unmapAfter, and again that long after the lease was
// acquired. A garbage collection of one job before shrinkAfter, while the heap still grows, would
// leave it larger for good: measured, 0.4 MB.
const (
	unmapAfter  = 2 * time.Second
	shrinkAfter = time.Minute
)

// shrinkHeap gives back the memory that is free now, and keeps the heap of a single job small from now
// on: measured, a third less memory after thousands of runs, for 10 % more of gophd's own CPU time.
// With many jobs the collections would come in the middle of a hundred starts, and delay them.
func (d *Daemon) shrinkHeap() {
	if os.Getenv("GOGC") == "" && !d.o.Config.Many {
		debug.SetGCPercent(25)
	}
	debug.FreeOSMemory()
	unmapProgram()
	d.timers.shrunk = heapNow()
}

// worthShrinking is how much garbage is worth a collection, in bytes. A collection costs memory of the
// runtime itself, which is never given back: measured, the second one of an idle daemon 0.3 MB.
const worthShrinking = 256 << 10

// socketUnused gives back the memory that the socket has used. After a few requests that is only the pages
// of the program: they made less garbage than a collection would cost.
func (d *Daemon) socketUnused() {
	now, before := heapNow(), d.timers.shrunk
	if before.collections > 0 && now.collections == before.collections && now.bytes < before.bytes+worthShrinking {
		unmapProgram()
		return
	}
	d.shrinkHeap()
}

// heap is the state of the heap at one moment.
type heap struct {
	bytes       uint64 // of objects, those included that are garbage by now
	collections uint32 // since the start
}

func heapNow() heap {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return heap{m.HeapAlloc, m.NumGC}
}
