package schedule

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"
)

// encoded is a Schedule in JSON: what Parse needs to make an equal one.
type encoded struct {
	Expression string
	Zone       string // a name of LoadZone; "" is time.Local
	Seconds    bool   `json:",omitempty"`
	Year       bool   `json:",omitempty"`
	Seed       string `json:",omitempty"`

	Between string   `json:",omitempty"`
	Exclude []string `json:",omitempty"`
}

// MarshalJSON encodes the expression and its options. The zone must be one of LoadZone, or time.Local.
func (s *Schedule) MarshalJSON() ([]byte, error) {
	e := encoded{Expression: s.text, Seconds: s.seconds, Year: s.year, Seed: s.seed, Between: s.between.String()}
	for _, x := range s.excluded() {
		e.Exclude = append(e.Exclude, x.String())
	}
	if s.zone != time.Local {
		e.Zone = s.zone.String()
	}
	return json.Marshal(e)
}

// ID names the schedule in a record: its expression, and a digest of all that Equal compares.
func (s *Schedule) ID() string {
	if s == nil {
		return ""
	}
	text, _ := s.MarshalJSON() // plain values cannot fail
	digest := sha256.Sum256(text)
	return s.text + " " + hex.EncodeToString(digest[:8])
}

// UnmarshalJSON is the reverse of MarshalJSON. It rejects what has no field.
func (s *Schedule) UnmarshalJSON(text []byte) error {
	var e encoded
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&e); err != nil {
		return err
	}
	o := Options{Zone: time.Local, Seconds: e.Seconds, Year: e.Year, Seed: e.Seed}
	if e.Zone != "" {
		var err error
		if o.Zone, err = LoadZone(e.Zone); err != nil {
			return err
		}
	}
	parsed, err := Parse(e.Expression, o)
	if err != nil {
		return fmt.Errorf("%q: %w", e.Expression, err)
	}
	var between Window
	var exclude []Exclusion
	if e.Between != "" {
		if between, err = ParseWindow(e.Between); err != nil {
			return err
		}
	}
	for _, text := range e.Exclude {
		x, err := ParseExclusion(text, o)
		if err != nil {
			return err
		}
		exclude = append(exclude, x)
	}
	*s, err = parsed.Within(between, exclude)
	return err
}
