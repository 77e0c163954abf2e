package config

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"text/template"
)

// section is one table of docs/config.md, as reference.md.tmpl reads it.
type section struct {
	Name     string
	Settings []setting
}

type setting struct{ Key, Flags, Env, Values, Default, Meaning, Example string }

// TestReference compares docs/config.md with reference.md.tmpl and the table of keys. With -update
// it writes the file.
func TestReference(t *testing.T) {
	const path = "../../docs/config.md"
	var all []section
	for _, name := range sections() {
		s := section{Name: name}
		for _, k := range keys() {
			if strings.HasPrefix(k.name, name+".") {
				s.Settings = append(s.Settings,
					setting{k.name, shownFlags(k), k.env(), k.values(), code(k.def), k.help, k.example})
			}
		}
		all = append(all, s)
	}
	tmpl, err := template.ParseFiles("reference.md.tmpl")
	if err != nil {
		t.Fatal(err)
	}
	var want bytes.Buffer
	if err := tmpl.Execute(&want, map[string]any{"Path": usualPath, "Sections": all}); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(path, want.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want.Bytes()) {
		t.Errorf("%s is stale; run go test ./internal/config -run Reference -update", path)
	}
}

func shownFlags(k key) string {
	if k.flag == "" {
		return ""
	}
	flag := code("--" + strings.TrimSpace(k.flag+" "+k.arg))
	if k.short != "" {
		flag = code("-"+k.short) + ", " + flag
	}
	return flag
}

// code puts backquotes around a text that is not empty.
func code(text string) string {
	if text == "" {
		return ""
	}
	return "`" + text + "`"
}
