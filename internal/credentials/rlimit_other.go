//go:build !linux

package credentials

// resources returns nothing: gophd sets limits on Linux only.
func resources() map[string]int { return nil }
