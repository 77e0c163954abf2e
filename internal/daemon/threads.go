package daemon

import (
	"runtime"
	"sync"

	"gophd/internal/goroutine"
)

// spare is how many threads a daemon needs at the same time, at most, beside those that its start has made: measured,
// with a run, a log and a restart that is being tried, and one more.
const spare = 4

// spareThreads has those threads made now. Go's runtime ends the program when it cannot have a thread that it needs,
// and it needs another one now and then: where the limit of processes was used up, by the job itself perhaps, a HUP
// killed gophd and left the run behind. Threads are never given back, so from here on the limit is met by forks,
// which fail in order. It costs 0.1 MB.
func spareThreads() {
	var all goroutine.Group
	var here sync.WaitGroup
	here.Add(spare)
	leave := make(chan struct{})
	for range spare {
		all.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			here.Done()
			<-leave
		})
	}
	here.Wait()
	close(leave)
	all.Wait()
}
