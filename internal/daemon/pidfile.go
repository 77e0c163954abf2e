package daemon

import (
	"os"
	"sync"

	"gophd/internal/event"
	"gophd/internal/pidfile"
)

// pidFile is the daemon's PID file, from the handoff until it is removed. Any goroutine may use it.
type pidFile struct {
	path       string   // "" for none
	handed     *os.File // from the old process; nil if there is none
	handedPath string
	events     *event.Stream

	mu      sync.Mutex
	file    *pidfile.File // nil while it is not held
	removed bool          // remove was called
}

// take creates the PID file, or continues with that of the old process.
func (p *pidFile) take() (err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.adopt()
	if p.path != "" && p.file == nil {
		p.file, err = pidfile.Take(p.path)
	}
	return err
}

func (p *pidFile) adopt() {
	if p.handed == nil || p.file != nil {
		return
	}
	f, err := pidfile.Adopt(p.handedPath, p.handed)
	p.handed = nil
	switch {
	case err != nil:
		p.events.Publish(event.Warning(err.Error()))
	case p.handedPath == p.path:
		p.file = f
	default: // the new config has another one, or none
		if err := f.Remove(); err != nil {
			p.events.Publish(event.Warning(err.Error()))
		}
	}
}

// remove removes the file, including one that was handed off to a process that stops before it uses
// it.
func (p *pidFile) remove() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.removed {
		return
	}
	p.removed = true
	p.adopt()
	if p.file == nil {
		return
	}
	if err := p.file.Remove(); err != nil {
		p.events.Publish(event.Problem(err))
	}
	p.file = nil
}

// descriptor returns another descriptor of the locked file, nil if none is held.
func (p *pidFile) descriptor() (*os.File, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.file == nil {
		return nil, nil
	}
	return p.file.Descriptor()
}

// detach ends the use of the file in this process: the descriptor that is handed off holds the
// lock.
func (p *pidFile) detach() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.file != nil {
		_ = p.file.Leave() // otherwise each exec that fails would leave one more descriptor open
	}
}
