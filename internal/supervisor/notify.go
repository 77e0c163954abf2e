package supervisor

import (
	"fmt"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"gophd/internal/alarm"
	"gophd/internal/event"
)

// What the service manager is told, if there is one (sd_notify(3)).
const (
	sdReady    = daemon.SdNotifyReady
	sdStopping = daemon.SdNotifyStopping
)

// sdExtend asks for more time to stop, each time for longer than it is until the next time we ask.
var sdExtend = fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", (4 * remindAfter).Microseconds())

func (r *rig) notify(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		r.events.Publish(event.Caution(fmt.Sprintf("the service manager cannot be told %q: %v", state, err)))
	}
}

// notifyReloading is followed by READY=1 from the new image.
func (r *rig) notifyReloading() {
	now := alarm.Now(alarm.Monotonic)
	r.notify(fmt.Sprintf("%s\nMONOTONIC_USEC=%d", daemon.SdNotifyReloading, now/time.Microsecond))
}
