//go:build !faults

// Package fault answers: what if gophd came to an end just here?
//
// A point is one place in the program with a name of its own:
//
//	if fault.On {
//		fault.At("name")
//	}
//
// A build with the tag faults, which only tests make, panics there or is killed, on demand. In every other
// build On is the constant false, so that the compiler leaves nothing of a point. What becomes of the fault is
// not decided here.
package fault

// On says whether this is a build for tests.
const On = false

// At does nothing here.
func At(string) {}
