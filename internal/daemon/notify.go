package daemon

import (
	"fmt"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"gophd/internal/alarm"
)

// What the service manager is told, if there is one (sd_notify(3)).
const (
	sdReady    = daemon.SdNotifyReady
	sdStopping = daemon.SdNotifyStopping
)

// sdExtend asks for more time to stop, each time for longer than it is until the next time we ask.
var sdExtend = fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", (4 * remindAfter).Microseconds())

func (d *Daemon) notify(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		d.caution(fmt.Sprintf("the service manager cannot be told %q: %v", state, err))
	}
}

// notifyReloading is followed by READY=1 from the new image.
func (d *Daemon) notifyReloading() {
	now := alarm.Now(alarm.Monotonic)
	d.notify(fmt.Sprintf("%s\nMONOTONIC_USEC=%d", daemon.SdNotifyReloading, now/time.Microsecond))
}
