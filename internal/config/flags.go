package config

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"gophd/internal/misspelled"
)

// AddFlags adds the flags of `gophd run` to fs, from the table of keys, and --config. They accept
// any text: Load checks it and returns the same errors for flag, environment and file. Parsing
// stops at the first argument that is not a flag, so `run ./job.sh -d` passes -d to the job.
func AddFlags(fs *pflag.FlagSet) {
	fs.SetInterspersed(false)
	fs.SortFlags = false
	AddFileFlag(fs)
	for _, k := range keys() {
		if k.flag != "" && fs.Lookup(k.flag) == nil {
			addFlag(fs, k)
		}
	}
}

// addFlag adds the flag of a key.
func addFlag(fs *pflag.FlagSet, k key) {
	v := &flagValue{text: k.def, arg: k.arg}
	help := k.help
	if k.choices != nil {
		help += " (" + k.values() + ")"
	}
	if k.negated {
		v.text, help = "", "do not "+help
	}
	f := fs.VarPF(v, k.flag, k.short, help)
	if k.kind == boolean {
		v.arg = "bool" // the type for which pflag shows no argument
		f.NoOptDefVal = "true"
	}
}

// AddFileFlag adds only the flag --config to fs, and those that name a crontab, for a command that runs nothing.
func AddFileFlag(fs *pflag.FlagSet) {
	fs.VarP(&flagValue{arg: "FILE"}, configFlag, "c", "read this config file: yaml, toml, json or ini")
	for _, k := range keys() {
		if slices.Contains(crontabKeys, k.name) {
			addFlag(fs, k)
		}
	}
}

// FlagError adds to an error of fs, the flags of a command, what was probably meant.
func FlagError(fs *pflag.FlagSet, err error) error {
	var bare *pflag.ValueRequiredError
	if errors.As(err, &bare) {
		flag := bare.GetFlag()
		example := cmp.Or(flag.DefValue, "job.yaml") // of --format and --config
		for _, k := range keys() {
			if k.flag == flag.Name {
				example = k.example
			}
		}
		return fmt.Errorf("%w; write one, as in --%s %s", err, flag.Name, example)
	}
	var invalid *pflag.InvalidValueError
	if errors.As(err, &invalid) && errors.As(err, new(*strconv.NumError)) {
		want := "a number in range"
		if invalid.GetFlag().Value.Type() == "bool" {
			want = "true or false"
		}
		return fmt.Errorf("--%s %s: not %s", invalid.GetFlag().Name, invalid.GetValue(), want)
	}
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) {
		return err
	}
	name, letters := unknown.GetSpecifiedName(), unknown.GetSpecifiedShortnames()
	if letters != "" {
		return letterError(fs, err, name, letters)
	}
	for before, now := range renamed {
		if flagName(before) == name {
			return fmt.Errorf("--%s: renamed; write --%s", name, flagName(now))
		}
	}
	word := flagName("." + name[strings.LastIndexByte(name, '.')+1:]) // job.stop_signals is --stop-signals
	if fs.Lookup(word) != nil {
		return fmt.Errorf("%w; write --%s", err, word)
	}
	var all []string
	fs.VisitAll(func(f *pflag.Flag) { all = append(all, f.Name) })
	if advice := flagAdvice(word); advice != "" {
		return fmt.Errorf("%w; %s", err, advice)
	}
	near := otherNames[word]
	if fs.Lookup(near) == nil {
		near = nearestOrLonger(word, all)
	}
	if near != "" {
		return fmt.Errorf("%w; did you mean --%s?", err, near)
	}
	for _, k := range keys() {
		if k.flag == "" && (flagName(k.name) == word || k.name == otherKeys[word]) {
			return fmt.Errorf("%w; %s has no flag: set it in a config file, or set %s", err, k.name, k.env())
		}
	}
	return fmt.Errorf("%w; --help lists the flags", err)
}

// NoCommandError is FlagError for a flag before any command. run are the flags of `gophd run`.
func NoCommandError(run *pflag.FlagSet, err error) error {
	var unknown *pflag.NotExistError
	if errors.As(err, &unknown) {
		name := unknown.GetSpecifiedName()
		if run.Lookup(name) != nil || len(name) == 1 && run.ShorthandLookup(name) != nil {
			return fmt.Errorf("%w; it is a flag of run: write gophd run before it", err)
		}
	}
	return FlagError(run, err)
}

// letterError is FlagError for a letter after one dash. letters are that letter and all after it.
func letterError(fs *pflag.FlagSet, err error, name, letters string) error {
	fix := "--help lists the flags"
	if flag := otherLetters[name]; fs.Lookup(flag) != nil {
		fix = "did you mean --" + flag + "?"
	}
	var long error
	letters, _, _ = strings.Cut(letters, "=")
	fs.VisitAll(func(f *pflag.Flag) {
		switch {
		case f.Name == letters, f.Shorthand != "" && f.Name == f.Shorthand+letters: // f.Shorthand is a flag too
			long = oneDash(f.Name)
		case f.Shorthand != "" && strings.EqualFold(f.Shorthand, name):
			fix = "did you mean -" + f.Shorthand + "?"
		}
	})
	if long != nil {
		return long
	}
	return fmt.Errorf("%w; %s", err, fix)
}

// isLong reports whether the text of a flag of one letter is the rest of a long flag, as in -interval 5, or
// -intervall. In a short name each letter counts: -n amex is a name.
func isLong(letter, text, flag string) bool {
	rest, _, _ := strings.Cut(text, "=")
	return letter+rest == flag ||
		len(rest) > 2 && len(flag) > 4 && misspelled.Nearest(letter+rest, []string{flag}) != ""
}

// oneDash returns the error for the name of a flag after one dash.
func oneDash(name string) error {
	return &Error{Source: "-" + name, Problem: "one dash is for flags of one letter; write --" + name}
}

// flagName returns the flag that is named after a key.
func flagName(key string) string {
	_, last, _ := strings.Cut(key, ".")
	return strings.ReplaceAll(last, "_", "-")
}

// flagValue holds the text of a flag, and all texts if it was given several times. It implements
// pflag.Value.
type flagValue struct {
	text, arg string
	all       []string
}

func (f *flagValue) String() string { return f.text }
func (f *flagValue) Type() string   { return f.arg }

func (f *flagValue) Set(text string) error {
	if text == "--" {
		return errors.New("the value is missing; write it before the --")
	}
	f.text, f.all = text, append(f.all, text)
	return nil
}
