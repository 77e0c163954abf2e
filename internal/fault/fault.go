//go:build !faults

// Package fault answers: what if gophd fails or is killed at this point?
//
// A fault point is a place in the program with a name: fault.At("name"). A build with the tag
// faults, which only tests make, can panic or be killed there on demand. In every other build At
// does nothing. This package does not handle the fault.
package fault

// At does nothing in this build.
func At(string) {}
