package daemon

import (
	"fmt"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"gophd/internal/timer"
)

// Messages to the service manager, if there is one (sd_notify(3)).
const (
	sdReady    = daemon.SdNotifyReady
	sdStopping = daemon.SdNotifyStopping
)

// sdExtend requests more time to stop: each time for longer than until the next request.
var sdExtend = fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", (4 * remindAfter).Microseconds())

func (d *Daemon) notify(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		d.warn(fmt.Sprintf("cannot notify the service manager of %q: %v: start gophd from the service manager, "+
			"or unset NOTIFY_SOCKET", state, err))
	}
}

// notifyReloading is followed by READY=1 from the new process.
func (d *Daemon) notifyReloading() {
	now := timer.Now(timer.Monotonic)
	d.notify(fmt.Sprintf("%s\nMONOTONIC_USEC=%d", daemon.SdNotifyReloading, now/time.Microsecond))
}
