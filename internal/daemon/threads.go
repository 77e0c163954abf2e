package daemon

import (
	"runtime"
	"sync"

	"gophd/internal/goroutine"
)

// spareCount is how many threads a daemon needs at the same time, at most, in addition to those
// that its start has created. It was measured with a run, a log and a reload that is being checked,
// plus one more.
const spareCount = 4

// spareThreads creates those threads now. Go's runtime aborts the program when it needs a thread
// and cannot create one. When the job itself had used up the limit of processes, a HUP killed gophd
// and left the run active. Threads are never given back, so from here on only forks run into the
// limit, and they fail with an error. It costs 0.1 MB.
func spareThreads() {
	var all goroutine.Group
	var started sync.WaitGroup
	started.Add(spareCount)
	release := make(chan struct{})
	for range spareCount {
		all.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			started.Done()
			<-release
		})
	}
	started.Wait()
	close(release)
	all.Wait()
}
