// Package goroutine answers: who waits for a goroutine, and who handles its panic?
//
// Code that starts goroutines in a Group also waits for them. A panic in one of them does not end
// the program: Wait repeats it, with its stack, in the goroutine that waits, and so on up to the
// supervisor, which handles it as a fatal error. A Group does not cancel, limit or name goroutines;
// use a context or a select for that.
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

// Panic is a recovered panic: its value and the stack of the goroutine that panicked. It is an
// error, so that it can be returned as one.
type Panic struct {
	Value any
	Stack []byte
}

// Error returns the value of the panic, without the stack.
func (p *Panic) Error() string { return fmt.Sprintf("panic: %v", p.Value) }

// Unwrap returns the value of the panic if it is an error.
func (p *Panic) Unwrap() error {
	err, _ := p.Value.(error)
	return err
}

// Catch calls f and returns its panic, or nil when f returned. A *Panic that passes through several
// calls of Wait stays the first one, so its stack shows the fault.
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
