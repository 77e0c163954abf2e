package process

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"gophd/internal/credentials"
)

// mistake returns what is wrong with a command that was not found, if its word says that, and the
// right form; otherwise "". Most such words are meant for a shell.
func mistake(argv0, dir string) string {
	first, several := argv0, false
	if i := strings.IndexAny(argv0, " \t\n"); i >= 0 {
		first, several = argv0[:i], true
	}
	switch {
	case strings.HasSuffix(argv0, "\r"):
		return "it ends with a carriage return: save the file that it is in with Unix line ends"
	case strings.HasPrefix(argv0, "—"), strings.HasPrefix(argv0, "–"), strings.HasPrefix(argv0, "−"):
		return "it starts with a dash of a word processor: write a flag of gophd with two plain ones (--)"
	case strings.HasPrefix(argv0, "-"):
		return "a flag is no command: write flags of gophd before the --, and the command after it"
	case several && (!strings.Contains(first, "/") || executable(under(dir, first)) == nil || isForShell(first)):
		return "it is one word with blanks: for a shell line use --shell, for arguments leave out the quotes"
	case variable(argv0) != "":
		return "it sets a variable: set it with --env " + variable(argv0) + "=..., or use --shell"
	case strings.HasPrefix(argv0, "~"):
		return "~ is expanded by shells only: write the full path, or use --shell"
	case strings.ContainsAny(argv0, "$`"):
		return "variables are expanded by shells only: write the full path, or use --shell"
	case configFile(argv0):
		return "it looks like a config file: read it with -c " + quote(argv0)
	case interval(argv0):
		return "it looks like an interval: set --interval " + argv0 + ", and leave it out of the command"
	case isForShell(argv0):
		return "only a shell reads such a word: use --shell"
	}
	builtins := map[string]string{
		"cd": "--chdir", "export": "--env", "source": "--env-file", ".": "--env-file", "ulimit": "--rlimit", "umask": "--umask",
	}
	if flag := builtins[argv0]; flag != "" {
		return "it is a command of the shell: use " + flag + ", or --shell, or sh -c"
	}
	if slices.Contains(shellWords, argv0) {
		return "it is a word of the shell: use --shell, or sh -c"
	}
	return ""
}

// configFile reports whether a word has the name of a file that gophd can read with -c.
func configFile(word string) bool {
	return slices.Contains([]string{".yaml", ".yml", ".toml", ".json", ".ini"}, filepath.Ext(word))
}

// shellWords are words that only a shell has, as far as no program of that name is found.
var shellWords = []string{"!", "((", ":", "[[", "alias", "bg", "break", "builtin", "case", "command", "continue", "coproc",
	"declare", "disown", "do", "done", "elif", "else", "esac", "eval", "exec", "exit", "fg", "fi", "for", "function",
	"getopts", "hash", "if", "jobs", "let", "local", "mapfile", "popd", "pushd", "read", "readarray", "readonly", "return",
	"select", "set", "shift", "shopt", "then", "time", "times", "trap", "type", "typeset", "unalias", "unset", "until", "wait",
	"while", "{", "}"}

// ShellHas reports whether a shell may have a command of that name itself: bash(1), dash(1), ksh(1).
func ShellHas(name string) bool {
	return slices.Contains(shellWords, name) || slices.Contains(strings.Fields("[ . alloc autoload bind caller cd chdir compgen "+
		"complete compopt dirs echo enable enum export false fc float hist integer kill logout print printf pwd source "+
		"suspend test true ulimit umask whence"), name)
}

// isForShell reports whether a word has what is special to a shell, and rare in the name of a
// program.
func isForShell(word string) bool {
	return variable(word) != "" || strings.HasPrefix(word, "~") || strings.ContainsAny(word, "$`|&;<>*?()")
}

// variable returns the name of the variable that a shell would set for the word, or "".
func variable(word string) string {
	name, _, ok := strings.Cut(word, "=")
	if !ok || strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_") != "" {
		return ""
	}
	return name
}

// interval reports whether a word is a number with a unit of time, or without one.
func interval(word string) bool {
	unit := strings.TrimLeft(word, "0123456789")
	return unit != word && slices.Contains([]string{"", "ms", "s", "sec", "m", "min", "h", "d", "w"}, unit)
}

// notInPath returns why a name without a slash was not found in the PATH of env.
func notInPath(name, dir string, env []string) string {
	if text := mistake(name, dir); text != "" {
		return text
	}
	if info, err := os.Stat(under(dir, name)); err == nil && info.Mode().IsRegular() {
		return "not found in PATH, but in " + quote(dir) + ": write " + quote("./"+name)
	}
	if text := unexpanded(env); text != "" {
		return "not found in PATH" + text
	}
	return "not found in PATH: give its path, or add its directory to PATH (--env PATH=...)"
}

// unexpanded continues a sentence about the PATH of env, if a shell would have expanded a part of it;
// otherwise it is "".
func unexpanded(env []string) string {
	word := credentials.Unexpanded(searchPath(env))
	if word == "" {
		return ""
	}
	return ", where " + quote(word) + " is not expanded, because only shells do that: write all directories of PATH"
}

// shown returns the first word of a command as a message quotes it. It shortens a line for a shell,
// and hides the value of a variable, which may be a secret.
func shown(argv0 string) string {
	const most = 80
	switch name := variable(argv0); {
	case name != "":
		return strconv.Quote(name + "=...")
	case len(argv0) > most && strings.Contains(argv0, " "):
		return quote(strings.ToValidUTF8(argv0[:most], "") + "...")
	}
	return quote(argv0)
}
