package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"sync/atomic"

	"gophd/internal/goroutine"
	"gophd/internal/job"
)

// head is the first line of an encoded Config. After it come lines with the Spec of each job, and
// with Many as many lines with the values of each entry. So a job that is the same in two configs is
// recognized by its line, and need not be decoded.
type head struct {
	Config *plain // without Jobs
	Jobs   []string
	Values []Value
	Unfit  map[string][]string
}

// plain is a Config without its methods.
type plain Config

// Limits of the result of Encode. A handoff contains two of them, and is limited by restart.MaxSize.
const (
	maxEncoded    = 1 << 20
	maxEncodedJob = 16 << 10 // for each job
)

// Encode returns c for Decode in the new process after a re-exec: lines of JSON, secrets included. It
// returns nil if Decode would not return exactly c, because c has bytes that are not UTF-8, or if it is
// larger than 1 MiB and 16 KiB for each job. Then the new process must load the config itself.
func (c *Config) Encode() []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	h := head{Values: c.values, Unfit: c.unfit}
	daemon := plain(*c)
	daemon.Jobs, h.Config = nil, &daemon
	for i := range c.Jobs {
		h.Jobs = append(h.Jobs, c.Jobs[i].Name)
	}
	err := e.Encode(h)
	for i := range c.Jobs {
		err = errors.Join(err, e.Encode(&c.Jobs[i]))
	}
	for i := range c.Jobs {
		if c.Many {
			err = errors.Join(err, e.Encode(c.entries.of(i)))
		}
	}
	if err != nil || b.Len() > maxEncoded+maxEncodedJob*len(c.Jobs) {
		return nil
	}
	same, err := Decode(b.Bytes())
	if err != nil || !reflect.DeepEqual(same.read(), c.read()) {
		return nil
	}
	return b.Bytes()
}

// read returns c with the values of all entries.
func (c *Config) read() *Config {
	all := *c
	all.entries = entries{}
	for i := range c.Jobs {
		all.entries.values = append(all.entries.values, c.entries.of(i))
	}
	return &all
}

// Decode is the reverse of Encode. It reads no file: the Config was validated when it was loaded.
func Decode(text []byte) (*Config, error) {
	var h head
	first, rest, _ := bytes.Cut(text, newline)
	if err := exact(first).Decode(&h); err != nil {
		return nil, fmt.Errorf("the config that was handed off cannot be read: %w", err)
	}
	if h.Config == nil || len(h.Jobs) == 0 {
		return nil, errors.New("the config that was handed off has no job")
	}
	lines, n := bytes.Split(bytes.TrimSuffix(rest, newline), newline), len(h.Jobs)
	if h.Config.Many && len(lines) != 2*n || !h.Config.Many && len(lines) != n {
		return nil, fmt.Errorf("the config that was handed off has %d jobs in %d lines", n, len(lines))
	}
	c := (*Config)(h.Config)
	c.values, c.unfit = h.Values, h.Unfit
	for _, line := range lines[n:] {
		c.entries.lines = append(c.entries.lines, bytes.Clone(line)) // or all of text would stay in memory
	}
	c.Jobs = make([]job.Spec, n)
	return c, decodeJobs(lines[:n], c.Jobs)
}

// decodeJobs decodes a Spec from each line. With many jobs that is most of the time in which a re-exec
// does not read output, so all processors share it.
func decodeJobs(lines [][]byte, jobs []job.Spec) error {
	each := (len(lines) + runtime.NumCPU() - 1) / runtime.NumCPU()
	var goroutines goroutine.Group
	var failed atomic.Pointer[error]
	for from := 0; from < len(lines); from += each {
		to := min(from+each, len(lines))
		goroutines.Go(func() {
			d := exact(bytes.Join(lines[from:to], newline))
			for i := from; i < to; i++ {
				if err := d.Decode(&jobs[i]); err != nil {
					failed.Store(&err)
					return
				}
			}
		})
	}
	goroutines.Wait()
	if err := failed.Load(); err != nil {
		return fmt.Errorf("the config that was handed off cannot be read: %w", *err)
	}
	return nil
}

// exact returns a decoder that rejects what the result has no field for: a setting of another version.
func exact(text []byte) *json.Decoder {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	return d
}

// EncodedJobs are the jobs of an encoded Config of any version. Each is decoded when it is needed: of
// a thousand jobs that a reload did not change, none is.
type EncodedJobs struct {
	Names []string // in the order of the config
	many  bool
	base  []Value
	lines [][]byte // with many jobs those of the jobs, then those of the entries
	at    map[string]int
}

// Jobs returns the jobs of an encoded Config; none if text has the format of another version.
func Jobs(text []byte) EncodedJobs {
	first, rest, _ := bytes.Cut(text, newline)
	var h head
	// It fails for another version: then all settings and jobs count as new.
	if json.Unmarshal(first, &h) != nil || h.Config == nil {
		return EncodedJobs{}
	}
	e := EncodedJobs{Names: h.Jobs, many: h.Config.Many, base: h.Values, at: make(map[string]int, len(h.Jobs)),
		lines: bytes.Split(rest, newline)}
	if len(e.lines) < len(e.Names) || e.many && len(e.lines) < 2*len(e.Names) {
		return EncodedJobs{}
	}
	for i, name := range e.Names {
		e.at[name] = i
	}
	return e
}

var newline = []byte("\n")

// Spec returns the job with that name.
func (e EncodedJobs) Spec(name string) (s job.Spec, ok bool) {
	i, ok := e.at[name]
	return s, ok && json.Unmarshal(e.lines[i], &s) == nil
}

// same returns true if a job has the same line in both. Then its Spec is the same too.
func (e EncodedJobs) same(name string, other EncodedJobs) bool {
	i, j := e.at[name], other.at[name]
	return bytes.Equal(e.lines[i], other.lines[j])
}

// entry returns the settings of a job's entry of jobs:; none with one job.
func (e EncodedJobs) entry(name string) (values []Value) {
	if e.many {
		_ = json.Unmarshal(e.lines[len(e.Names)+e.at[name]], &values) // of another version: they count as new
	}
	return values
}
