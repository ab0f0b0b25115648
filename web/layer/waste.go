package layer

import (
	"cmp"
	"slices"
	"strings"
)

// A Reason is why content that a layer holds is not in the image.
type Reason byte

// Reasons.
const (
	ReasonReplaced Reason = iota + 1 // by something else
	ReasonDeleted
	ReasonMetadata // replaced by the same content with another owner or mode
	ReasonSame     // replaced by the same content
)

func (r Reason) String() string {
	switch r {
	case ReasonReplaced:
		return "replaced"
	case ReasonDeleted:
		return "deleted"
	case ReasonMetadata:
		return "only owner or mode changed"
	case ReasonSame:
		return "same content"
	}
	return ""
}

// Waste is what layers hold and an image does not show, in uncompressed bytes of content. A file that is stored twice is
// stored twice; one with two names is stored once.
type Waste struct {
	Stored  int64  // of all files of all layers
	Visible int64  // of those that are in the tree
	Lost    []Lost // the others, the largest first
}

// Wasted returns the bytes that are stored for nothing.
func (w Waste) Wasted() int64 { return w.Stored - w.Visible }

// A Lost is content that is stored for nothing.
type Lost struct {
	Path   string // cleaned
	Entry  *Entry
	Layer  int // which holds it
	By     int // the layer that took it away
	Reason Reason
}

// A loss is what happened to content.
type loss struct {
	by     int
	reason Reason
}

// reason says why content is lost that something comes instead of.
func reason(old, instead *Entry, why Reason) Reason {
	if instead == nil || !instead.HasContent() || old.Sum != instead.Sum || old.Size != instead.Size || old.Sum == [SumSize]byte{} {
		return why
	}
	if old.Mode != instead.Mode || old.UID != instead.UID || old.GID != instead.GID {
		return ReasonMetadata
	}
	return ReasonSame
}

// waste adds up what is seen and what is not.
func (t *Tree) waste() (w Waste) {
	visible := map[*Entry]bool{}
	t.root.visible(visible)
	for i, x := range t.layers {
		for k := range x.Entries {
			e := &x.Entries[k]
			if !e.HasContent() || e.isMark() || e.Size == 0 {
				continue
			}
			w.Stored += e.Size
			if visible[e] || t.omitted[e] {
				w.Visible += e.Size
				continue
			}
			l, ok := t.lost[e]
			if !ok {
				l = loss{i, ReasonReplaced}
			}
			w.Lost = append(w.Lost, Lost{Path: Clean(e.Path), Entry: e, Layer: i, By: l.by, Reason: l.reason})
		}
	}
	slices.SortStableFunc(w.Lost, func(a, b Lost) int {
		return cmp.Or(cmp.Compare(b.Entry.Size, a.Entry.Size), strings.Compare(a.Path, b.Path))
	})
	return w
}

func (n *Node) visible(all map[*Entry]bool) {
	if n.content != nil {
		all[n.content] = true
	}
	for _, child := range n.list {
		child.visible(all)
	}
}
