package cases_test

import (
	"fmt"
	"strings"
)

// textCase is one case of a file.
type textCase struct {
	name string
	// input is YAML, want the lines of the outcome.
	input, want string
}

const (
	heading = "=== "
	line    = "---"
)

// parse splits a file into what stands before the first case, and the cases.
func parse(text string) (intro string, all []textCase, err error) {
	parts := strings.Split("\n"+text, "\n"+heading)
	for _, part := range parts[1:] {
		name, rest, _ := strings.Cut(part, "\n")
		input, want, found := strings.Cut("\n"+rest+"\n", "\n"+line+"\n")
		if !found {
			return "", nil, fmt.Errorf("case %q has no line %q", name, line)
		}
		all = append(all, textCase{name: name, input: strings.TrimPrefix(input, "\n"), want: strings.Trim(want, "\n")})
	}
	return strings.TrimPrefix(parts[0], "\n"), all, nil
}

// format is the other way round.
func format(intro string, all []textCase) string {
	var text strings.Builder
	text.WriteString(strings.TrimRight(intro, "\n") + "\n")
	for _, c := range all {
		input := strings.Trim(c.input, "\n")
		if input != "" {
			input += "\n"
		}
		fmt.Fprintf(&text, "\n%s%s\n%s%s\n", heading, c.name, input, line)
		if c.want != "" {
			text.WriteString(c.want + "\n")
		}
	}
	return text.String()
}
