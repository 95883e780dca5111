// Package tutorials executes the pages of docs/tutorials word for word, so that
// a reader who copies each command gets what the page shows.
//
// # What a page may hold
//
// The fenced blocks of a page are executed in their order, in one bash session
// that starts in the repository's folder:
//
//   - sh: commands. The first that fails fails the test. After "sh exit=N" the
//     last command must end with N; then the others are not checked.
//   - text: what the sh block before it prints, standard error included. Each line must
//     be a line of the output, in this order; there may be others between. "…"
//     stands for any characters within a line; a line that is only "…" says nothing.
//   - go, json and yaml: shown to the reader only.
//
// Any other language is an error, so that no block is left out by a misspelling.
//
// A page starts its servers with & on port 0, waits for their ready files, and
// stops them itself. The package imports the standard library and, to look for
// what the pages need, internal/sandbox. A new page in docs/tutorials is
// executed without a change here.
package tutorials

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// step is an sh block and the text blocks that follow it.
type step struct {
	line     int // of the page, where the commands begin
	commands string
	exit     int
	want     []string // lines of output
}

// parse gives the steps of a page.
func parse(page string) ([]step, error) {
	var steps []step
	var block []string // of the fence that is open
	var info string    // what stands behind its opening fence
	open := 0          // its line, or 0
	for i, line := range strings.Split(page, "\n") {
		fence, found := strings.CutPrefix(line, "```")
		switch {
		case found && open == 0:
			open, info, block = i+1, fence, nil
		case line == "```":
			var err error
			if steps, err = add(steps, info, block, open+1); err != nil {
				return nil, fmt.Errorf("line %d: %w", open, err)
			}
			open = 0
		case open > 0:
			block = append(block, line)
		}
	}
	if open > 0 {
		return nil, fmt.Errorf("line %d: the block is not closed", open)
	}
	return steps, nil
}

func add(steps []step, info string, block []string, line int) ([]step, error) {
	language, rest, _ := strings.Cut(info, " ")
	switch language {
	case "sh":
		s := step{line: line, commands: strings.Join(block, "\n") + "\n"}
		if rest != "" {
			code, found := strings.CutPrefix(rest, "exit=")
			var err error
			if s.exit, err = strconv.Atoi(code); !found || err != nil || s.exit < 1 || s.exit > 255 {
				return nil, fmt.Errorf("%q behind sh: write exit=N, with N from 1 to 255", rest)
			}
		}
		return append(steps, s), nil
	case "text":
		if len(steps) == 0 {
			return nil, fmt.Errorf("text without commands before it")
		}
		last := &steps[len(steps)-1]
		last.want = append(last.want, block...)
		return steps, nil
	case "go", "json", "yaml":
		return steps, nil
	}
	return nil, fmt.Errorf("a block of language %q is neither executed nor known as shown only", language)
}

// missing gives the first of the wanted lines that is not in the output, at or
// behind the place of the one before it.
func missing(want []string, output string) (string, bool) {
	lines := strings.Split(output, "\n")
	for _, w := range want {
		if w == "" || w == "…" {
			continue
		}
		pattern := pattern(w)
		at := -1
		for i, line := range lines {
			if pattern.MatchString(line) {
				at = i
				break
			}
		}
		if at < 0 {
			return w, true
		}
		lines = lines[at+1:]
	}
	return "", false
}

// pattern gives the expression of a wanted line. Spaces at its end do not count.
func pattern(line string) *regexp.Regexp {
	parts := strings.Split(strings.TrimRight(line, " "), "…")
	for i, part := range parts {
		parts[i] = regexp.QuoteMeta(part)
	}
	return regexp.MustCompile("^" + strings.Join(parts, ".*") + `\s*$`)
}
