package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
)

// wire is the encoded form of a Config for another process of this user. It includes the secrets.
type wire struct {
	Config  *plain
	Values  []Value
	Entries [][]Value
	Unfit   map[string][]string
}

// plain is a Config without its methods.
type plain Config

// Limits of the result of Encode. A handoff contains two of them, and is limited by restart.MaxSize.
const (
	maxEncoded    = 1 << 20
	maxEncodedJob = 16 << 10 // for each job
)

// Encode returns c for Decode in the new process after a re-exec. It returns nil if Decode would
// not return exactly c, because c has bytes that are not UTF-8, or if it is larger than 1 MiB and
// 16 KiB for each job. Then the new process must load the config itself.
func (c *Config) Encode() json.RawMessage {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(wire{(*plain)(c), c.values, c.entries, c.unfit})
	if err != nil || b.Len() > maxEncoded+maxEncodedJob*len(c.Jobs) {
		return nil
	}
	text := json.RawMessage(bytes.TrimSpace(b.Bytes()))
	if same, err := Decode(text); err != nil || !reflect.DeepEqual(same, c) {
		return nil
	}
	return text
}

// Decode is the reverse of Encode. It reads no file: the Config was validated when it was loaded.
func Decode(text json.RawMessage) (*Config, error) {
	var w wire
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&w); err != nil {
		return nil, fmt.Errorf("the config that was handed off cannot be read: %w", err)
	}
	if w.Config == nil || len(w.Config.Jobs) == 0 {
		return nil, fmt.Errorf("the config that was handed off has no job")
	}
	c := (*Config)(w.Config)
	c.values, c.entries, c.unfit = w.Values, w.Entries, w.Unfit
	if c.Many && len(c.entries) != len(c.Jobs) {
		return nil, fmt.Errorf("the config that was handed off has %d jobs, and %d entries", len(c.Jobs), len(c.entries))
	}
	return c, nil
}
