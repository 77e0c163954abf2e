package pidfile

import "time"

// SetReplaceTime sets how long Take waits for a lock while the file does not contain the PID of a
// running process.
func SetReplaceTime(d time.Duration) { replaceTime = d }
