package web

import (
	"net/http"
	"slices"

	"cubby/store"
)

// referrersMax bounds the rows of the page of referrers.
const referrersMax = 500

// annotationsMax bounds the bytes of annotations on that page; clients get all of them.
const annotationsMax = 256 << 10

// referrersData is what the page of a manifest's referrers shows.
type referrersData struct {
	Head manifestHead
	Rows []referrerItem
	More bool
}

type referrerItem struct {
	store.ReferrerRow
	Keys []string // of its annotations, in order
	What string
}

func (h *Handler) referrersPage(w http.ResponseWriter, r *request) error {
	head, err := h.manifestHead(r, "referrers")
	if err != nil {
		return err
	}
	d := referrersData{Head: head}
	done, err := h.costly(r)
	if err != nil {
		return err
	}
	defer done()
	rows, more, err := h.Store.ReferrerTree(r.Context(), r.route.name, head.Digest, referrersMax)
	if err != nil {
		return err
	}
	d.More = more
	text := 0
	for _, row := range rows {
		item := referrerItem{ReferrerRow: row, What: kindText(string(row.Kind))}
		if len(row.Provides) > 0 {
			item.What = kindText(row.Provides...)
		}
		for key, value := range row.Annotations {
			if text += len(key) + len(value); text <= annotationsMax {
				item.Keys = append(item.Keys, key)
			}
		}
		slices.Sort(item.Keys)
		d.Rows = append(d.Rows, item)
	}
	v := h.view(w, r, "Referrers · "+r.route.ref.String()+" · "+r.route.name.String(), &d)
	v.Section = "repositories"
	return h.render(w, r, http.StatusOK, "referrers", v)
}
