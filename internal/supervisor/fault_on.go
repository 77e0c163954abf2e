//go:build faults

package supervisor

import (
	"os"
	"path/filepath"
)

// fault panics if a file of that name is in the folder GOPHD_FAULTS, and removes it first, so that each
// file is one fault.
func fault(place string) {
	if os.Remove(filepath.Join(os.Getenv("GOPHD_FAULTS"), place)) == nil {
		panic("fault in " + place)
	}
}
