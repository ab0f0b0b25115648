package layer

import (
	"archive/tar"
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// layersOf scans archives of files.
func layersOf(t testing.TB, layers ...[]file) (all []*Index) {
	t.Helper()
	for _, files := range layers {
		all = append(all, scan(t, tarOf(t, files...)))
	}
	return all
}

// show writes a tree: every file with the number of its layer, and what was deleted with those of both.
func show(n *Node) string {
	var lines []string
	var walk func(n *Node, indent string)
	walk = func(n *Node, indent string) {
		for _, c := range n.Dir() {
			mark := ""
			if c.IsDir() {
				mark = "/"
			}
			lines = append(lines, fmt.Sprintf("%s%s%s %d", indent, c.Name, mark, c.Layer))
			walk(c, indent+" ")
		}
		for _, c := range n.Deleted() {
			lines = append(lines, fmt.Sprintf("%s-%s %d by %d", indent, c.Name, c.Layer, c.DeletedBy))
			walk(c, indent+" ")
		}
	}
	walk(n, "")
	return strings.Join(lines, "; ")
}

func TestMerge(t *testing.T) {
	for _, c := range []struct {
		name   string
		layers [][]file
		want   string
		lost   string
	}{
		{"replaced", [][]file{{regular("a", "old")}, {regular("a", "newer")}}, "a 1", "a 3 of 0 by 1: replaced"},
		{"whiteout", [][]file{{regular("d/a", "1"), regular("d/b", "22")}, {regular("d/.wh.a", "")}}, "d/ 0;  b 0;  -a 0 by 1", "d/a 1 of 0 by 1: deleted"},
		{"whiteout of a directory", [][]file{{regular("d/e/a", "1"), regular("x", "")}, {regular(".wh.d", "")}}, "x 0; -d 0 by 1;  e/ 0;   a 0", "d/e/a 1 of 0 by 1: deleted"},
		{"whiteout says nothing of its own layer", [][]file{{regular("a", "1")}, {regular("a", "2"), regular(".wh.a", "")}}, "a 1", "a 1 of 0 by 1: deleted"},
		{"whiteout of nothing", [][]file{{regular("a", "")}, {regular(".wh.b", ""), regular("c/.wh.d", ""), regular(".wh.", ""), regular(".wh...", ""), regular(".wh..wh.plnk", "")}}, "a 0", ""},
		{"opaque, said last", [][]file{{regular("d/a", "1"), regular("d/e/b", "2")}, {regular("d/c", "3"), regular("d/.wh..wh..opq", "")}},
			"d/ 0;  c 1;  -e 0 by 1;   b 0;  -a 0 by 1", "d/a 1 of 0 by 1: deleted d/e/b 1 of 0 by 1: deleted"},
		{"opaque root", [][]file{{regular("a", "1")}, {regular(".wh..wh..opq", ""), regular("b", "")}}, "b 1; -a 0 by 1", "a 1 of 0 by 1: deleted"},
		{"deleted and made again", [][]file{{regular("d/a", "1")}, {regular(".wh.d", "")}, {regular("d/b", "2")}}, "d/ 2;  b 2;  -a 0 by 1", "d/a 1 of 0 by 1: deleted"},
		{"a file in place of a directory", [][]file{{regular("d/a", "1"), regular("d/b", "2")}, {regular("d", "file")}}, "d 1", "d/a 1 of 0 by 1: replaced d/b 1 of 0 by 1: replaced"},
		{"a directory in place of a file", [][]file{{regular("d", "file")}, {dir("d"), regular("d/a", "1")}}, "d/ 1;  a 1", "d 4 of 0 by 1: replaced"},
		{"an implied directory in place of a file", [][]file{{regular("d", "file")}, {regular("d/a", "1")}}, "d/ 1;  a 1", "d 4 of 0 by 1: replaced"},
		{"a directory again keeps what is in it", [][]file{{regular("d/a", "1")}, {dir("d")}}, "d/ 1;  a 0", ""},
		{"only the mode", [][]file{{regular("a", "same")}, {{tar.Header{Typeflag: tar.TypeReg, Name: "a", Mode: 0o755}, "same"}}}, "a 1", "a 4 of 0 by 1: only owner or mode changed"},
		{"the same again", [][]file{{regular("a", "same")}, {regular("a", "same")}}, "a 1", "a 4 of 0 by 1: same content"},
		{"twice in a layer", [][]file{{regular("a", "1"), regular("a", "22")}}, "a 0", "a 1 of 0 by 0: replaced"},
		{"a hard link keeps content", [][]file{{regular("a", "1234"), link(tar.TypeLink, "b", "a")}, {regular(".wh.a", "")}}, "b 0; -a 0 by 1", ""},
		{"a hard link into a lower layer", [][]file{{regular("a", "1234")}, {link(tar.TypeLink, "b", "a"), regular(".wh.c", "")}, {regular("a", "")}}, "a 2; b 1", ""},
		{"a hard link before its file", [][]file{{link(tar.TypeLink, "a", "b"), regular("b", "1")}, {regular(".wh.b", "")}}, "a 0; -b 0 by 1", ""},
		{"through a symbolic link", [][]file{{regular("usr/lib/a", "1"), link(tar.TypeSymlink, "lib", "usr/lib")}, {regular("lib/b", "2"), regular("lib/.wh.a", "")}},
			"usr/ 0;  lib/ 0;   b 1;   -a 0 by 1; lib 0", "usr/lib/a 1 of 0 by 1: deleted"},
		{"a symbolic link to itself", [][]file{{link(tar.TypeSymlink, "l", "l"), regular("l/a", "1")}}, "l 0", ""},
		{"a symbolic link out", [][]file{{link(tar.TypeSymlink, "l", "../../../x"), regular("l/a", "1")}}, "x/ 0;  a 0; l 0", ""},
		{"a symbolic link is deleted, not followed", [][]file{{regular("d/a", "1"), link(tar.TypeSymlink, "l", "d")}, {regular(".wh.l", "")}}, "d/ 0;  a 0; -l 0 by 1", ""},
	} {
		tree := Merge(layersOf(t, c.layers...))
		if got := show(tree.root); got != c.want {
			t.Errorf("%s: %s\nwant %s", c.name, got, c.want)
		}
		var lost []string
		for _, l := range tree.Waste.Lost {
			lost = append(lost, fmt.Sprintf("%s %d of %d by %d: %v", l.Path, l.Entry.Size, l.Layer, l.By, l.Reason))
		}
		if got := strings.Join(lost, " "); got != c.lost {
			t.Errorf("%s: lost %s\nwant %s", c.name, got, c.lost)
		}
		checkTree(t, tree)
	}
}

// checkTree fails unless what always holds does.
func checkTree(t testing.TB, tree *Tree) {
	t.Helper()
	var lost int64
	for _, l := range tree.Waste.Lost {
		lost += l.Entry.Size
	}
	if tree.Waste.Wasted() != lost || tree.Waste.Visible > tree.Waste.Stored || tree.Waste.Visible < 0 {
		t.Errorf("stored %d, visible %d, lost %d", tree.Waste.Stored, tree.Waste.Visible, lost)
	}
	seen := 0
	var walk func(n *Node, gone bool)
	walk = func(n *Node, gone bool) {
		if !slices.IsSortedFunc(n.list, compareNodes) {
			t.Errorf("%.100q is not in order", n.Path())
		}
		for _, c := range n.list {
			if seen++; seen > 2000 {
				return
			}
			find := tree.Lookup
			if gone {
				find = tree.LookupDeleted
			}
			if got, err := find(c.Path()); err != nil || got != c || c.parent != n || c.DeletedBy >= 0 != gone {
				t.Errorf("%.100q: %v, %v, deleted by %d", c.Path(), got, err, c.DeletedBy)
			}
			walk(c, gone)
		}
		for _, c := range n.goneList {
			if seen++; seen > 2000 {
				return
			}
			if got, err := tree.LookupDeleted(c.Path()); err != nil || got != c || c.DeletedBy < 0 || n.children[c.Name] != nil {
				t.Errorf("%.100q was deleted: %v, %v, by %d", c.Path(), got, err, c.DeletedBy)
			}
			walk(c, true)
		}
	}
	walk(tree.root, false)
}

func TestTreeContent(t *testing.T) {
	blobs := [][]byte{tarOf(t, regular("a", "lower"), regular("b", "old")), tarOf(t, link(tar.TypeLink, "c", "a"), regular("b", "new"), link(tar.TypeSymlink, "s", "/b"))}
	var layers []*Index
	for _, b := range blobs {
		layers = append(layers, scan(t, b))
	}
	tree := Merge(layers)
	for path, want := range map[string]string{"a": "lower", "b": "new", "c": "lower", "s": "new"} {
		n, err := tree.Resolve(path)
		if err != nil {
			t.Fatal(err)
		}
		layer, e := n.Content()
		r, err := layers[layer].Open(t.Context(), bytes.NewReader(blobs[layer]), e)
		if err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 20)
		k, _ := r.Read(got)
		if string(got[:k]) != want {
			t.Errorf("%s is %q, want %q", path, got[:k], want)
		}
		r.Close()
	}
}

// TestTreeLimits: paths and links that are made to be endless are left out, and counted.
func TestTreeLimits(t *testing.T) {
	deep := strings.Repeat("d/", depthMax)
	files := []file{regular(deep+"x", "1"), regular(deep[2:]+"x", "2"), link(tar.TypeSymlink, "s0", "d")}
	for i := range 2 * linksMax {
		files = append(files, link(tar.TypeSymlink, fmt.Sprint("s", i+1), fmt.Sprint("s", i)))
	}
	files = append(files, regular("s5/near", ""), regular(fmt.Sprintf("s%d/far", 2*linksMax), ""), link(tar.TypeSymlink, "dots", strings.Repeat("./", 2000)), regular("dots/x", ""))
	tree := Merge(layersOf(t, files))
	if tree.Omitted != 3 {
		t.Errorf("%d left out, want 3", tree.Omitted)
	}
	for _, path := range []string{deep[2:] + "x", "d/near"} {
		if _, err := tree.Lookup(path); err != nil {
			t.Errorf("%.20s…: %v", path, err)
		}
	}
	checkTree(t, tree)
}

func TestCompareNames(t *testing.T) {
	want := []string{"", ".a", "1", "01", "1a", "2", "10", "a", "A1", "a2", "a10", "B", "b", "b1", "file-9.txt", "file-10.txt", "ä"}
	got := slices.Clone(want)
	slices.Reverse(got)
	slices.SortFunc(got, compareNames)
	if i := slices.Index(got, "01"); i > 0 && got[i+1] == "1" { // the same number: by bytes
		got[i], got[i+1] = got[i+1], got[i]
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q\nwant %q", got, want)
	}
}
