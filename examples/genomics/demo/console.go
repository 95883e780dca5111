package main

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// console prints the demo: a heading a chapter, a line a step with its time.
type console struct {
	w     io.Writer
	start time.Time
	color bool
}

func (c *console) paint(code, s string) string {
	if !c.color {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

func (c *console) chapter(title string) {
	fmt.Fprintf(c.w, "\n%s\n", c.paint("1", title))
}

// step runs do and prints what it says with the time that it took.
func (c *console) step(room string, do func() (string, error)) error {
	begin := time.Now()
	said, err := do()
	if err != nil {
		fmt.Fprintf(c.w, "  %s %-10s %s\n", c.paint("31", "✗"), room, err)
		return err
	}
	fmt.Fprintf(c.w, "  %s %-10s %s %s\n", c.paint("32", "✓"), room, said,
		c.paint("2", fmt.Sprintf("(%.2f s)", time.Since(begin).Seconds())))
	return nil
}

// block prints text indented, for tables and for what root sees.
func (c *console) block(text string) {
	for line := range strings.Lines(text) {
		fmt.Fprintf(c.w, "      %s", line)
	}
}
