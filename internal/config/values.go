package config

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"unicode"

	"gophd/internal/credentials"
	"gophd/internal/job"
)

// decimal parses an integer without a plus sign.
func decimal(text string) (int64, bool) {
	n, err := strconv.ParseInt(text, 10, 64)
	return n, err == nil && text[0] != '+'
}

const units = "KMGT"

// parseSize parses bytes, or a number and one of the units K, M, G and T, which are powers of 1024,
// as in systemd.syntax(7).
func parseSize(text string) (int64, error) {
	digits, factor := text, int64(1)
	if text != "" {
		if i := strings.IndexByte(units, text[len(text)-1]); i >= 0 {
			digits, factor = text[:len(text)-1], 1<<(10*(i+1))
		}
	}
	n, ok := decimal(digits)
	switch {
	case !ok && strings.Trim(digits, "0123456789") == "" && digits != "", ok && n > math.MaxInt64/factor:
		return 0, errors.New("too large; the maximum is 8388607T")
	case !ok || digits[0] == '-':
		return 0, errors.New(sizeAdvice(text))
	}
	return n * factor, nil
}

// showSize returns the shortest text that parseSize parses as n.
func showSize(n int64) string {
	unit := ""
	for i := 0; i < len(units) && n != 0 && n%1024 == 0; i++ {
		n, unit = n/1024, units[i:i+1]
	}
	return strconv.FormatInt(n, 10) + unit
}

// maxItem is longer than any path that a system accepts. It keeps hostile values out of errors.
const maxItem = 4096

// parseList parses values that are separated by commas.
func parseList[T any](text string, parse func(string) (T, error)) ([]T, error) {
	var values []T
	for item := range strings.SplitSeq(text, ",") {
		item = strings.TrimSpace(item)
		if item == "" {
			return nil, errors.New("an empty value; write one, or several with commas between them")
		}
		if len(item) > maxItem {
			return nil, fmt.Errorf("%s: longer than %d bytes", visible(item), maxItem)
		}
		v, err := parse(item)
		if err != nil {
			return nil, err
		}
		values = append(values, v)
	}
	return values, nil
}

func parseCode(text string) (int, error) {
	n, ok := decimal(text)
	if !ok || n < 0 || n > 255 {
		return 0, fmt.Errorf("%s is not an exit code; write numbers from 0 to 255 with commas between them", visible(text))
	}
	return int(n), nil
}

// parseSignal parses a stop signal. KILL is rejected, because gophd always sends it last.
func parseSignal(text string) (syscall.Signal, error) {
	s, err := credentials.ParseStopSignal(text[:min(len(text), 80)])
	if err == nil && s == syscall.SIGKILL {
		err = errors.New("KILL is always sent after the last signal; leave it out")
	}
	return s, err
}

// checkDirectory accepts the path of a directory, with or without a slash at the end.
func checkDirectory(p string) error {
	switch p {
	case "":
		return errors.New("empty; name a directory, or leave it out")
	case stdio:
		return errors.New("not a directory here; for one of that name write ./-")
	}
	return checkPath(strings.TrimRight(p, "/") + "/.")
}

// checkEnvFile accepts a path, with an optional dash before it.
func checkEnvFile(text string) error {
	if text == stdio {
		return fmt.Errorf("%s: %w", text, checkPath(text))
	}
	if err := checkPath(strings.TrimPrefix(text, "-")); err != nil {
		return fmt.Errorf("%s: %w", visible(text), err)
	}
	return nil
}

// checkVariable accepts KEY=VALUE, where KEY is a POSIX name (Base Definitions, 8.1). The value is
// never shown, because it may be a secret.
func checkVariable(text string) error {
	name, value, found := strings.Cut(text, "=")
	switch {
	case !found:
		return errors.New("no = sign; write KEY=VALUE")
	case name == "" || name[0] >= '0' && name[0] <= '9' || strings.ContainsFunc(name, isNotNameRune):
		return fmt.Errorf("%s is not the KEY of a KEY=VALUE; write letters, digits and _, no digit first", visible(name))
	case strings.Contains(value, "\x00"):
		return fmt.Errorf("the value of %s contains a NUL byte; remove it", visible(name))
	case slices.Contains(ownVariables, name):
		return fmt.Errorf("%s is gophd's own; rename it", name)
	}
	return nil
}

func isNotNameRune(r rune) bool {
	return r != '_' && (r > unicode.MaxASCII || !unicode.IsLetter(r) && !unicode.IsDigit(r))
}

// checkAPIGroup accepts a group, or nothing.
func checkAPIGroup(text string) error {
	if text == "" {
		return nil
	}
	return checkGroup(text)
}

// checkLimit accepts NAME=SOFT[:HARD].
func checkLimit(text string) error {
	_, err := credentials.ParseRlimit(text[:min(len(text), 80)])
	return err
}

// limits returns the limits of a mapping that checkLimit accepted.
func limits(pairs []pair) []job.Rlimit {
	var all []job.Rlimit
	for _, p := range pairs {
		if r, err := credentials.ParseRlimit(p.name + "=" + p.text); err == nil {
			all = append(all, job.Rlimit(r))
		}
	}
	return all
}

// checkMail accepts addresses in the header of a mail.
func checkMail(text string) error {
	if strings.HasPrefix(text, "-") || strings.ContainsFunc(text, unicode.IsControl) {
		return errors.New("not an address; write one such as root or ops@example.com")
	}
	return nil
}

// checkUser accepts USER or USER:GROUP. Whether the user exists is checked when the command starts.
func checkUser(text string) error {
	if _, _, err := credentials.ParseUser(text); err != nil || len(text) > maxName {
		return errors.New("not a user; write USER or USER:GROUP, names or numbers up to 4294967294")
	}
	return nil
}

// checkMode rejects a mode with which gophd could not open its log file again.
func checkMode(text string) error {
	if mode, err := credentials.ParseUmask(text); err != nil || mode&0o200 == 0 {
		return errors.New("its owner could not write it; write one like 0640")
	}
	return nil
}

func checkGroup(text string) error {
	if checkUser(text) != nil || strings.Contains(text, ":") {
		return errors.New("not a group; write a name, or a number up to 4294967294")
	}
	return nil
}
