//go:build !linux

package process

// Commands returns nil: children cannot be listed here.
func Commands() []Handed { return nil }

// birth is not known: a child that is not collected keeps its PID, and execve(2) keeps the children.
func birth(int) uint64 { return 0 }
