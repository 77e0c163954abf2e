package goroutine_test

import (
	"errors"
	"io"
	"strings"
	"testing"

	"gophd/internal/goroutine"
)

func TestWaitReturnsWhenAllHaveReturned(t *testing.T) {
	var g goroutine.Group
	n := make(chan int, 3)
	for i := range 3 {
		g.Go(func() { n <- i })
	}
	g.Wait()
	if len(n) != 3 {
		t.Fatalf("%d of 3 goroutines had run when Wait returned", len(n))
	}
}

func TestPanicReachesTheOutermostWaitWithItsFirstStack(t *testing.T) {
	var outer goroutine.Group
	outer.Go(func() {
		var inner goroutine.Group
		inner.Go(panicWithEOF)
		inner.Wait()
	})
	p := goroutine.Catch(outer.Wait)
	if p == nil {
		t.Fatal("the panic was lost")
	}
	if p.Error() != "panic: EOF" || !errors.Is(p, io.EOF) {
		t.Errorf("got %q, want io.EOF", p.Error())
	}
	if !strings.Contains(string(p.Stack), "panicWithEOF") {
		t.Errorf("the stack does not show the function that panicked:\n%s", p.Stack)
	}
}

func panicWithEOF() { panic(io.EOF) }
