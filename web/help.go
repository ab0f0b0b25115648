package web

import (
	"fmt"
	"net/http"
	"path"
	"slices"
	"strings"
)

// helpData is what the pages of help show.
type helpData struct {
	Clients []string
	Client  string
	Blocks  []helpBlock
	Text    string // as `cubby connect` prints it
	User    string
}

// A helpBlock is a part of what `cubby connect` prints: a comment, and what follows it.
type helpBlock struct {
	File    string // that holds the text, where the comment begins with one
	Comment string
	Text    string
}

func (h *Handler) helpPage(w http.ResponseWriter, r *request) error {
	v := h.view(w, r, "Help", helpData{Clients: h.Clients})
	v.Section = "help"
	return h.render(w, r, http.StatusOK, "help", v)
}

func (h *Handler) helpClientPage(w http.ResponseWriter, r *request) error {
	client := r.route.arg
	if !slices.Contains(h.Clients, client) {
		return fmt.Errorf("%w: no client %.40q is known here", errPath, client)
	}
	v := h.view(w, r, "Help for "+client, nil)
	v.Section = "help"
	user := v.User
	if user == "" && v.CanLogin {
		user = "USER"
	}
	text, err := h.Connect(r.Context(), client, v.Host, v.HTTPS, user)
	if err != nil {
		return err
	}
	v.Data = helpData{Clients: h.Clients, Client: client, Text: strings.TrimSpace(text), Blocks: helpBlocks(text), User: user}
	return h.render(w, r, http.StatusOK, "help-client", v)
}

// helpBlocks splits the text at its comments, so that each part can be copied alone.
func helpBlocks(text string) (blocks []helpBlock) {
	for line := range strings.Lines(strings.TrimSpace(text)) {
		comment, ok := strings.CutPrefix(line, "#")
		switch {
		case ok:
			comment = strings.TrimSpace(comment)
			if n := len(blocks); n > 0 && strings.TrimSpace(blocks[n-1].Text) == "" {
				blocks[n-1].Comment += "\n" + comment
				continue
			}
			blocks = append(blocks, helpBlock{Comment: comment})
		case len(blocks) == 0:
			blocks = append(blocks, helpBlock{Text: line})
		default:
			blocks[len(blocks)-1].Text += line
		}
	}
	for i, b := range blocks {
		blocks[i].Text = strings.TrimSpace(b.Text)
		first, rest, _ := strings.Cut(b.Comment, " ")
		if !strings.Contains(first, "\n") && (strings.HasPrefix(first, "/") || path.Ext(first) != "" && path.Ext(first) != ".") {
			blocks[i].File, blocks[i].Comment = first, rest
		}
	}
	return blocks
}
