package main

import (
	"io"
	"os"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// screen is where a verb prints.
type screen struct {
	w     io.Writer
	width int  // columns of the terminal; 0 for no limit
	color bool // outcomes may have colors

	terminal bool
}

// screen returns the screen of stdout. Colors are for a terminal only, and NO_COLOR (no-color.org) and
// TERM=dumb turn them off.
func (p *program) screen() screen {
	s := screen{w: p.stdout}
	f, ok := p.stdout.(*os.File)
	if !ok {
		return s
	}
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return s // no terminal
	}
	s.width, s.terminal = int(size.Col), true
	s.color = os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	return s
}

// cell is one cell of a table.
type cell struct {
	text  string
	color string // one of those below, or ""
}

// The colors (ECMA-48, select graphic rendition).
const (
	green  = "\x1b[32m"
	yellow = "\x1b[33m"
	red    = "\x1b[31m"
	plain  = "\x1b[0m"
)

// minColumn is the least width to which a column is cut.
const minColumn = 6

// table prints rows of the same length. It cuts the widest columns if the terminal is too narrow.
func (s screen) table(rows [][]cell) error {
	var widths []int
	for _, row := range rows {
		for i, c := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(c.text))
		}
	}
	s.fit(widths)
	var b strings.Builder
	for _, row := range rows {
		for i, c := range row {
			text := cut(c.text, widths[i])
			pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(text)+2)
			if i == len(row)-1 {
				pad = ""
			}
			if s.color && c.color != "" {
				text = c.color + text + plain
			}
			b.WriteString(text + pad)
		}
		b.WriteByte('\n')
	}
	_, err := io.WriteString(s.w, b.String())
	return err
}

// fit makes the widest columns narrower until all fit.
func (s screen) fit(widths []int) {
	for s.width > 0 {
		total := 2 * (len(widths) - 1)
		for _, w := range widths {
			total += w
		}
		widest := slices.Index(widths, slices.Max(widths))
		if total <= s.width || widths[widest] <= minColumn {
			return
		}
		widths[widest]--
	}
}

// cut shortens a text to that many characters.
func cut(text string, width int) string {
	if utf8.RuneCountInString(text) <= width {
		return text
	}
	return string([]rune(text)[:width-1]) + "…"
}

// readableColumn is the width to which columns are cut before one of them is left out.
const readableColumn = 9

// without takes the columns with these titles from the rows, one by one, until they fit.
func without(rows [][]cell, titles []string, fit func() bool) [][]cell {
	for _, title := range titles {
		if fit() {
			break
		}
		i := slices.IndexFunc(rows[0], func(c cell) bool { return c.text == title })
		for n := range rows {
			rows[n] = slices.Delete(rows[n], i, i+1)
		}
	}
	return rows
}

// tableWidth returns the width of a table whose columns are cut to that width.
func tableWidth(rows [][]cell, column int) int {
	total := 2 * (len(rows[0]) - 1)
	for i := range rows[0] {
		widest := 0
		for _, row := range rows {
			widest = max(widest, utf8.RuneCountInString(row[i].text))
		}
		total += min(widest, column)
	}
	return total
}
