package config

import (
	"fmt"
	"strings"
)

// Starter returns the file that `gophd config init` writes, in the format yaml, toml, ini or json.
// It has the settings that most files need, with their default or an example, as comments. Only
// config.auto_restart_interval, which every file must have, is set. JSON has no comments, so its
// starter file has only that setting.
func Starter(format string) ([]byte, error) {
	style, ok := styles[format]
	if !ok {
		return nil, &Error{Source: "format", Value: visible(format),
			Problem: "not a config file format; choose yaml, toml, ini or json"}
	}
	if format == "json" {
		return []byte("{\n  \"config\": {\n    \"auto_restart_interval\": \"24h\"\n  }\n}\n"), nil
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s gophd config file: gophd run -c FILE. docs/config.md has all settings, "+
		"gophd config show those in effect\n", style.comment)
	for _, section := range sections() {
		fmt.Fprintf(&b, "\n"+style.section+"\n", section)
		for _, k := range keys() {
			name, ok := strings.CutPrefix(k.name, section+".")
			if !ok || k.advanced {
				continue
			}
			text, sign := k.def, style.comment+" "
			if text == "" {
				text = k.example
			}
			if k.name == restartKey {
				sign = ""
			}
			quoted := style.quoted && k.kind != boolean && k.kind != number
			if quoted || strings.HasSuffix(text, ":") { // in YAML, file: is a table
				text = fmt.Sprintf("%q", text)
			}
			fmt.Fprintf(&b, "%s%s %s (%s)\n", style.indent, style.comment, k.help, k.values())
			fmt.Fprintf(&b, "%s%s%s%s%s\n", style.indent, sign, name, style.equals, text)
		}
	}
	for _, lines := range [][]string{
		{
			"Any other section is yours and reaches the command as environment: this one as GOPHD_DATABASE_HOST.",
			fmt.Sprintf(style.section, "database"),
			style.indent + "host" + style.equals + `"db1"`,
		},
		{
			"Many jobs in one process: a section for each, with the keys of job, which then has the defaults of all.",
			fmt.Sprintf(style.section, "jobs.report"),
			style.indent + "command" + style.equals + `"./report.sh"`,
		},
	} {
		fmt.Fprintf(&b, "\n%s %s\n", style.comment, strings.Join(lines, "\n"+style.comment+" "))
	}
	return []byte(b.String()), nil
}

// styles is the syntax of sections and values in each format.
var styles = map[string]struct {
	comment, section, indent, equals string
	quoted                           bool
}{
	"yaml": {comment: "#", section: "%s:", indent: "  ", equals: ": "},
	"toml": {comment: "#", section: "[%s]", equals: " = ", quoted: true},
	"ini":  {comment: ";", section: "[%s]", equals: " = "},
	"json": {},
}
