package config

import (
	"github.com/spf13/pflag"
)

// AddFlags gives fs the flags of `gophd run`, from the table of keys, and --config. They take any
// text: Load says what is wrong with it, in the same words for flag, environment and file.
// Flags end at the first word that is none, so `run ./job.sh -d` leaves -d to the job.
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

// AddFileFlag gives fs the flag --config alone, for a command that runs nothing.
func AddFileFlag(fs *pflag.FlagSet) {
	fs.VarP(&flagValue{arg: "FILE"}, configFlag, "c", "read this config file: yaml, toml, json or ini")
}

// flagValue keeps what was typed, each time that it was. It implements pflag.Value.
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
