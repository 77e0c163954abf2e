package schedule

import (
	_ "embed"
	"fmt"
	"path"
	"strings"
	"sync"
	"time"
	_ "time/tzdata" // a container without the zone database has all zones too

	"gophd/internal/misspelled"
)

// zoneNames are the names of the zone database, one per line. A test generates it.
//
//go:embed zones.txt
var zoneNames string

// loaded has each zone that was loaded, by its name: the schedules of thousands of jobs share one.
var loaded sync.Map

// LoadZone returns the time zone with a name of the IANA database, such as Europe/Berlin, the same
// for the same name. The error for an unknown one gives similar names.
func LoadZone(name string) (*time.Location, error) {
	if zone, ok := loaded.Load(name); ok {
		return zone.(*time.Location), nil
	}
	if name != "" && name != "Local" { // both have a meaning for package time
		if zone, err := time.LoadLocation(name); err == nil {
			first, _ := loaded.LoadOrStore(name, zone)
			return first.(*time.Location), nil
		}
	}
	hint := "write a name such as Europe/Berlin"
	if near := nearZones(name); len(near) > 0 {
		hint = "did you mean " + strings.Join(near, " or ") + "?"
	}
	return nil, fmt.Errorf("time zone %q is not known; %s", name, hint)
}

// nearZones returns the zones whose name is nearest to a text: the whole name, or else its last part,
// the city.
func nearZones(text string) []string {
	text = strings.ReplaceAll(text, " ", "_")
	for _, part := range []func(string) string{strings.Clone, path.Base} {
		byPart := map[string][]string{}
		var parts []string
		for name := range strings.Lines(zoneNames) {
			name = strings.TrimSpace(name)
			key := strings.ToLower(part(name))
			byPart[key] = append(byPart[key], name)
			parts = append(parts, key)
		}
		if near := misspelled.Nearest(part(text), parts); near != "" {
			return byPart[near]
		}
	}
	return nil
}
