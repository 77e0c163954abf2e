// Package goroutine answers: who waits for a goroutine, and who hears its panic?
//
// A Group is both answers at once. Whoever starts goroutines in a Group waits for them, and a
// panic in one of them does not end the program: it climbs, stack and all, to the goroutine that
// waits, and from there to that one's waiter, until the supervisor hears it as an error and takes
// the road of a fatal error. It does not cancel, limit or name goroutines; a context and the
// caller's own select do that.
package goroutine

import (
	"fmt"
	"runtime/debug"
	"sync"
)

// Group is a set of goroutines with one waiter. The zero value is ready for use; it must not be
// copied after the first Go.
type Group struct {
	wg    sync.WaitGroup
	mu    sync.Mutex
	panic *Panic
}

// Go starts f. If f panics, the first such panic of the group is kept for Wait.
func (g *Group) Go(f func()) {
	g.wg.Go(func() {
		if p := Catch(f); p != nil {
			g.mu.Lock()
			defer g.mu.Unlock()
			if g.panic == nil {
				g.panic = p
			}
		}
	})
}

// Wait blocks until every goroutine of the group has returned. If one of them panicked, Wait
// panics with that *Panic in the caller's goroutine.
func (g *Group) Wait() {
	g.wg.Wait()
	g.mu.Lock()
	p := g.panic
	g.mu.Unlock()
	if p != nil {
		panic(p)
	}
}

// Panic is a panic that was caught: what was thrown and the stack of the goroutine that threw it.
// It is an error so that it can travel where errors do.
type Panic struct {
	Value any
	Stack []byte
}

// Error names the thrown value, without the stack.
func (p *Panic) Error() string { return fmt.Sprintf("panic: %v", p.Value) }

// Unwrap returns the thrown value if it was an error.
func (p *Panic) Unwrap() error {
	err, _ := p.Value.(error)
	return err
}

// Catch calls f and returns its panic, or nil when f returned. A *Panic that passes through
// several waiters stays the one that was first thrown, so the stack is where the fault is.
func Catch(f func()) (p *Panic) {
	defer func() {
		switch v := recover().(type) {
		case nil:
		case *Panic:
			p = v
		default:
			p = &Panic{Value: v, Stack: debug.Stack()}
		}
	}()
	f()
	return nil
}
