// Package logread answers: what has a log about a job?
//
// Read returns lines in the order of the log: over its archives, compressed ones too, in all of gophd's
// formats, and from the journal by journalctl(1). It can go on with the lines to come, over rotations and
// over a new start of gophd. It needs no gophd that runs, and changes nothing.
//
// A line of a command has the PID of the command and no run; a line of gophd's own may have the run. So the
// lines of a run are those of its PID while it was active, and those that name it.
//
// Known gaps: archives that logrotate(8) has made are not read. In the text formats the hour that a clock
// change repeats is ambiguous.
package logread
