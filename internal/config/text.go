package config

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"gophd/internal/credentials"
	"gophd/internal/job"
	"gophd/internal/misspelled"
)

// parse parses the text of a setting. It returns a time.Duration, a bool, an int64 for a size, an
// int for other numbers, a slice of int, syscall.Signal or string for a list or a command,
// otherwise a string. Flags, environment and every file format use it; only a mapping is parsed by
// its check, pair by pair.
func (k key) parse(text string) (any, error) {
	switch k.kind {
	case duration:
		d, err := parseDuration(text)
		if err == nil && d < k.min && (d != 0 || !k.zero) {
			err = fmt.Errorf("too short; the minimum is %s", k.minimum())
		}
		return d, err
	case boolean:
		return parseBool(text)
	case number:
		n, ok := decimal(text)
		if !ok || n < k.lo || n > k.hi {
			return 0, fmt.Errorf("not a whole number from %d to %d", k.lo, k.hi)
		}
		return int(n), nil
	case percent:
		digits, sign := strings.CutSuffix(text, "%")
		n, ok := decimal(digits)
		if !ok || n != 0 && (!sign || n < k.lo || n > k.hi) {
			return 0, errors.New("not a percentage; write one from " + k.bounds())
		}
		return int(n), nil
	case size:
		n, err := parseSize(text)
		if err == nil && n < k.lo && (n != 0 || !k.zero) {
			err = fmt.Errorf("too small; the minimum is %s", k.minimum())
		}
		return n, err
	case octal:
		n, err := credentials.ParseUmask(text)
		if err != nil {
			return 0, errors.New("not an octal number from 0 to 0777; write one like " + k.example)
		}
		if k.check != nil {
			err = k.check(text)
		}
		return n, err
	case codes:
		return parseList(text, parseCode)
	case signals:
		return parseList(text, parseSignal)
	case command:
		return given{text: text}.argv(), nil
	case exclusions:
		return parseExclusions(text)
	case files:
		return parseList(text, func(item string) (string, error) { return item, k.check(item) })
	case choice:
		if !slices.Contains(k.choices, text) {
			return "", k.noChoice(text)
		}
		return text, nil
	}
	if k.check == nil {
		return text, nil
	}
	return text, k.check(text)
}

func (k key) noChoice(text string) error {
	if now, ok := renamedChoices[k.name][text]; ok {
		return errors.New("renamed; write " + now)
	}
	last := len(k.choices) - 1
	return fmt.Errorf("no such choice; write %s or %s", strings.Join(k.choices[:last], ", "), k.choices[last])
}

const durationFix = "write seconds (5, 0.2) or a Go duration (200ms, 1h)"

// parseDuration reads plain decimal seconds or what time.ParseDuration reads; never a sign.
func parseDuration(text string) (time.Duration, error) {
	if strings.HasPrefix(text, "-") {
		return 0, errors.New("negative; " + durationFix)
	}
	unit := text
	plain := strings.Trim(text, "0123456789.") == "" && text != ""
	if plain {
		unit += "s"
	}
	d, err := time.ParseDuration(unit)
	if err != nil || strings.HasPrefix(text, "+") {
		if _, e := strconv.ParseFloat(text, 64); plain && (e == nil || errors.Is(e, strconv.ErrRange)) {
			return 0, errors.New("too long; the maximum is 292 years")
		}
		return 0, errors.New(durationAdvice(text))
	}
	if d == 0 && strings.ContainsAny(text, "123456789") {
		return 0, errors.New("shorter than a nanosecond; " + durationFix)
	}
	return d, nil
}

// parseBool parses the words that file formats and shells use for yes and no, in upper or lower
// case.
func parseBool(text string) (bool, error) {
	switch strings.ToLower(text) {
	case "true", "yes", "on", "1":
		return true, nil
	case "false", "no", "off", "0":
		return false, nil
	}
	return false, errors.New("neither yes nor no; write true or false")
}

// checkName rejects names that cannot be part of a file name, of a memcached key (at most 250
// bytes, no spaces or control characters: memcached's doc/protocol.txt) or of a command line.
func checkName(name string) error {
	switch {
	case name == "":
		return errors.New("empty; write a name such as nightly")
	case name == "." || name == "..":
		return errors.New("the name of a directory; write a name such as nightly")
	case strings.HasPrefix(name, "-"):
		return errors.New("starts with a dash; write a name such as nightly")
	case len(name) > maxName:
		return fmt.Errorf("longer than %d bytes; write a shorter name", maxName)
	case !utf8.ValidString(name):
		return errors.New("not UTF-8; write a name such as nightly")
	case strings.ContainsFunc(name, func(r rune) bool {
		return r == '/' || unicode.IsSpace(r) || unicode.IsControl(r)
	}):
		return errors.New("contains a slash, a space or a control character; write a name such as nightly")
	}
	return nil
}

const (
	maxName    = 100
	jobNameFix = "the name of a job has letters, digits, _ and -, and starts with no -"
)

// checkJobName accepts the name of an entry of jobs:. It has no dot, so that DAEMON.JOB and
// jobs.NAME.key can be read in one way only.
func checkJobName(name string) error {
	switch {
	case name == "", name[0] == '-', strings.ContainsFunc(name, func(r rune) bool { return r != '-' && isNotNameRune(r) }):
		return errors.New(jobNameFix)
	case len(name) > maxName:
		return fmt.Errorf("longer than %d bytes; write a shorter name", maxName)
	}
	return nil
}

// checkPath rejects an empty path, which an unset shell variable leaves, and a tilde that no shell
// has expanded.
func checkPath(p string) error {
	switch {
	case p == "":
		return errors.New("empty; name a file, or leave it out")
	case strings.HasPrefix(p, "~"):
		return errors.New("~ is expanded by shells only; write the full path")
	case strings.ContainsFunc(p, unicode.IsControl):
		return errors.New("contains a control character")
	case strings.HasSuffix(p, "/"):
		return errors.New("a directory; name a file in it")
	case p == stdio:
		return errors.New("not a file here; for a file of that name write ./-")
	}
	return nil
}

// The values of job.output, job.stdin and log.file that are not files.
var (
	outputs  = []string{job.OutputLog, job.OutputInherit, job.OutputDiscard, job.OutputOnFailure}
	inputs   = []string{job.StdinNull, job.StdinInherit}
	services = []string{journald + "[TAG]", syslog + "[TAG]"}
)

const (
	journald = "journald:"
	syslog   = "syslog:"
)

func checkOutput(out string) error {
	if service(out) {
		return fmt.Errorf("a log service; write log, and --log-file %s; for a file of that name write ./%s", out, out)
	}
	if err := checkPatterns(out); err != nil {
		return err
	}
	return checkWordOrPath(out, outputs)
}

func checkInput(in string) error { return checkWordOrPath(in, inputs) }

// checkWordOrPath accepts one of the words, a path, or stdio. It rejects a misspelled word, which
// would silently become a file in the working directory.
func checkWordOrPath(text string, words []string) error {
	if slices.Contains(words, text) || text == stdio {
		return nil
	}
	if w := nearestOrLonger(text, words); w != "" && !strings.Contains(text, "/") {
		return fmt.Errorf("did you mean %s? for a file of that name write ./%s", w, text)
	}
	return checkPath(text)
}

// wordPattern finds patterns of other tools, and misspelled ones, in the name of a file.
var wordPattern = lazyRegexp(`%[{(]\w*[})]?`)

func checkPatterns(text string) error {
	for _, word := range wordPattern().FindAllString(text, -1) {
		if word != jobPattern {
			return fmt.Errorf("%s is not known; write %s for the name of the job", word, jobPattern)
		}
	}
	return nil
}

// checkPIDFile accepts a path. A gophd has one PID file, however many jobs it has.
func checkPIDFile(path string) error {
	if word := wordPattern().FindString(path); word != "" {
		return fmt.Errorf("%s is not replaced in the name of a PID file, which is that of gophd; write a name", word)
	}
	return checkPath(path)
}

// checkLogFile accepts a file or a log service. RFC 3164, section 4.1.3, allows at most 32 letters
// and digits in a syslog tag. All common syslog servers also accept the characters . _ and -.
func checkLogFile(text string) error {
	if !service(text) {
		if err := checkPatterns(strings.ReplaceAll(text, "%%", "")); err != nil {
			return err
		}
		return checkWordOrPath(text, []string{journald, syslog})
	}
	name, tag, _ := strings.Cut(text, ":")
	if len(tag) > 32 || clean("x"+tag) != "x"+tag {
		return fmt.Errorf("not a valid tag after %s:; write at most 32 letters, digits and . _ -", name)
	}
	return nil
}

// service reports whether log.file names a log service, not a file.
func service(logFile string) bool {
	return strings.HasPrefix(logFile, journald) || strings.HasPrefix(logFile, syslog)
}

// nearestOrLonger returns also the only candidate that begins with text. It is for words of which
// each is gophd's own.
func nearestOrLonger(text string, candidates []string) string {
	if near := misspelled.Nearest(text, candidates); near != "" {
		return near
	}
	longer := slices.DeleteFunc(slices.Clone(candidates), func(c string) bool { return !strings.HasPrefix(c, text) })
	if len(text) < 2 || len(longer) != 1 {
		return ""
	}
	return longer[0]
}
