package crontab

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path"
	"strings"
)

// maxSlug is the length of the part of a name that is made from the command, without the hash.
const maxSlug = 40

// nameJobs names the jobs without a name, and rejects a name that two comments have.
func (p *parser) nameJobs() {
	for i := range p.table.Jobs {
		j := &p.table.Jobs[i]
		if j.Named == 0 {
			continue
		}
		if before, ok := p.used[j.Name]; ok {
			p.errors = append(p.errors, &Error{j.Named, fmt.Sprintf("the name %s is that of line %d too; choose another", j.Name, before)})
		}
		p.used[j.Name] = j.Named
	}
	counts := map[string]int{}
	for i := range p.table.Jobs {
		j := &p.table.Jobs[i]
		if j.Named != 0 {
			continue
		}
		base := slug(j.Command, j.Input)
		for taken := true; taken; _, taken = p.used[j.Name] {
			counts[base]++
			j.Name = base
			if n := counts[base]; n > 1 {
				j.Name = fmt.Sprintf("%s-%d", base, n)
			}
		}
		p.used[j.Name] = j.Line
	}
}

// slug returns a name for a command: that of its program without its extension, and six digits of a hash
// of the command and its input.
func slug(command, input string) string {
	first, _ := next(command, 0)
	program := path.Base(first.text)
	if i := strings.LastIndexByte(program, '.'); i > 0 {
		program = program[:i]
	}
	name := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '_', r == '-':
			return r
		}
		return '_'
	}, program)
	name = strings.Trim(name, "-_")
	if name == "" {
		name = "job"
	}
	sum := sha256.Sum256([]byte(command + "%" + input))
	return name[:min(len(name), maxSlug)] + "-" + hex.EncodeToString(sum[:3])
}
