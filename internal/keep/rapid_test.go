package keep_test

import "flag"

// A property that fails prints the seed to run it again, and leaves no file in the tree.
func init() {
	if err := flag.Set("rapid.nofailfile", "true"); err != nil {
		panic(err)
	}
}
