package process

import "time"

// Strays says what becomes of descendants of a command that have left its group and are still there when
// the group has ended. A nil one spares them and tells nobody.
type Strays struct {
	// Mark is an entry of the command's Env, KEY=VALUE, whose value no other run has. A child that came home
	// to gophd belongs to the run whose Mark is in its environment. One with another value is another run's; one
	// without that KEY may be anybody's (it has cleared its environment, or is an orphan that was not ours at
	// all, if gophd is process 1): it is reported and always spared.
	Mark string

	// Kill ends them: TERM and CONT, then KILL after Grace, or when the KILL of a Stop is due if that is sooner.
	// Wait then blocks until they have ended, but not for more than a second after the KILL.
	Kill  bool
	Grace time.Duration

	// Report is called once for each, by the goroutine that is in Wait, when it was found; killed says whether
	// it is being ended. The name is that of the program, as ps -o comm shows it.
	Report func(pid int, name string, killed bool)
}

// hunt is the search for the strays of one run. When one dies, its children come home: so it goes on until
// nobody is found.
type hunt struct {
	*Strays
	p      *Process
	began  time.Time
	killed time.Time         // when KILL was sent first
	seen   map[int]time.Time // since when somebody is looked at who was not decided on at first sight
}
