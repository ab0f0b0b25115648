package web

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"cubby/store"

	"github.com/opencontainers/go-digest"
	"golang.org/x/net/html"
)

// A tarFile is a file of a layer: its type by the first byte of kind, then what it holds or where it leads.
type tarFile struct {
	path, content string
	kind          byte // of archive/tar; 0: a file
	mode          int64
}

func layerTar(t testing.TB, files ...tarFile) string {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		h := &tar.Header{Name: f.path, Typeflag: f.kind, Mode: f.mode, ModTime: time.Unix(1_700_000_000, 0)}
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		switch f.kind {
		case 0, tar.TypeReg:
			h.Typeflag, h.Size = tar.TypeReg, int64(len(f.content))
		default:
			h.Linkname, f.content = f.content, ""
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
	return b.String()
}

func zipped(t testing.TB, content string) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write([]byte(content)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// layered pushes an image of layers, each a tar, compressed, and returns its digest and those of the layers. history is
// JSON, or "" for a step for each layer.
func (s *site) layered(repo, tag, history string, tars ...string) (digest.Digest, []digest.Digest) {
	s.t.Helper()
	var blobs []digest.Digest
	var ids, layers, steps []string
	for i, raw := range tars {
		packed := zipped(s.t, raw)
		dgst := s.blob(repo, packed)
		blobs = append(blobs, dgst)
		ids = append(ids, quoted(sum(raw)))
		layers = append(layers, descriptor(layerType, dgst, len(packed), ""))
		steps = append(steps, fmt.Sprintf(`{"created_by":"RUN step %d # buildkit","created":"2024-01-02T03:04:05Z"}`, i+1))
	}
	if history == "" {
		history = "[" + strings.Join(steps, ",") + "]"
	}
	config := fmt.Sprintf(`{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":[%s]},"history":%s}`, strings.Join(ids, ","), history)
	return s.put(repo, imageType, fmt.Sprintf(`{"schemaVersion":2,"config":%s,"layers":[%s]}`,
		descriptor(configType, s.blob(repo, config), len(config), ""), strings.Join(layers, ",")), tag), blobs
}

const readmeText = "Hello\n<script>alert(1)</script>\nlast line"

// baseLayer and appLayer are what most tests look into.
func baseLayer(t testing.TB) string {
	return layerTar(t, tarFile{"usr/share/doc/readme.txt", readmeText, 0, 0o644}, tarFile{"usr/share/doc/old.txt", "old", 0, 0}, tarFile{"etc/motd", "welcome", 0, 0},
		tarFile{"bin", "usr/bin", tar.TypeSymlink, 0o777}, tarFile{"usr/bin/true", "\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x3e\x00", 0, 0o4755},
		tarFile{"usr/bin/yes", "usr/bin/true", tar.TypeLink, 0}, tarFile{"dangling", "/none", tar.TypeSymlink, 0o777}, tarFile{"empty", "", 0, 0})
}

func appLayer(t testing.TB) string {
	return layerTar(t, tarFile{"usr/share/doc/.wh.old.txt", "", 0, 0}, tarFile{"etc/motd", "replaced", 0, 0}, tarFile{"app/main.py", "print()\n", 0, 0})
}

func TestFiles(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	dgst, blobs := s.layered("team/app", "1", "", baseLayer(t), appLayer(t))
	at, first := "/team/app@"+dgst.String()+"/-/files", "/team/app/-/blob/"+blobs[0].String()+"/files"
	for _, tt := range []struct {
		path  string
		texts []string // see wants
	}{
		{at, []string{"usr/", "app/", "bin → usr/bin", "Stored for nothing", "/usr/share/doc/old.txt", "deleted in layer 2", "/etc/motd", "replaced in layer 2", "-main.py"}},
		{at + "/usr/share/doc", []string{"readme.txt", "rw-r--r-- 0:0", "old.txt deleted in layer 2", "1 file"}},
		{at + "/usr/share/doc/", []string{"readme.txt"}},
		{at + "/usr/share/doc/readme.txt", []string{"<script>alert(1)</script>", "last line", "Fromlayer 1", "text"}},
		{at + "/usr/share/doc/old.txt", []string{"layer 2 deleted it", "old"}},
		{at + "/etc/motd", []string{"replaced", "-welcome", "Fromlayer 2"}},
		{at + "/bin", []string{"symbolic link", "usr/bin", "here it is"}},
		{at + "/bin/true", []string{"ELF ET_EXEC", "EM_X86_64", "rwsr-xr-x", "00000000"}},
		{at + "/usr/bin/yes", []string{"hard link", "EM_X86_64"}},
		{at + "/dangling", []string{"/none", "nothing there"}},
		{at + "/empty", []string{"It is empty."}},
		{at + "/app/main.py", []string{"print()", "Fromlayer 2"}},
		{at + "/usr/share/doc?q=READ", []string{"readme.txt", "1 match", "-old.txt"}},
		{at + "/usr/share/doc?q=zzz", []string{"Nothing here has that in its name."}},
		{first, []string{"usr/", "etc/", "-app/", "-Stored for nothing"}},
		{first + "/usr/share/doc/old.txt", []string{"old", "-deleted"}},
		{"/team/app/-/blob/" + blobs[1].String() + "/files/usr/share/doc", []string{".wh.old.txt", "takes away usr/share/doc/old.txt"}},
		{"/team/app:1/-/files/etc/motd", []string{"replaced"}},
	} {
		for range 2 { // looked into, and remembered
			wants(t, tt.path, s.get(reader, tt.path), 200, tt.texts...)
		}
	}
	for _, path := range []string{at + "/none", at + "/etc/motd/below", first + "/app", at + "/usr/share/doc/old.txt/x"} {
		wants(t, path, s.get(reader, path), 404, "No such file")
	}
	// The lines can be linked to.
	if body := s.get(reader, at+"/usr/share/doc/readme.txt").body; !strings.Contains(body, `id="L3"`) {
		t.Error("lines have no anchors")
	}
}

func TestFileDownload(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	_, blobs := s.layered("team/app", "1", "", baseLayer(t), appLayer(t))
	for path, want := range map[string]string{
		"/team/app:1/-/files/usr/share/doc/readme.txt?download=1":                               readmeText,
		"/team/app:1/-/files/usr/share/doc/old.txt?download=1":                                  "old",
		"/team/app/-/blob/" + blobs[0].String() + "/files/etc/motd?download=1":                  "welcome",
		"/team/app:1/-/files/empty?download":                                                    "",
		"/team/app/-/blob/" + blobs[1].String() + "/files/usr/share/doc/.wh.old.txt?download=1": "",
	} {
		a := s.get(reader, path)
		if a.StatusCode != 200 || a.body != want {
			t.Errorf("%s: %d %q, want %q", path, a.StatusCode, a.body, want)
		}
		for key, value := range map[string]string{"Content-Type": "application/octet-stream", "Content-Security-Policy": fileCSP, "X-Content-Type-Options": "nosniff", "Content-Length": fmt.Sprint(len(want)), "Etag": ""} {
			if got := a.Header.Get(key); got != value {
				t.Errorf("%s: %s %q, want %q", path, key, got, value)
			}
		}
		if !strings.HasPrefix(a.Header.Get("Content-Disposition"), "attachment; filename=") {
			t.Errorf("%s: %q", path, a.Header.Get("Content-Disposition"))
		}
		if head := s.do(reader, http.MethodHead, path, ""); head.StatusCode != 200 || head.body != "" || head.Header.Get("Content-Length") != fmt.Sprint(len(want)) {
			t.Errorf("HEAD %s: %d, %q", path, head.StatusCode, head.Header.Get("Content-Length"))
		}
	}
	for path, status := range map[string]int{"/team/app:1/-/files/usr?download=1": 400, "/team/app:1/-/files/bin?download=1": 400, "/team/app:1/-/files/none?download=1": 404} {
		wants(t, path, s.get(reader, path), status)
	}
	var free []func()
	for range downloadsOwn {
		f, ok := s.pages.downloads.take("x", downloadsMax, downloadsOwn)
		if !ok {
			t.Fatal("no slot")
		}
		free = append(free, f)
	}
	if _, ok := s.pages.downloads.take("x", downloadsMax, downloadsOwn); ok {
		t.Error("one viewer has more slots than his own")
	}
	for i := range downloadsMax - downloadsOwn {
		if _, ok := s.pages.downloads.take(fmt.Sprint("y", i), downloadsMax, downloadsOwn); !ok {
			t.Errorf("no slot for y%d", i)
		}
	}
	a := s.get(reader, "/team/app:1/-/files/etc/motd?download=1")
	if wants(t, "too many", a, 429, "Wait a moment"); a.Header.Get("Retry-After") == "" || a.Header.Get("Content-Disposition") != "" {
		t.Errorf("too many: headers %v", a.Header)
	}
	free[0]()
	free[0]() // once more frees nothing
	wants(t, "one is free", s.get(reader, "/team/app:1/-/files/etc/motd?download=1"), 200)
}

// TestFilesWait: a page does not wait for long, and what is found out is stored.
func TestFilesWait(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	_, blobs := s.layered("team/app", "1", "", baseLayer(t), appLayer(t))
	done, err := s.pages.indexer.turns.take(t.Context(), "somebody else")
	if err != nil {
		t.Fatal(err)
	}
	a := s.get(reader, "/team/app:1/-/files")
	if wants(t, "waiting", a, 200, "Looking into the layers: 0 %", "-usr"); a.Header.Get("Refresh") != refreshIndexing {
		t.Errorf("Refresh %q", a.Header.Get("Refresh"))
	}
	wants(t, "layers meanwhile", s.get(reader, "/team/app:1/-/layers"), 200, "-unpacked1", "Look into all of them")
	done()
	a = s.get(reader, "/team/app:1/-/files")
	if wants(t, "done", a, 200, "usr/"); a.Header.Get("Refresh") != "" {
		t.Error("it still loads itself again")
	}
	wants(t, "layers", s.get(reader, "/team/app:1/-/layers"), 200, "unpacked3.5 KiB", "Stored for nothing", "-Look into all of them")
	for _, b := range blobs {
		if stored, err := s.store.LayerIndex(b); err != nil || len(stored) == 0 {
			t.Errorf("nothing is stored of %s: %v", b, err)
		}
	}
	// Another process takes what is stored.
	other := newIndexer(s.store)
	present, err := s.store.Present(t.Context(), name("team/app"), blobs)
	if err != nil {
		t.Fatal(err)
	}
	if x, err := other.stored(present[blobs[0]]); err != nil || x == nil || len(x.Entries) != 8 {
		t.Errorf("stored: %v, %v", x, err)
	}
}

// TestFilesDamaged: what is wrong with a layer is said, and forgotten when it is pushed again.
func TestFilesDamaged(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	raw := layerTar(t, tarFile{"first", strings.Repeat("noise ", 10), 0, 0}, tarFile{"second", strings.Repeat("more ", 2000), 0, 0})
	_, blobs := s.layered("team/app", "1", "", raw)
	packed := zipped(t, raw)
	path := filepath.Join(s.store.Dir(), "blobs", "sha256", blobs[0].Encoded()[:2], blobs[0].Encoded())
	flipped := []byte(packed)
	flipped[len(flipped)-6] ^= 1 // in the checksum
	if err := os.WriteFile(path, flipped, 0o600); err != nil {
		t.Fatal(err)
	}
	wants(t, "damaged", s.get(reader, "/team/app:1/-/files"), 200, "Layer 1: this layer is damaged at byte", "first")
	wants(t, "layers", s.get(reader, "/team/app:1/-/layers"), 200, "this layer is damaged")
	s.blob("team/app", packed)
	wants(t, "healed", s.get(reader, "/team/app:1/-/files"), 200, "-damaged", "first", "second")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	wants(t, "missing", s.get(reader, "/team/app:1/-/files"), 200, "1 layer of this image is not stored here")
	wants(t, "missing, one layer", s.get(reader, "/team/app/-/blob/"+blobs[0].String()+"/files"), 404, "No such blob")
	wants(t, "missing, layers", s.get(reader, "/team/app:1/-/layers"), 200, "not stored here")
	s.blob("team/app", packed)
}

// TestFilesHostile: archives that are made to hurt give a page within its limits, and so does all that it leads to.
func TestFilesHostile(t *testing.T) {
	t.Parallel()
	s := newSite(t, withoutUsers)
	long := strings.Repeat("n", 200_000)
	var deep []string
	for range 300 {
		deep = append(deep, "d")
	}
	many := make([]tarFile, 3000)
	for i := range many {
		many[i] = tarFile{fmt.Sprintf("many/%s-%d", strings.Repeat("x", 200), i), "", 0, 0}
	}
	whole := zipped(t, layerTar(t, tarFile{"first", "1", 0, 0}, tarFile{"second", strings.Repeat("noise ", 100), 0, 0}))
	ok := layerTar(t, tarFile{"first", "1", 0, 0})
	for _, tt := range []struct{ what, blob, want string }{
		{"traversal", layerTar(t, tarFile{"../../etc/passwd", "root", 0, 0}, tarFile{"/abs", "x", 0, 0}, tarFile{"a/../../b", "x", 0, 0}, tarFile{"up", "../../../../etc/shadow", tar.TypeSymlink, 0}), "etc/"},
		{"a bomb", zipped(t, layerTar(t, tarFile{"first", "1", 0, 0}, tarFile{"zeros", strings.Repeat("\x00", 80<<20), 0, 0})), "grows more than 200 times"},
		{"huge names", layerTar(t, tarFile{long, "x", 0, 0}, tarFile{"link", long, tar.TypeSymlink, 0}), "nnnn…"},
		{"a deep path", layerTar(t, tarFile{strings.Join(deep, "/") + "/f", "x", 0, 0}), "d/"},
		{"many files", layerTar(t, many...), "many/"},
		{"cut short", whole[:len(whole)/2], "ends early"},
		{"compressed twice", zipped(t, zipped(t, ok)), "compressed twice"},
		{"no archive", "plain text", "not a tar archive"},
		{"wrong magic", "\x1f\x8b\x08" + strings.Repeat("x", 600), "no header of a member"},
		{"a broken header", zipped(t, strings.Repeat("x", 600)), "not a tar archive"},
		{"empty", "", "not a tar archive"},
		{"odd names", layerTar(t, tarFile{"a b?c#d%41&\"'<b>\\e", "odd", 0, 0}, tarFile{"new\nline\ttab", "x", 0, 0}, tarFile{"\u202egpj.exe", "x", 0, 0}, tarFile{"-", "dash", 0, 0}, tarFile{"x/-/raw", "x", 0, 0}, tarFile{"bad\xff\xfe", "x", 0, 0}), "a b?c#d%41"},
		{"links in circles", layerTar(t, tarFile{"a", "b", tar.TypeSymlink, 0}, tarFile{"b", "a", tar.TypeSymlink, 0}, tarFile{"h", "h", tar.TypeLink, 0}), "symbolic link|a → b"},
		{"devices", layerTar(t, tarFile{"null", "", tar.TypeChar, 0}, tarFile{"pipe", "", tar.TypeFifo, 0}), "null"},
		{"whiteouts of nothing", layerTar(t, tarFile{".wh.", "", 0, 0}, tarFile{".wh...", "", 0, 0}, tarFile{".wh..wh..opq", "", 0, 0}), ".wh.|This directory is empty"},
	} {
		dgst := s.blob("hostile", tt.blob)
		image := s.put("hostile", imageType, fmt.Sprintf(`{"schemaVersion":2,"config":%s,"layers":[%s]}`, descriptor(configType, s.blob("hostile", "{}"), 2, ""), descriptor(layerType, dgst, len(tt.blob), "")), "t"+dgst.Encoded()[:12])
		for _, root := range []string{"/hostile/-/blob/" + dgst.String() + "/files", "/hostile@" + image.String() + "/-/files", "/hostile@" + image.String() + "/-/layers"} {
			a := s.get(viewerLocal, root)
			for a.Header.Get("Refresh") != "" { // each time it waits a second
				a = s.get(viewerLocal, root)
			}
			said := plainText(a.body)
			if a.StatusCode != 200 || strings.HasSuffix(root, "files") && !slices.ContainsFunc(strings.Split(tt.want, "|"), func(w string) bool { return strings.Contains(said, w) }) {
				t.Errorf("%s: %s: %d, want %q: %.500s", tt.what, root, a.StatusCode, tt.want, said)
			}
			s.follow(tt.what, a, root)
		}
	}
}

// follow opens the links of a page to what is below it.
func (s *site) follow(what string, a answer, root string) {
	s.t.Helper()
	seen := map[string]bool{root: true}
	queue := []answer{a}
	for len(queue) > 0 && len(seen) < 60 {
		a, queue = queue[0], queue[1:]
		if len(a.body) > 2<<20 {
			s.t.Errorf("%s: a page of %d bytes below %s", what, len(a.body), root)
		}
		parsePage(s.t, a.body).elements(func(n *html.Node, attrs map[string]string) {
			href := attrs["href"]
			if !strings.HasPrefix(href, root) || seen[href] || len(seen) >= 60 || strings.Contains(href, "#") {
				return
			}
			seen[href] = true
			next := s.get(viewerLocal, href)
			// 422 is of a download that turned out to be damaged.
			if next.StatusCode != 200 && next.StatusCode != 422 {
				s.t.Errorf("%s: %s leads to %d: %.300s", what, href, next.StatusCode, plainText(next.body))
			}
			if !strings.Contains(href, "download") {
				queue = append(queue, next)
			}
		})
	}
}

func TestLayers(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	base, app := baseLayer(t), appLayer(t)
	s.layered("team/base", "12", `[{"created_by":"/bin/sh -c #(nop) ADD file:1 in / ","comment":"debuerreotype"}]`, base)
	s.layered("secret/vault", "hush", "", base, layerTar(t, tarFile{"hush", "x", 0, 0}))
	history := `[{"created_by":"ADD rootfs"},{"created_by":"ENV A=1","empty_layer":true},{"created_by":"RUN /bin/sh -c apt-get update && apt-get install x # buildkit"}]`
	dgst, blobs := s.layered("team/app", "1", history, base, app)
	at := "/team/app@" + dgst.String() + "/-/layers"
	for viewer, also := range map[string]string{reader: "also in 1 image", admin: "also in 2 images"} {
		wants(t, "layers as "+viewer, s.get(viewer, at), 200, "1 ADD rootfs", "ENV A=1 no files", "2 RUN apt-get update&& apt-get install x", also, "Built on team/base:12, going by what both say of themselves: the first layer is the same", "end of the base image", blobs[0].Encoded()[:12])
	}
	// What the viewer may not see is no base either.
	s.layered("secret/base", "1", "", base, app)
	s.layered("team/more", "1", "", base, app, layerTar(t, tarFile{"z", "z", 0, 0}))
	wants(t, "a base that is hidden", s.get(reader, "/team/more:1/-/layers"), 200, "Built on team/app:1", "-secret")
	s.layered("team/squashed", "1", `[{"created_by":"ADD a"},{"created_by":"RUN b"},{"created_by":"RUN c"}]`, base, app)
	wants(t, "history that does not fit", s.get(reader, "/team/squashed:1/-/layers"), 200, "The history speaks of 3 layers and the image has 2 layers", "History", "Layer 1", "Layer 2", "RUN c")
	s.layered("team/mute", "1", `[]`, base)
	wants(t, "no history", s.get(reader, "/team/mute:1/-/layers"), 200, "has no history", "nothing says how")
	index := s.put("team/app", indexType, fmt.Sprintf(`{"schemaVersion":2,"manifests":[%s,%s]}`, descriptor(imageType, dgst, 500, `,"platform":{"os":"linux","architecture":"amd64"}`), descriptor(imageType, missing, 500, `,"platform":{"os":"linux","architecture":"s390x"}`)), "all")
	for _, tab := range []string{"layers", "files"} {
		a := s.get(reader, "/team/app@"+index.String()+"/-/"+tab)
		if wants(t, tab+" of an index", a, 200, "Each of its images has "+tab, "linux/amd64", "linux/s390x not stored here"); !strings.Contains(a.body, `href="/team/app@`+dgst.String()+"/-/"+tab+`"`) {
			t.Errorf("%s of an index lead to no image", tab)
		}
	}
	s.artifact("team/files", "application/vnd.example.report", "text/html", "", []string{"report.html", "x"}, "v1")
	wants(t, "an artifact", s.get(reader, "/team/files:v1/-/layers"), 200, "This is no container image")
	wants(t, "a blob that is an archive", s.get(reader, "/team/app/-/blob/"+blobs[0].String()), 200, "Look inside")
}

// TestLayersDropped: what was found out about a layer goes with it.
func TestLayersDropped(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	raw := zipped(t, baseLayer(t))
	dgst := s.blob("team/app", raw)
	path := "/team/app/-/blob/" + dgst.String() + "/files"
	wants(t, "files", s.get(reader, path), 200, "usr/")
	if err := s.store.DeleteBlob(t.Context(), name("team/app"), dgst, store.Actor{}); err != nil {
		t.Fatal(err)
	}
	wants(t, "gone", s.get(reader, path), 404, "No such blob")
	if stored, err := s.store.LayerIndex(dgst); err != nil || stored != nil {
		t.Errorf("%d bytes are still stored, %v", len(stored), err)
	}
	// Of a repository that the viewer may not see it is not there, whatever is remembered.
	s.blob("secret/vault", raw)
	wants(t, "hidden", s.get(admin, "/secret/vault/-/blob/"+dgst.String()+"/files"), 200, "usr/")
	wants(t, "hidden", s.get(reader, path), 404, "No such blob")
	wants(t, "hidden", s.get(reader, "/secret/vault/-/blob/"+dgst.String()+"/files"), 403)
}

func TestInstruction(t *testing.T) {
	for in, want := range map[string][]string{
		"/bin/sh -c #(nop)  CMD [\"sh\"]":                             {`CMD ["sh"]`},
		"/bin/sh -c apt-get update && apt-get install -y x":           {"RUN apt-get update", "&& apt-get install -y x"},
		"RUN /bin/sh -c make # buildkit":                              {"RUN make"},
		"RUN |1 VERSION=2 /bin/sh -c make && make install # buildkit": {"RUN make", "&& make install"},
		"|2 A=1 B=2 /bin/sh -c go build":                              {"RUN go build"},
		"COPY /a /b # buildkit":                                       {"COPY /a /b"},
		"RUN echo 'a && b' && echo \"c && d\" && echo \\\"e":          {"RUN echo 'a && b'", `&& echo "c && d"`, `&& echo \"e`},
		"RUN a     &&   \tb":                                          {"RUN a", "&& b"},
		"bazel build ...":                                             {"bazel build ..."},
		"|3":                                                          {"|3"},
		"":                                                            nil,
		"   ":                                                         nil,
		"RUN [\"/bin/sh\", \"-c\", \"x\"] # buildkit":                 {`RUN ["/bin/sh", "-c", "x"]`},
	} {
		if got := instruction(in); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

// TestFilesLarge: what is too large to be kept is kept for a moment, and an image of such layers is not looked into again and
// again.
func TestFilesLarge(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	_, blobs := s.layered("team/app", "1", "", baseLayer(t), appLayer(t))
	x := s.pages.indexer
	x.known = newCache[digest.Digest, *indexed](1)
	wants(t, "one layer", s.get(reader, "/team/app/-/blob/"+blobs[0].String()+"/files"), 200, "usr/")
	present := must(s.store.Present(t.Context(), name("team/app"), blobs))(t)
	if x.found(present[blobs[0]]) == nil || x.found(present[blobs[1]]) != nil {
		t.Error("the last one that is too large is not kept, or another is")
	}
	wants(t, "the whole image", s.get(reader, "/team/app:1/-/files"), 200, "usr/")
	x.trees = newCache[digest.Digest, *imageTree](1)
	x.costs.put(blobs[0], costed{present[blobs[0]], indexesMax/2 - 1}, 1)
	x.costs.put(blobs[1], costed{present[blobs[1]], 1}, 1)
	wants(t, "just small enough", s.get(reader, "/team/app:1/-/files"), 200, "usr/")
	x.costs.put(blobs[0], costed{present[blobs[0]], indexesMax / 2}, 1)
	x.costs.put(blobs[1], costed{present[blobs[1]], 1}, 1)
	wants(t, "too large", s.get(reader, "/team/app:1/-/files"), 200, "more files than are shown together", "-usr/")
	x.costs.put(blobs[0], costed{store.PresentBlob{}, indexesMax}, 1)
	wants(t, "of another file", s.get(reader, "/team/app:1/-/files"), 200, "usr/")
}
