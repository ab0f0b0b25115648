package web

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"

	"cubby/store/oci"
	"cubby/web/chart"

	"github.com/opencontainers/go-digest"
)

// Media types of a Helm chart; the older one of the archive is that of Helm before 3.7.
const (
	chartConfigType     = "application/vnd.cncf.helm.config.v1+json"
	chartArchiveType    = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
	chartArchiveOld     = "application/tar+gzip"
	chartProvenanceType = "application/vnd.cncf.helm.chart.provenance.v1.prov"
)

// chartParts are the blobs of a chart; a digest is "" where the manifest names none.
type chartParts struct {
	Config, Archive, Provenance digest.Digest
}

// chartConfigMax bounds the bytes of a chart's configuration that are read.
const chartConfigMax = 256 << 10

// chartOf returns the parts of a chart, or nil for what is none.
func chartOf(ds descriptors) *chartParts {
	if ds.Config == nil || ds.Config.MediaType != chartConfigType {
		return nil
	}
	c := chartParts{Config: ds.Config.Digest}
	for _, l := range ds.Layers {
		switch {
		case (l.MediaType == chartArchiveType || l.MediaType == chartArchiveOld) && c.Archive == "":
			c.Archive = l.Digest
		case l.MediaType == chartProvenanceType && c.Provenance == "":
			c.Provenance = l.Digest
		}
	}
	return &c
}

// chart returns what the archive of a chart holds. That the blob is in the repository, which the viewer may pull from, is
// asked each time, before the cache is.
func (h *Handler) chart(r *request, parts *chartParts) (*chart.Chart, error) {
	if parts.Archive == "" {
		return &chart.Chart{Problems: []string{"The manifest names no archive of a chart."}}, nil
	}
	b, err := h.openHere(r, parts.Archive)
	if b == nil {
		return &chart.Chart{Problems: []string{"The archive of the chart is not stored here."}}, err
	}
	defer b.Close()
	return made(h, r, "chart "+parts.Archive.String(), func() (*chart.Chart, int64, error) {
		c, err := chart.Read(r.Context(), b, b.Size)
		if errors.Is(err, chart.ErrSlow) {
			return &chart.Chart{Problems: []string{"The archive of the chart took too long to read."}}, -1, nil
		}
		if err != nil {
			return nil, 0, err
		}
		return c, c.Bytes(), nil
	})
}

// chartReadme is a readmeReader.
func (h *Handler) chartReadme(r *request, m artifact) (readme, error) {
	parts := chartOf(readDescriptors(m.Raw))
	if parts == nil {
		return readme{}, nil
	}
	c, err := h.chart(r, parts)
	if err != nil {
		return readme{}, err
	}
	if len(c.Files) == 0 && len(c.Problems) > 0 {
		return readme{Name: "README.md", Problem: c.Problems[0]}, nil
	}
	if c.Readme.Problem != "" {
		return readme{Name: c.Readme.Name, Problem: c.Readme.Problem}, nil
	}
	if c.Readme.Text == "" {
		return readme{}, nil
	}
	return made(h, r, "chart readme "+parts.Archive.String(), func() (readme, int64, error) {
		text := layOut(c.Readme.Name, c.Readme.Text)
		return text, text.size(), nil
	})
}

// chartView is what the overview of a manifest shows of a chart.
type chartView struct {
	*chart.Chart
	Meta        chart.Meta        // as the configuration of the manifest has it, where the archive cannot be read
	Annotations map[string]string // of the manifest
	Parts       *chartParts
	Here        map[string]string // paths of the repositories that are named and that the viewer may see, by what names them
}

// readChart adds to the overview what the chart says. It takes at most two statements.
func (h *Handler) readChart(r *request, v *view, d *manifestData) error {
	c, err := h.chart(r, d.Head.Chart)
	if err != nil {
		return err
	}
	d.Chart = &chartView{Chart: c, Meta: c.Meta, Annotations: d.Head.Facts.Annotations, Parts: d.Head.Chart}
	if c.Meta.Name == "" {
		text, err := h.readText(r, d.Head.Chart.Config, chartConfigMax)
		if err != nil {
			return err
		}
		d.Chart.Meta, _ = chart.ReadMeta([]byte(text))
		return nil
	}
	d.Chart.Here, err = h.hereOf(r, v.Host, c)
	return err
}

// chartRepository returns the name of the repository that a dependency comes from, if it is one of this host.
func chartRepository(host string, d chart.Dependency) (oci.Name, bool) {
	u, err := url.Parse(d.Repository)
	if err != nil || u.Scheme != "oci" || u.User != nil || !strings.EqualFold(u.Host, host) {
		return oci.Name{}, false
	}
	name, err := oci.ParseName(strings.Trim(u.Path+"/"+d.Name, "/"))
	return name, err == nil
}

func imageRepository(host string, i chart.Image) (oci.Name, bool) {
	if !strings.EqualFold(i.Registry, host) {
		return oci.Name{}, false
	}
	name, err := oci.ParseName(i.Repository)
	return name, err == nil
}

// hereOf returns the paths of what a chart names and is here, by what the chart calls it. What the viewer may not see is
// not even looked for.
func (h *Handler) hereOf(r *request, host string, c *chart.Chart) (map[string]string, error) {
	names := make(map[string]oci.Name)
	for _, d := range c.Meta.Dependencies {
		if name, ok := chartRepository(host, d); ok && r.who.Sees(name) {
			names[d.Repository+" "+d.Name] = name
		}
	}
	for _, i := range c.Images {
		if name, ok := imageRepository(host, i); ok && r.who.Sees(name) {
			names[i.String()] = name
		}
	}
	if len(names) == 0 {
		return nil, nil
	}
	var ask []oci.Name
	for _, name := range names {
		ask = append(ask, name)
	}
	known, err := h.Store.Known(r.Context(), ask)
	if err != nil {
		return nil, err
	}
	there := make(map[oci.Name]bool)
	for _, name := range known {
		there[name] = true
	}
	here := make(map[string]string)
	for key, name := range names {
		if there[name] {
			here[key] = repositoryPath(name)
		}
	}
	return here, nil
}

// Link returns the path of a dependency that is here, or "".
func (c chartView) Link(d chart.Dependency) string { return c.Here[d.Repository+" "+d.Name] }

// ImageLink is the same for an image.
func (c chartView) ImageLink(i chart.Image) string { return c.Here[i.String()] }

// chartData is what the pages of a chart's files show.
type chartData struct {
	Head  manifestHead
	Chart *chart.Chart
	Path  string // in front of the names of files
	File  *chart.File
	Lines []line
	Cut   bool
}

// chartPage makes one of the pages of a chart.
func (h *Handler) chartPage(w http.ResponseWriter, r *request, tab, template, title string, show func(d *chartData) error) error {
	head, err := h.manifestHead(r, tab)
	if err != nil {
		return err
	}
	if head.Chart == nil {
		return fmt.Errorf("%w: the manifest is no chart", errPath)
	}
	d := chartData{Head: head, Path: head.ByDigest + "/-/chart/"}
	if d.Chart, err = h.chart(r, head.Chart); err != nil {
		return err
	}
	if err := show(&d); err != nil {
		return err
	}
	v := h.view(w, r, title+" · "+r.route.ref.String()+" · "+r.route.name.String(), &d)
	v.Section = "repositories"
	return h.render(w, r, http.StatusOK, template, v)
}

func (h *Handler) chartValuesPage(w http.ResponseWriter, r *request) error {
	return h.chartPage(w, r, "values", "chart-file", "Values", func(d *chartData) error {
		d.show(d.Chart.Values)
		return nil
	})
}

func (h *Handler) chartSchemaPage(w http.ResponseWriter, r *request) error {
	return h.chartPage(w, r, "schema", "chart-schema", "Schema", func(*chartData) error { return nil })
}

func (h *Handler) chartTemplatesPage(w http.ResponseWriter, r *request) error {
	return h.chartPage(w, r, "templates", "chart-templates", "Templates", func(*chartData) error { return nil })
}

func (h *Handler) chartFilesPage(w http.ResponseWriter, r *request) error {
	return h.chartPage(w, r, "files", "chart-files", "Files", func(*chartData) error { return nil })
}

// chartFilePage shows one file: a template, or any other.
func (h *Handler) chartFilePage(w http.ResponseWriter, r *request) error {
	tab := "files"
	if strings.HasPrefix(r.route.arg, "templates/") {
		tab = "templates"
	}
	return h.chartPage(w, r, tab, "chart-file", r.route.arg, func(d *chartData) error {
		f, ok := d.Chart.File(r.route.arg)
		if !ok {
			return fmt.Errorf("%w: the chart has no file of this name", errPath)
		}
		d.show(f)
		return nil
	})
}

func (d *chartData) show(f chart.File) {
	if f.Name == "" {
		return
	}
	d.File = &f
	d.Lines, d.Cut = textLines(f.Text)
}

// Listed returns the files that a list shows, and Rest how many there are more.
func (d chartData) Listed(all []chart.File) []chart.File { return all[:min(len(all), entriesMax)] }

func (d chartData) Rest(all []chart.File) int { return max(0, len(all)-entriesMax) }

// FilePath returns the path of the page of a file.
func (d chartData) FilePath(name string) string {
	if !strings.HasPrefix(name, "templates/") {
		name = "files/" + name
	}
	return d.Path + (&url.URL{Path: name}).EscapedPath()
}

// Download returns the path that sends a file.
func (d chartData) Download(name string) string {
	return d.Path + "download/" + (&url.URL{Path: name}).EscapedPath()
}

// downloadChartFile sends a file of a chart.
func (h *Handler) downloadChartFile(w http.ResponseWriter, r *request) error {
	m, err := h.Store.Manifest(r.Context(), r.route.name, r.route.ref, true)
	if err != nil {
		return err
	}
	parts := chartOf(readDescriptors(m.Raw))
	if parts == nil {
		return fmt.Errorf("%w: the manifest is no chart", errPath)
	}
	c, err := h.chart(r, parts)
	if err != nil {
		return err
	}
	f, ok := c.File(r.route.arg)
	if !ok || f.Text == "" && f.Problem != "" {
		return fmt.Errorf("%w: the chart has no file of this name that can be sent alone", errPath)
	}
	sum := digest.FromString(f.Text)
	attach(w.Header(), fileName(path.Base(f.Name), sum), sum)
	http.ServeContent(w, r.Request, "", time.Time{}, strings.NewReader(f.Text))
	return nil
}

// A tab is one of a manifest's pages that not every manifest has.
type tab struct{ Key, Text, Path string }

// addTabs adds the pages that the kind of the manifest has, as far as the manifest itself tells.
func (m *manifestHead) addTabs(ds descriptors) {
	m.Chart = chartOf(ds)
	at := m.ByDigest + "/-/"
	if m.Chart != nil {
		m.Tabs = append(m.Tabs, tab{"values", "Values", at + "chart/values"}, tab{"schema", "Schema", at + "chart/schema"},
			tab{"templates", "Templates", at + "chart/templates"}, tab{"readme", "README", at + "chart/readme"}, tab{"files", "Files", at + "chart/files"})
		return
	}
	if m.Facts.Kind == oci.KindContainer { // also an index of some: its pages ask which
		m.Tabs = append(m.Tabs, tab{"layers", "Layers", at + "layers"}, tab{"files", "Files", at + "files"})
	}
	if m.Facts.Kind == oci.KindModule {
		m.Tabs = append(m.Tabs, tab{"module", "Module", at + "module"}) // with the README on it
		return
	}
	if _, ok := readmeFile(ds); ok {
		m.Tabs = append(m.Tabs, tab{"readme", "README", at + "readme"})
	}
}

func (m *manifestHead) hasTab(key string) bool {
	for _, t := range m.Tabs {
		if t.Key == key {
			return true
		}
	}
	return false
}
