package uitest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/hex"
	"fmt"
	"image"
	"image/png"
	"strings"
	"testing"
	"time"

	"cubby/scripts/process"
)

// A packedFile is a file of a layer: with a target it is a symbolic link.
type packedFile struct{ path, content, target string }

// pack returns a layer, compressed, and the digest of what was compressed.
func pack(t *testing.T, files ...packedFile) (layer process.Content, diffID string) {
	t.Helper()
	var raw, packed bytes.Buffer
	w := tar.NewWriter(&raw)
	for _, f := range files {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: f.path, Size: int64(len(f.content)), Mode: 0o644, ModTime: time.Unix(1_750_000_000, 0), Uname: "root", Gname: "root"}
		if f.target != "" {
			h.Typeflag, h.Linkname, h.Size = tar.TypeSymlink, f.target, 0
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(f.content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	z := gzip.NewWriter(&packed)
	if _, err := z.Write(raw.Bytes()); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return process.Blob(packed.Bytes()), process.Digest(raw.Bytes())
}

// An inside is an image to look into.
type inside struct {
	image, base, squashed, broken process.Content
	layers                        []process.Content
}

// pushInside pushes an image on a base image, one whose history does not fit its layers, and one that is damaged.
func (s *stock) pushInside(t *testing.T) (in inside) {
	t.Helper()
	var picture bytes.Buffer
	if err := png.Encode(&picture, image.NewGray(image.Rect(0, 0, 320, 200))); err != nil {
		t.Fatal(err)
	}
	noise := process.RandomBlob(9, 20<<10).Raw
	var files []packedFile
	for i := range 700 {
		files = append(files, packedFile{path: fmt.Sprintf("usr/share/many/file-%03d.txt", i), content: "x"})
	}
	first, firstID := pack(t, append(files, packedFile{"usr/share/doc/app/readme.txt", "Read me.\n\tIndented, <b>not bold</b>, and a line that is " + strings.Repeat("very ", 60) + "long\nעברית\n", ""},
		packedFile{"usr/share/doc/app/old.txt", strings.Repeat("old ", 5000), ""}, packedFile{"etc/motd", "welcome\n", ""}, packedFile{"bin", "", "usr/bin"},
		packedFile{"usr/bin/tool", "\x7fELF\x02\x01\x01" + strings.Repeat("\x00", 9) + "\x02\x00\x3e\x00" + strings.Repeat("\x00", 60), ""}, packedFile{"dangling", "", "/nowhere"})...)
	second, secondID := pack(t, packedFile{"usr/share/doc/app/.wh.old.txt", "", ""}, packedFile{"etc/motd", "replaced\n", ""}, packedFile{"srv/data.bin", string(noise), ""},
		packedFile{"srv/picture.png", picture.String(), ""}, packedFile{"srv/" + strings.Repeat("long-name-", 24), "x", ""}, packedFile{"srv/\u202egpj.exe", "turned", ""}, packedFile{"srv/empty", "", ""})
	in.layers = []process.Content{first, second}
	c := config("linux/amd64", "inside")
	c["rootfs"] = object{"type": "layers", "diff_ids": []string{firstID}}
	c["history"] = []object{{"created": "2026-10-01T12:00:00Z", "created_by": "/bin/sh -c #(nop) ADD file:abc in / "}}
	in.base = s.to(t, "inside/base").image(c, nil, in.layers[:1], "12")
	c["rootfs"] = object{"type": "layers", "diff_ids": []string{firstID, secondID}}
	c["history"] = []object{
		{"created": "2026-10-01T12:00:00Z", "created_by": "/bin/sh -c #(nop) ADD file:abc in / "}, {"created_by": "ENV A=" + strings.Repeat("value", 60), "empty_layer": true},
		{"created": "2026-10-02T12:00:00Z", "created_by": "RUN /bin/sh -c apt-get update && apt-get install -y tool && rm -rf /var/lib/apt/lists/* # buildkit", "comment": "buildkit.dockerfile.v0"},
	}
	in.image = s.to(t, "inside/app").image(c, nil, in.layers, "1")
	c["history"] = []object{{"created_by": "ADD a"}, {"created_by": "RUN b"}, {"created_by": "RUN c"}}
	in.squashed = s.to(t, "inside/squashed").image(c, nil, in.layers, "1")
	cut := process.Blob(second.Raw[:len(second.Raw)/2])
	in.broken = s.to(t, "inside/broken").image(c, nil, []process.Content{first, cut}, "1")
	return in
}

// insidePages are the pages of layers and files.
func (w *world) insidePages() []pageCase {
	in, o := w.stock.inside, w.stock.site
	files := "/inside/app@" + in.image.Digest + "/-/files"
	layer := func(i int) string { return "/inside/app/-/blob/" + in.layers[i].Digest + "/files" }
	return []pageCase{
		{name: "layers", path: "/inside/app:1/-/layers", site: o, shot: true, large: true},
		{name: "layers that do not fit", path: "/inside/squashed:1/-/layers", site: o, shot: true},
		{name: "layers of an index", path: "/team/web:2.0/-/layers", site: o},
		{name: "layers of an artifact", path: "/files/report:1/-/layers", site: o},
		{name: "layers of what is no archive", path: "/team/api:latest/-/layers", site: o},
		{name: "files", path: files, site: o, shot: true, large: true},
		{name: "files of a directory", path: files + "/srv", site: o, shot: true, large: true},
		{name: "files deleted", path: files + "/usr/share/doc/app", site: o, shot: true},
		{name: "files by the page", path: files + "/usr/share/many?page=2", site: o},
		{name: "files filtered", path: files + "/usr/share/many?q=-69", site: o},
		{name: "files of a damaged image", path: "/inside/broken:1/-/files", site: o},
		{name: "files of what is no archive", path: "/team/api:latest/-/files", site: o},
		{name: "file of text", path: files + "/usr/share/doc/app/readme.txt", site: o, shot: true, large: true},
		{name: "file deleted", path: files + "/usr/share/doc/app/old.txt", site: o},
		{name: "file that is a program", path: files + "/usr/bin/tool", site: o},
		{name: "file that is a picture", path: files + "/srv/picture.png", site: o},
		{name: "file of bytes", path: files + "/srv/data.bin", site: o},
		{name: "file that leads on", path: files + "/bin", site: o},
		{name: "file that leads nowhere", path: files + "/dangling", site: o},
		{name: "file without content", path: files + "/srv/empty", site: o},
		{name: "one layer", path: layer(1), site: o, shot: true},
		{name: "one layer, whiteout", path: layer(1) + "/usr/share/doc/app", site: o},
		{name: "404 file", path: files + "/none", site: o, status: 404},
	}
}

// testInside looks into an image, with and without JavaScript.
func testInside(t *testing.T, w *world) {
	for _, kind := range []struct {
		name string
		tab  func(t *testing.T) *tab
	}{
		{"with script", func(t *testing.T) *tab { return newTab(t, w.browser, w.stock.url) }},
		{"without script", func(t *testing.T) *tab { return w.withoutScript(t, w.stock.site) }},
	} {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			b := kind.tab(t)
			b.open("/inside/app:1")
			b.follow(".tabs a", "Layers")
			b.want("RUN apt-get update")
			b.want("Built on inside/base:12")
			b.follow(".tabs a", "Files")
			b.want("Stored for nothing")
			for _, name := range []string{"usr", "share", "doc", "app"} {
				b.follow("table.files a", name+"/")
			}
			b.want("old.txt")
			b.want("deleted in layer 2")
			b.follow("table.files a", "readme.txt")
			b.want("not bold")
			if got := eval[int](b, `document.querySelectorAll("#L1, #L2, #L3").length`); got != 3 {
				b.t.Errorf("%d of 3 lines can be linked to", got)
			}
			b.follow(".crumbs.files a", "app")
			b.follow("table.files a", "old.txt")
			b.want("layer 2 deleted it")
			b.follow(".facts a", "layer 1")
			if want := "/inside/app/-/blob/" + w.stock.inside.layers[0].Digest; !strings.HasPrefix(b.path(), want) {
				b.t.Errorf("the layer that it comes from is at %s, want %s", b.path(), want)
			}
			b.open("/inside/app:1/-/files/srv/data.bin")
			first := hex.EncodeToString(process.RandomBlob(9, 20<<10).Raw[:2])
			b.want(first[:2] + " " + first[2:])
		})
	}
}
