package daemon

import (
	"fmt"

	"gophd/internal/watch"
)

// openWatch starts to watch the files of the config if --watch is set. After a re-exec that failed their
// content is taken for that of the config: otherwise the next re-exec would follow at once. Nothing that only
// watches may prevent a job, so an error is a warning.
func (d *Daemon) openWatch() {
	c := d.o.Config
	if !c.Watch {
		return
	}
	files := c.Files
	if d.o.Trouble != nil {
		files = watch.Unchanged(files)
	}
	var err error
	if d.watcher, err = watch.New(files); err != nil {
		d.warn(fmt.Sprintf("--watch: %v: no change of a file will be noticed; raise fs.inotify.max_user_instances", err))
	}
}

func (d *Daemon) closeWatch() error {
	if d.watcher == nil {
		return nil
	}
	w := d.watcher
	d.watcher = nil
	return w.Close()
}

// changedFiles receives a file that has changed, while a reload can be requested. Before and after that the
// change is kept.
func (d *Daemon) changedFiles() <-chan string {
	if d.watcher == nil || d.machine.state != starting && d.machine.state != serving {
		return nil
	}
	return d.watcher.Changed()
}

// unwatched receives why changes may not be noticed.
func (d *Daemon) unwatched() <-chan error {
	if d.watcher == nil {
		return nil
	}
	return d.watcher.Failed()
}
