//go:build !faults

package supervisor

// fault does nothing. A build with the tag faults, which only tests make, panics here on demand.
func fault(string) {}
