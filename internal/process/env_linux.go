package process

import (
	"bytes"
	"errors"
	"os"
	"slices"
	"strings"
	"syscall"
)

// This file follows a script with a first line like #!/usr/bin/env NAME to the program that env(1)
// starts. The rules are those of GNU env 9 (build_argv and main in src/env.c of coreutils). Those
// of busybox (coreutils/env.c) are a subset, without -S.

const blanks = " \t\n\v\f\r" // separators in the string of -S

// isEnv reports whether the interpreter of a script is env(1).
func isEnv(interpreter string) bool {
	return interpreter == "/usr/bin/env" || interpreter == "/bin/env"
}

// envError returns why each run of the last script fails, whose interpreter is env; "" if it can
// be started, or if that cannot be known. The other scripts led to it. dir and env are those of
// the script.
func envError(scripts []scriptFile, dir string, env []string) (text string, code syscall.Errno) {
	last := scripts[len(scripts)-1]
	args := []string{last.path}
	if last.argument != "" {
		args = []string{last.argument, last.path}
	}
	run, err := parseEnv(args, dir, env)
	oneWord := strings.Contains(last.argument, " ") && !run.split
	canSplit := !oneWord && !run.split || hasSplit(under(dir, last.interpreter))
	fix := lineFix(last.path, run.name)
	switch {
	case oneWord && canSplit:
		fix = ": the kernel passes " + quote(last.argument) + " as one word; write #!" + last.interpreter + " -S " +
			strings.TrimPrefix(last.argument, "--split-string ")
	case oneWord:
		fix = ": the kernel passes " + quote(last.argument) + " as one word, and this env cannot split it; " +
			"name a program without arguments in the first line of " + quote(last.path)
	case err != nil && strings.HasSuffix(last.argument, "\r"):
		fix = lineFix(last.path, last.argument)
	case err != nil:
		fix = ": correct the first line of " + quote(last.path)
	}
	switch {
	case !canSplit && run.split:
		return "this env has no option -S, as that of busybox: install that of GNU coreutils, or name the program itself " +
			"in the first line of " + quote(last.path), syscall.ENOEXEC
	case errors.Is(err, errUnknownOption) && !hasOurOptions(under(dir, last.interpreter)):
		return "", 0
	case errors.Is(err, errUnknownOption):
		return "env does not accept its options (it has no such option): correct the first line of " + quote(last.path),
			syscall.ENOEXEC
	case err != nil:
		return "env does not accept its options (" + err.Error() + ")" + fix, syscall.ENOEXEC
	case run.nothing:
		return "", 0
	}
	if text, code := directoryError(run.dir); text != "" {
		return "env cannot enter the directory " + quote(run.dir) + fix, code
	}
	path, err := LookPath(run.name, run.dir, run.env)
	switch code := errno(err); code {
	case 0:
	case syscall.EACCES, syscall.EISDIR:
		if cause := (*startError)(nil); errors.As(err, &cause) && !oneWord {
			fix = ": " + strings.TrimPrefix(cause.text, "permission denied: ")
		}
		return "env may not execute " + quote(run.name) + fix, code
	default:
		text := unexpanded(run.env)
		switch inPath := !strings.Contains(run.name, "/") && !strings.HasSuffix(run.name, "\r") && !oneWord; {
		case inPath && text != "":
			fix = " in PATH" + text
		case inPath && searchPath(run.env) == searchPath(env): // the line sets no other
			fix = " in PATH: install it, add its directory to PATH (--env PATH=...), or correct the first line of " +
				quote(last.path)
		}
		return "env does not find " + quote(run.name) + fix, code
	}
	if slices.ContainsFunc(scripts, func(s scriptFile) bool { return sameProgram(s.path, path) }) {
		if !oneWord {
			fix = ": name a program in the first line of " + quote(last.path)
		}
		return "env starts " + quote(path) + " again, without end" + fix, syscall.ELOOP
	}
	text, code = checkFormat(path, run.dir, run.env, scripts)
	if text == "" || code == syscall.ENOEXEC { // execvp(3) passes such a file to a shell
		return "", 0
	}
	return "env starts " + quote(path) + ": " + text, code
}

// hasSplit reports whether the env at path has the option -S. GNU env before 8.30 and that of
// busybox have other long options and not this one. It looks for their names in the program.
func hasSplit(path string) bool {
	const maxSize = 4 << 20 // a larger program has more in it than an old or small env
	info, err := os.Stat(path)
	if err != nil || info.Size() > maxSize {
		return true
	}
	program, err := os.ReadFile(path)
	return err != nil || !bytes.Contains(program, []byte("ignore-environment")) || bytes.Contains(program, []byte("split-string"))
}

// hasOurOptions reports whether the env at path has exactly the options that parseEnv knows, or some of
// them: it has the text by which GNU env 8.30 to 9 tells getopt(3) its letters.
func hasOurOptions(path string) bool {
	program, err := os.ReadFile(path)
	return err == nil && (bytes.Contains(program, []byte("+C:iS:u:v0")) || bytes.Contains(program, []byte("+a:C:iS:u:v0")))
}

func sameProgram(a, b string) bool {
	infoA, err := os.Stat(a)
	if err != nil {
		return false
	}
	infoB, err := os.Stat(b)
	return err == nil && os.SameFile(infoA, infoB)
}

// envRun is what env does with its arguments.
type envRun struct {
	name    string   // the command
	nothing bool     // there is no command: env prints the environment or a help text
	split   bool     // -S was given
	dir     string   // the working directory of the command
	env     []string // the environment of the command, as LookPath reads it
}

var (
	errUnknownOption = errors.New("an option that only another version of env may have")
	errBlank         = errors.New("an option has no blanks")
	errNull          = errors.New("-0 is not for a command")
	errQuote         = errors.New("the quotes after -S do not end")
	errEscape        = errors.New("the escape sequence after -S is not known")
	errVariable      = errors.New("after -S a variable is written ${NAME}")
)

// envOptions are the long options of env. The value is the short option, or 'x' if it has no effect
// here, and 'h' if env starts nothing.
var envOptions = map[string]byte{"argv0": 'a', "ignore-environment": 'i', "null": '0', "unset": 'u', "chdir": 'C',
	"block-signal": 'x', "default-signal": 'x', "ignore-signal": 'x', "list-signal-handling": 'x', "debug": 'v',
	"split-string": 'S', "help": 'h', "version": 'h'}

// parseEnv returns what env does with the arguments, started in dir with the environment env.
func parseEnv(args []string, dir string, env []string) (run envRun, err error) {
	run.dir = dir
	var unset []string
	var clear, null bool
	apply := func(option byte, value string) error {
		switch option {
		case 'a', 'v', 'x':
		case 'i':
			clear = true
		case '0':
			null = true
		case 'u':
			unset = append(unset, value)
		case 'C':
			run.dir = under(dir, value)
		case 'S':
			words, err := splitEnv(value, env)
			run.split, args = true, append(words, args...)
			return err
		case 'h':
			run.nothing = true
		default:
			if strings.IndexByte(blanks, option) >= 0 {
				return errBlank
			}
			return errUnknownOption
		}
		return nil
	}
	for len(args) > 0 && len(args[0]) > 1 && args[0][0] == '-' && !run.nothing {
		word := args[0]
		args = args[1:]
		if word == "--" {
			break
		}
		for word = word[1:]; word != "" && err == nil; {
			var option byte
			option, word = word[0], word[1:]
			value, given := word, word != ""
			if option == '-' {
				var name string
				name, value, given = strings.Cut(word, "=")
				if option, err = longOption(name); err != nil {
					return run, err
				}
				word = ""
			}
			if strings.IndexByte("auCS", option) < 0 {
				err = apply(option, "")
				continue
			}
			word = ""
			if !given {
				if len(args) == 0 {
					return run, errUnknownOption
				}
				value, args = args[0], args[1:]
			}
			err = apply(option, value)
		}
		if err != nil {
			return run, err
		}
	}
	if len(args) > 0 && args[0] == "-" {
		clear, args = true, args[1:]
	}
	if !clear {
		run.env = slices.DeleteFunc(slices.Clone(env), func(s string) bool {
			name, _, _ := strings.Cut(s, "=")
			return slices.Contains(unset, name)
		})
	}
	for len(args) > 0 && strings.Contains(args[0], "=") {
		run.env = slices.Insert(run.env, 0, args[0])
		args = args[1:]
	}
	if !slices.ContainsFunc(run.env, func(s string) bool { return strings.HasPrefix(s, "PATH=") }) {
		// The default of musl. That of glibc is a part of it.
		run.env = append(run.env, "PATH=/usr/local/bin:/bin:/usr/bin")
	}
	if run.nothing = run.nothing || len(args) == 0; run.nothing {
		return run, nil
	}
	run.name = args[0]
	if null {
		return run, errNull
	}
	return run, nil
}

// longOption returns the short form of a long option, which may be abbreviated.
func longOption(name string) (byte, error) {
	if strings.ContainsAny(name, blanks) {
		return 0, errBlank
	}
	if option, ok := envOptions[name]; ok {
		return option, nil
	}
	var found byte
	for long, option := range envOptions {
		if !strings.HasPrefix(long, name) {
			continue
		}
		if found != 0 {
			return 0, errUnknownOption
		}
		found = option
	}
	if found == 0 {
		return 0, errUnknownOption
	}
	return found, nil
}

// splitEnv splits the string of -S into words. env has the variables.
func splitEnv(s string, env []string) (words []string, err error) {
	var word strings.Builder
	started, single, double := false, false, false
	end := func() {
		if started {
			words = append(words, word.String())
			word.Reset()
		}
		started = false
	}
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '\'' && !double:
			single, started = !single, true
			continue
		case c == '"' && !single:
			double, started = !double, true
			continue
		case strings.IndexByte(blanks, c) >= 0 && !single && !double:
			end()
			continue
		case c == '#' && !started && !single && !double:
			return words, nil
		case c == '\\' && (!single || strings.HasPrefix(s[i+1:], `\`) || strings.HasPrefix(s[i+1:], "'")):
			i++
			if i == len(s) {
				return nil, errEscape
			}
			switch at := strings.IndexByte(`"#$'\_fnrtv`, s[i]); {
			case s[i] == 'c' && !double:
				end()
				return words, nil
			case s[i] == '_' && !double:
				end()
				continue
			case at < 0:
				return nil, errEscape
			default:
				c = "\"#$'\\ \f\n\r\t\v"[at]
			}
		case c == '$' && !single:
			name, rest, ok := strings.Cut(strings.TrimPrefix(s[i:], "${"), "}")
			if !ok || !strings.HasPrefix(s[i:], "${") || !isVariable(name) {
				return nil, errVariable
			}
			i = len(s) - len(rest) - 1
			for _, kv := range env {
				if value, ok := strings.CutPrefix(kv, name+"="); ok {
					started = true
					word.WriteString(value)
					break
				}
			}
			continue
		}
		started = true
		word.WriteByte(c)
	}
	if single || double {
		return nil, errQuote
	}
	end()
	return words, nil
}

// isVariable reports whether env accepts the name of a variable.
func isVariable(name string) bool {
	for i := range len(name) {
		switch c := name[i]; {
		case c == '_', 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9' && i > 0:
		default:
			return false
		}
	}
	return name != ""
}
