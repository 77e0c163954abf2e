package daemon

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"gophd/internal/event"
	"gophd/internal/heartbeat"
	"gophd/internal/timer"
)

// Messages to the service manager, if there is one (sd_notify(3)).
const (
	sdReady     = "READY=1"
	sdStopping  = "STOPPING=1"
	sdReloading = "RELOADING=1"
	sdWatchdog  = "WATCHDOG=1"
)

// sdExtend requests more time to stop: each time for longer than until the next request.
var sdExtend = fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", (4 * remindAfter).Microseconds())

// How long a message may wait for a service manager that does not read, and one that is sent again.
const (
	sdTime      = time.Second
	sdTimeShort = 50 * time.Millisecond
)

// statusEvery is the least time between two status lines.
const statusEvery = time.Second

// manager is the service manager. Only the goroutine of Run sends to it. Any goroutine may call noticed.
type manager struct {
	address  string        // of its socket; "" if there is none
	watchdog time.Duration // WATCHDOG=1 must be sent that often; 0 for never

	alive *time.Timer  // for the next WATCHDOG=1
	line  *time.Timer  // for the next status line
	due   atomic.Bool  // line runs
	wait  atomic.Int64 // how long it runs, in nanoseconds
	sent  string       // the last status line
}

func newManager() *manager {
	return &manager{address: os.Getenv("NOTIFY_SOCKET"), alive: stopped(), line: stopped()}
}

// openWatchdog reads how often the service manager expects WATCHDOG=1.
func (d *Daemon) openWatchdog() {
	if d.manager.address == "" {
		return
	}
	var err error
	if d.manager.watchdog, err = watchdogTime(os.Getenv("WATCHDOG_USEC"), os.Getenv("WATCHDOG_PID")); err != nil {
		d.warn(err.Error())
	}
}

// watchdogTime returns how often WATCHDOG=1 must be sent (sd_watchdog_enabled(3)); 0 is never.
func watchdogTime(micros, pid string) (time.Duration, error) {
	if micros == "" || pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return 0, nil
	}
	n, err := strconv.ParseInt(micros, 10, 64)
	if err != nil || n <= 0 || n > int64(24*365*time.Hour/time.Microsecond) {
		return 0, fmt.Errorf("WATCHDOG_USEC=%s: not a number of microseconds; the watchdog of the service manager is not served", micros)
	}
	// Half of it is what sd_watchdog_enabled(3) recommends.
	return max(time.Duration(n)*time.Microsecond/2, time.Millisecond), nil
}

func (m *manager) send(state string, most time.Duration) error {
	if m.address == "" {
		return nil
	}
	// A service manager that does not read must not hold up gophd: without a deadline a full queue would.
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: m.address, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetWriteDeadline(time.Now().Add(most)); err != nil {
		return err
	}
	_, err = conn.Write([]byte(state))
	return err
}

func (d *Daemon) notify(state string) {
	if err := d.manager.send(state, sdTime); err != nil {
		d.warn(fmt.Sprintf("cannot notify the service manager of %q: %v: start gophd from the service manager, "+
			"or unset NOTIFY_SOCKET", state, err))
	}
}

// notifyReloading is followed by READY=1 from the new process.
func (d *Daemon) notifyReloading() {
	d.feedWatchdog() // for the time until then
	now := timer.Now(timer.Monotonic)
	d.notify(fmt.Sprintf("%s\nMONOTONIC_USEC=%d", sdReloading, now/time.Microsecond))
}

// feedWatchdog reports that the goroutine of Run works. One that hangs does not.
func (d *Daemon) feedWatchdog() {
	if m := d.manager; m.watchdog > 0 {
		_ = m.send(sdWatchdog, min(sdTimeShort, m.watchdog)) // the next one may arrive
		m.alive.Reset(m.watchdog)
	}
}

// noticed is a reader of the event stream: the status line may be another one soon. It is not sent for each
// event, and without events nothing wakes up.
func (m *manager) noticed(event.Event) {
	if !m.due.Load() && m.due.CompareAndSwap(false, true) {
		m.line.Reset(time.Duration(m.wait.Load()))
	}
}

// sendStatus sends the status line if it has changed.
func (d *Daemon) sendStatus() {
	m := d.manager
	m.wait.Store(int64(statusEvery))
	m.due.Store(false) // before the state is read
	line := strings.ReplaceAll(d.board.Line(d.standby()), "\n", " ")
	if line == m.sent {
		return
	}
	if m.send("STATUS="+line, sdTimeShort) == nil { // otherwise with the next event
		m.sent = line
	}
}

// standby returns the jobs that are on standby, with the holders of their leases.
func (d *Daemon) standby() map[string]string {
	all := map[string]string{}
	for _, m := range d.jobs.all {
		if l, _, ok := showLease(d.leaseOf(m).Look()); ok && l.State == heartbeat.Standby.String() {
			all[m.spec.Name] = l.Holder
		}
	}
	return all
}
