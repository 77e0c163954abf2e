//go:build soak

package schedule

import "testing"

// TestSoakEachChangeOfEachZone compares Next with the oracle around each change of each zone.
func TestSoakEachChangeOfEachZone(t *testing.T) { compareChanges(t, zones(t), 20) }
