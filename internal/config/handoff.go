package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
)

// wire is the encoded form of a Config for another process of this user. It includes the secrets.
type wire struct {
	Config *plain
	Values []Value
}

// plain is a Config without its methods.
type plain Config

// maxEncoded limits the size of the result of Encode. A handoff contains two of them.
const maxEncoded = 1 << 20

// Encode returns c for Decode in the new process after a re-exec. It returns nil if Decode would
// not return exactly c, because c has bytes that are not UTF-8, or if it is larger than 1 MiB. Then
// the new process must load the config itself.
func (c *Config) Encode() json.RawMessage {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(wire{(*plain)(c), c.values}); err != nil || b.Len() > maxEncoded {
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
	c.values = w.Values
	return c, nil
}

// Changed returns the names of the settings that differ between two encoded configs, in the order
// of the later one. The earlier one may be of another version of gophd.
func Changed(before, after json.RawMessage) []string {
	was, is := partsOf(before), partsOf(after)
	// "" equals no value, because an empty mapping has that text.
	text := func(values []Value, key string) string {
		i := slices.IndexFunc(values, func(v Value) bool { return v.Key == key })
		if i < 0 {
			return ""
		}
		return values[i].Text
	}
	var changed []string
	for _, v := range slices.Concat(is.Values, was.Values) {
		if key := shownKey(v.Key); text(was.Values, v.Key) != text(is.Values, v.Key) && !slices.Contains(changed, key) {
			changed = append(changed, key)
		}
	}
	if len(changed) == 0 && !bytes.Equal(was.Config, is.Config) {
		changed = append(changed, "job.env_file") // its content is not a setting
	}
	return changed
}

// parts is an encoded config of any version, partly decoded.
type parts struct {
	Config json.RawMessage
	Values []Value
}

func partsOf(text json.RawMessage) (p parts) {
	_ = json.Unmarshal(text, &p) // fails for another version: then all settings count as new
	return p
}
