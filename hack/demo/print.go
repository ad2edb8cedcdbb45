package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"
)

// Colours of a terminal.
const (
	bold  = "\x1b[1m"
	green = "\x1b[32m"
	red   = "\x1b[31m"
	grey  = "\x1b[90m"
	plain = "\x1b[0m"
)

// printer writes for a person to read along.
type printer struct {
	out    io.Writer
	colour bool
	begun  time.Time
	step   int
}

// newPrinter uses colours if it writes to a terminal and NO_COLOR is not set.
func newPrinter(out *os.File) *printer {
	return &printer{
		out:    out,
		colour: term.IsTerminal(int(out.Fd())) && os.Getenv("NO_COLOR") == "",
		begun:  time.Now(),
	}
}

func (p *printer) line(colour, text string) {
	if p.colour && colour != "" {
		text = colour + text + plain
	}
	fmt.Fprintln(p.out, text)
}

// heading begins the next step of the story.
func (p *printer) heading(format string, args ...any) {
	p.step++
	since := time.Since(p.begun).Seconds()
	p.line(bold, fmt.Sprintf("\n[%d] %s  (%.1f s)", p.step, fmt.Sprintf(format, args...), since))
}

// note says something beside the story.
func (p *printer) note(format string, args ...any) {
	p.line(grey, "    "+fmt.Sprintf(format, args...))
}

// good says that something is as it should be.
func (p *printer) good(format string, args ...any) {
	p.line(green, "    "+fmt.Sprintf(format, args...))
}

// bad says what went wrong.
func (p *printer) bad(text string) { p.line(red, "\n"+text) }

// text shows lines as they are, indented.
func (p *printer) text(lines string) {
	for line := range strings.SplitSeq(strings.TrimRight(lines, "\n"), "\n") {
		p.line("", strings.TrimRight("    "+line, " "))
	}
}
