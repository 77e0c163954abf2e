//go:build !linux

package process

import "os"

// unnamed returns a new file without a name.
func unnamed() (*os.File, error) {
	f, err := os.CreateTemp("", "gophd-stdin-")
	if err == nil {
		err = os.Remove(f.Name())
	}
	return f, err
}
