package process

import (
	"bytes"
	"encoding/hex"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// unhandled reports whether the kernel certainly has no handler for a format that is not its own.
// Handlers are registered in dir (the kernel's admin-guide/binfmt-misc.rst). Where it is not
// mounted, as in most containers, nothing is certain of binary files, and no handler is assumed for
// text.
func unhandled(dir, path string, head []byte) bool {
	status, err := os.ReadFile(filepath.Join(dir, "status"))
	if err != nil {
		return isText(head)
	}
	if strings.TrimSpace(string(status)) == "disabled" {
		return true
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return isText(head)
	}
	for _, e := range entries {
		if text, err := os.ReadFile(filepath.Join(dir, e.Name())); err == nil && handles(string(text), path, head) {
			return false
		}
	}
	return true
}

// isText reports whether a file starts like text, by the rule of search_binary_handler in
// fs/exec.c. An empty file is text too.
func isText(head []byte) bool {
	for _, c := range head[:4] {
		if c != 0 && c != '\t' && c != '\n' && (c < 0x20 || c > 0x7e) {
			return false
		}
	}
	return head[0] != 0 || bytes.Count(head, []byte{0}) == len(head)
}

// handles reports whether the handler that is described by text is for the file.
func handles(text, path string, head []byte) bool {
	lines := strings.Split(text, "\n")
	if lines[0] != "enabled" {
		return false
	}
	field := map[string]string{}
	for _, line := range lines[1:] {
		name, value, _ := strings.Cut(line, " ")
		field[name] = value
	}
	if extension, ok := field["extension"]; ok {
		return filepath.Ext(path) == extension
	}
	magic, err := hex.DecodeString(field["magic"])
	offset, err2 := strconv.Atoi(field["offset"])
	if err != nil || err2 != nil || len(magic) == 0 || offset < 0 || offset+len(magic) > len(head) {
		return false
	}
	mask, err := hex.DecodeString(field["mask"])
	if err != nil {
		return false
	}
	for i, m := range magic {
		c := head[offset+i]
		if i < len(mask) {
			c &= mask[i]
			m &= mask[i]
		}
		if c != m {
			return false
		}
	}
	return true
}
