package web

import "strings"

// shells are what builders put in front of what a RUN instruction runs.
var shells = []string{"/bin/sh -c ", "/bin/bash -c ", "/bin/ash -c ", "cmd /S /C "}

// instruction returns what a step of a build did, as it would stand in a Dockerfile, from what its history says. Chains of
// commands are a line each; nothing else is guessed.
func instruction(createdBy string) []string {
	s := strings.TrimSpace(createdBy)
	s = strings.TrimSpace(strings.TrimSuffix(s, "# buildkit"))
	switch {
	case strings.HasPrefix(s, "|"): // |2 NAME=value OTHER=value /bin/sh -c …: a RUN with build arguments
		for _, shell := range shells {
			if _, command, ok := strings.Cut(s, " "+shell); ok {
				return chain("RUN " + strings.TrimSpace(command))
			}
		}
	case strings.HasPrefix(s, "RUN "):
		rest := strings.TrimSpace(strings.TrimPrefix(s, "RUN "))
		if strings.HasPrefix(rest, "|") {
			return instruction(rest)
		}
		return chain("RUN " + withoutShell(rest))
	}
	for _, shell := range shells {
		if rest, ok := strings.CutPrefix(s, shell); ok {
			rest = strings.TrimSpace(rest)
			if nop, ok := strings.CutPrefix(rest, "#(nop)"); ok { // the classic builder's word for what runs nothing
				return []string{strings.TrimSpace(nop)}
			}
			return chain("RUN " + rest)
		}
	}
	if s == "" {
		return nil
	}
	return []string{s}
}

func withoutShell(s string) string {
	for _, shell := range shells {
		if rest, ok := strings.CutPrefix(s, shell); ok {
			return strings.TrimSpace(rest)
		}
	}
	return s
}

// chain splits a command at each && that stands outside of quotes.
func chain(s string) (lines []string) {
	quote, escaped, from := byte(0), false, 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case escaped:
			escaped = false
		case c == '\\' && quote != '\'':
			escaped = true
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '\'' || c == '"':
			quote = c
		case c == '&' && strings.HasPrefix(s[i:], "&& "):
			lines = append(lines, tidy(s[from:i]))
			from = i
			i++
		}
	}
	return append(lines, tidy(s[from:]))
}

// tidy takes the line ends of a Dockerfile out of a command.
func tidy(s string) string { return strings.Join(strings.Fields(s), " ") }
