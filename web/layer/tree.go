package layer

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Limits of a tree. A path is walked no further than depthMax names, those of symbolic links on the way counted: so a
// hostile archive can have neither endless paths nor endless detours.
const (
	nodesMax  = 1 << 20
	depthMax  = 256
	targetMax = 4096 // bytes of the target of a symbolic link that is followed
)

// A Node is a file of a Tree.
type Node struct {
	Name      string
	Entry     *Entry // nil: a directory that nothing says but that something lies in it
	Layer     int    // which says Entry, or implied the directory first
	DeletedBy int    // the layer that took it away, or -1
	Bytes     int64  // of content; of a directory all that lies in it
	Files     int    // that are no directories, in this directory

	dir         bool
	parent      *Node // nil: the root
	content     *Entry
	contentFrom int // the layer of content
	children    map[string]*Node
	gone        map[string]*Node // that upper layers took away, and whose names are free
	list        []*Node          // of children, in order
	goneList    []*Node
}

// IsDir reports whether it is a directory.
func (n *Node) IsDir() bool { return n.dir }

// Dir lists what is in a directory: first directories, in the order in which people look for names.
func (n *Node) Dir() []*Node { return n.list }

// Deleted lists what was in a directory, until an upper layer took it away and put nothing of the same name there.
func (n *Node) Deleted() []*Node { return n.goneList }

// Content returns the layer and the entry to open for what a file contains; of a hard link those of what it leads to.
// There is none, and e is nil, for what is not a file.
func (n *Node) Content() (layer int, e *Entry) { return n.contentFrom, n.content }

// Path returns the cleaned path.
func (n *Node) Path() string {
	var names []string
	for at := n; at.parent != nil; at = at.parent {
		names = append(names, at.Name)
	}
	slices.Reverse(names)
	return strings.Join(names, "/")
}

// A Tree is a file system. It does not change, and is safe for concurrent use.
type Tree struct {
	Omitted int // entries that it has no place for: too deep, or too many
	Waste   Waste

	root    *Node
	nodes   int
	layers  []*Index
	lost    map[*Entry]loss
	omitted map[*Entry]bool
	pending []*Node // hard links to what is not there yet
}

// Merge returns the file system that layers make together, the lowest first: what is in an upper one replaces what is
// below, whiteouts take away, and the directories above files are those of any layer. Symbolic links to directories are
// followed where a path leads through them, as clients do that extract.
func Merge(layers []*Index) *Tree { return plant(layers, true) }

// plant makes a tree. Without merge whiteouts are files.
func plant(layers []*Index, merge bool) *Tree {
	t := &Tree{layers: layers, lost: map[*Entry]loss{}, omitted: map[*Entry]bool{}}
	t.root = &Node{dir: true, DeletedBy: -1}
	for i, x := range layers {
		if merge { // before the files: it takes away only what is below, wherever in the archive it is said
			t.takeAway(i, x)
		}
		for k := range x.Entries {
			if e := &x.Entries[k]; !merge || !e.isMark() {
				t.place(i, e)
			}
		}
		for _, n := range t.pending {
			t.link(n)
		}
		t.pending = nil
	}
	finish(t.root)
	t.Waste = t.waste()
	t.lost, t.omitted = nil, nil
	return t
}

// Dir lists a directory. ErrPathUnknown says that there is none.
func (t *Tree) Dir(path string) ([]*Node, error) {
	n, err := t.Resolve(path)
	if err != nil {
		return nil, err
	}
	if !n.dir {
		return nil, fmt.Errorf("%s: %w", short(path), ErrPathUnknown)
	}
	return n.list, nil
}

// Lookup returns what has a path; a symbolic link is itself. ErrPathUnknown says that nothing has.
func (t *Tree) Lookup(path string) (*Node, error) { return t.find(path, false) }

// Resolve returns what has a path, or what the symbolic link leads to that has it, within the tree. ErrPathUnknown says
// that nothing is there.
func (t *Tree) Resolve(path string) (*Node, error) { return t.find(path, true) }

func (t *Tree) find(path string, follow bool) (*Node, error) {
	w := walker{tree: t, follow: follow, layer: -1}
	if n := w.walk(Clean(path)); n != nil {
		return n, nil
	}
	return nil, fmt.Errorf("%s: %w", short(path), ErrPathUnknown)
}

// LookupDeleted returns what has, or had, a path: also what was taken away. It follows no links.
func (t *Tree) LookupDeleted(path string) (*Node, error) {
	n := t.root
	for rest := Clean(path); rest != ""; {
		var name string
		name, rest, _ = strings.Cut(rest, "/")
		next := n.children[name]
		if next == nil {
			next = n.gone[name]
		}
		if next == nil {
			return nil, fmt.Errorf("%s: %w", short(path), ErrPathUnknown)
		}
		n = next
	}
	return n, nil
}

// A walker goes along a path.
type walker struct {
	tree   *Tree
	follow bool // the last name too
	layer  int  // that makes the directories that are not there; -1: none are made
}

// walk returns what is at a path, or nil.
func (w walker) walk(rest string) *Node {
	n, links := w.tree.root, 0
	steps := depthMax
	if w.layer < 0 { // what was put into the deepest directory is found
		steps += 2
	}
	for range steps {
		if rest == "" {
			return n
		}
		var name string
		name, rest, _ = strings.Cut(rest, "/")
		switch name {
		case "", ".":
			continue
		case "..":
			if n.parent != nil {
				n = n.parent
			}
			continue
		}
		next := n.children[name]
		if next == nil || !next.dir && (rest != "" || w.follow) {
			if next != nil && next.Entry.Type == TypeSymlink && len(next.Entry.Link) <= targetMax {
				if links++; links > linksMax {
					return nil
				}
				if strings.HasPrefix(next.Entry.Link, "/") {
					n = w.tree.root
				}
				rest = next.Entry.Link + "/" + rest
				continue
			}
			if w.layer < 0 {
				if rest == "" {
					return next
				}
				return nil
			}
			if next = w.tree.imply(n, name, w.layer); next == nil {
				return nil
			}
		}
		n = next
	}
	return nil
}

// imply makes a directory that nothing says but that something lies in it.
func (t *Tree) imply(parent *Node, name string, layer int) *Node {
	old := parent.children[name]
	n := t.add(parent, &Node{Name: name, Layer: layer, dir: true})
	if n != nil && old != nil {
		t.lose(old, layer, nil, ReasonReplaced)
	}
	return n
}

// add gives a directory a node, in place of that of the same name.
func (t *Tree) add(parent, n *Node) *Node {
	if t.nodes >= nodesMax {
		return nil
	}
	t.nodes++
	n.parent, n.DeletedBy = parent, -1
	if parent.children == nil {
		parent.children = map[string]*Node{}
	}
	parent.children[n.Name] = n
	old := parent.gone[n.Name]
	delete(parent.gone, n.Name)
	if old != nil && n.dir { // what was in it is still what was taken away from it
		n.gone = map[string]*Node{}
		maps.Copy(n.gone, old.gone)
		maps.Copy(n.gone, old.children)
		for _, child := range n.gone {
			child.parent = n
		}
	}
	return n
}

// place puts an entry where it belongs.
func (t *Tree) place(layer int, e *Entry) {
	path := Clean(e.Path)
	if path == "" {
		if e.Type == TypeDir {
			t.root.Entry, t.root.Layer = e, layer
		}
		return
	}
	dir, base := "", path
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		dir, base = path[:i], path[i+1:]
	}
	parent := walker{tree: t, follow: true, layer: layer}.walk(dir)
	if parent == nil {
		t.omit(e)
		return
	}
	old := parent.children[base]
	if old != nil && old.dir && e.Type == TypeDir {
		old.Entry, old.Layer = e, layer
		return
	}
	n := &Node{Name: base, Entry: e, Layer: layer, dir: e.Type == TypeDir}
	if e.HasContent() {
		n.content, n.contentFrom = e, layer
	}
	if e.Type == TypeHardlink && !t.link(n) {
		t.pending = append(t.pending, n)
	}
	if t.add(parent, n) == nil {
		t.omit(e)
		return
	}
	if old != nil {
		t.lose(old, layer, e, ReasonReplaced)
	}
}

func (t *Tree) omit(e *Entry) {
	t.Omitted++
	t.omitted[e] = true
}

// link finds the content of a hard link.
func (t *Tree) link(n *Node) bool {
	to := walker{tree: t, layer: -1}.walk(Clean(n.Entry.Link))
	if to == nil || to.content == nil {
		return false
	}
	n.content, n.contentFrom = to.content, to.contentFrom
	return true
}

// takeAway applies the whiteouts of a layer to what is below it.
func (t *Tree) takeAway(layer int, x *Index) {
	for k := range x.Entries {
		e := &x.Entries[k]
		if !e.isMark() {
			continue
		}
		if dir, ok := e.Opaque(); ok {
			if n := (walker{tree: t, follow: true, layer: -1}).walk(dir); n != nil {
				for _, child := range n.children {
					t.delete(child, layer)
				}
			}
		} else if path, ok := e.Whiteout(); ok {
			if n := (walker{tree: t, layer: -1}).walk(path); n != nil && n.parent != nil {
				t.delete(n, layer)
			}
		}
	}
}

func (t *Tree) delete(n *Node, layer int) {
	parent := n.parent
	delete(parent.children, n.Name)
	if parent.gone == nil {
		parent.gone = map[string]*Node{}
	}
	parent.gone[n.Name] = n
	t.lose(n, layer, nil, ReasonDeleted)
}

// lose notes that a layer took a node away, and all that is in it.
func (t *Tree) lose(n *Node, layer int, instead *Entry, why Reason) {
	n.DeletedBy = layer
	if n.content != nil {
		t.lost[n.content] = loss{layer, reason(n.content, instead, why)}
	}
	for _, child := range n.children {
		t.lose(child, layer, nil, why)
	}
}

// finish orders directories and adds up what is in them. It goes no deeper than depthMax.
func finish(n *Node) {
	if n.content != nil {
		n.Bytes = n.content.Size
	}
	n.list = slices.SortedFunc(maps.Values(n.children), compareNodes)
	for _, child := range n.list {
		finish(child)
		n.Bytes += child.Bytes
		if n.Files += child.Files; !child.dir {
			n.Files++
		}
	}
	n.goneList = slices.SortedFunc(maps.Values(n.gone), compareNodes)
	for _, child := range n.goneList {
		finish(child)
	}
}

func compareNodes(a, b *Node) int {
	if a.dir != b.dir {
		if a.dir {
			return -1
		}
		return 1
	}
	return compareNames(a.Name, b.Name)
}
