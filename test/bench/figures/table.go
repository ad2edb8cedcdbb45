package figures

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Table is one of Markdown. The cells of the first row are the heads of columns; all
// columns but the first stand to the right.
type Table [][]string

// With returns the table with one more row.
func (t Table) With(cells ...string) Table { return append(t, cells) }

// String returns the table, in columns for those who read it as it is.
func (t Table) String() string {
	var widths []int
	for _, row := range t {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 3)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var text strings.Builder
	for n, row := range t {
		for i, width := range widths {
			cell := ""
			if i < len(row) {
				cell = row[i]
			}
			pad := strings.Repeat(" ", width-utf8.RuneCountInString(cell))
			if i == 0 {
				fmt.Fprintf(&text, "| %s%s |", cell, pad)
			} else {
				fmt.Fprintf(&text, " %s%s |", pad, cell)
			}
		}
		text.WriteString("\n")
		if n == 0 {
			text.WriteString(rule(widths))
		}
	}
	return text.String()
}

// rule returns the line below the heads of columns.
func rule(widths []int) string {
	var text strings.Builder
	text.WriteString("|")
	for i, width := range widths {
		if i == 0 {
			fmt.Fprintf(&text, ":%s-|", strings.Repeat("-", width))
		} else {
			fmt.Fprintf(&text, "-%s:|", strings.Repeat("-", width))
		}
	}
	return text.String() + "\n"
}
