package pidfile

import "time"

// WaitForHandover makes Take wait so long for a lock whose holder the file does not name yet.
func WaitForHandover(d time.Duration) { handover = d }
