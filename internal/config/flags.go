package config

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/pflag"
)

// AddFlags adds the flags of `gophd run` to fs, from the table of keys, and --config. They accept
// any text: Load checks it and returns the same errors for flag, environment and file. Parsing
// stops at the first argument that is not a flag, so `run ./job.sh -d` passes -d to the job.
func AddFlags(fs *pflag.FlagSet) {
	fs.SetInterspersed(false)
	fs.SortFlags = false
	AddFileFlag(fs)
	for _, k := range keys() {
		if k.flag == "" {
			continue
		}
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
}

// AddFileFlag adds only the flag --config to fs, for a command that runs nothing.
func AddFileFlag(fs *pflag.FlagSet) {
	fs.VarP(&flagValue{arg: "FILE"}, configFlag, "c", "read this config file: yaml, toml, json or ini")
}

// FlagError returns err, or an error with the new name if err is about a flag that was renamed.
func FlagError(err error) error {
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) {
		return err
	}
	for before, now := range renamed {
		if flagName(before) == unknown.GetSpecifiedName() {
			return fmt.Errorf("--%s: renamed; write --%s", flagName(before), flagName(now))
		}
	}
	return err
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
	f.text, f.all = text, append(f.all, text)
	return nil
}
