//go:build !faults

// Package fault answers: what if gophd came to an end just here?
//
// A point is one place in the program with a name of its own: fault.At("name"). A build with the tag
// faults, which only tests make, panics there or is killed, on demand. In every other build At does nothing.
// What becomes of the fault is not decided here.
package fault

// At does nothing here.
func At(string) {}
