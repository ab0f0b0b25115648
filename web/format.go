package web

import (
	"encoding/json"
	"fmt"
	"html/template"
	"net/url"
	"strings"
	"time"

	"cubby/store/oci"

	"github.com/dustin/go-humanize"
	"github.com/opencontainers/go-digest"
)

// functions are what templates call.
var functions = template.FuncMap{
	"size": size, "sizes": sizes, "bytes": func(n int64) string { return humanize.Comma(n) + " bytes" },
	"count": humanize.Comma, "plural": plural, "plural64": func(n int, one, many string) string { return plural(int64(n), one, many) },
	"add": func(a, b int) int { return a + b }, "add64": func(a int64, b int) int64 { return a + int64(b) }, "neg": func(n int) int { return -n },
	"moment": newMoment, "day": func(t time.Time) string { return t.Local().Format("2 Jan 2006") }, "days": days, "until": untilText,
	"planView": func(lines []PlanLine, now time.Time) planView { return planView{lines, now} },
	"layerRow": func(name oci.Name, row layerRow) layerView { return layerView{name, row, row.Here} },
	"dirView":  func(d *dirData, now time.Time) dirView { return dirView{Dir: d, Now: now} },
	"dirFile":  func(f *fileData, now time.Time) dirView { return dirView{File: f, Now: now} },
	"round":    func(d time.Duration) string { return d.Round(time.Millisecond).String() },
	"short":    shortDigest, "text": func(v any) string { return fmt.Sprint(v) }, "json": jsonText,
	"repositoryPath": repositoryPath, "tagPath": tagPath, "digestPath": digestPath, "blobPath": blobPath,
	"join": strings.Join, "safeURL": webURL, "head": func(all []string, n int) []string { return all[:min(len(all), n)] },
	"platforms": shortPlatforms, "kind": func(k oci.ArtifactKind) string { return kindText(string(k)) },
	"last":       func(parts []namePart) int { return len(parts) - 1 },
	"command":    func(client, text string) command { return command{client, text} },
	"loopback":   isLoopback,
	"moduleFile": func(manifest, name string) string { return manifest + "/-/module/files/" + escapePath(name) },
	"flag": func(https bool, flag string) string {
		if https {
			return ""
		}
		return flag
	},
}

// A planView is a part of a plan, as it is shown now.
type planView struct {
	Lines []PlanLine
	Now   time.Time
}

// A layerView is a layer of a repository, and a dirView what a path names, as parts of pages show them.
type (
	layerView struct {
		Name oci.Name
		Row  layerRow
		Here bool
	}
	dirView struct {
		Dir  *dirData
		File *fileData
		Now  time.Time
	}
)

// untilText returns a day, with the time if that is soon.
func untilText(t, now time.Time) string {
	if t.Sub(now) < 48*time.Hour {
		return t.Local().Format("2 Jan 2006 15:04")
	}
	return t.Local().Format("2 Jan 2006")
}

// kindText returns kinds of artifacts in the words of the pages.
func kindText(kinds ...string) string {
	return strings.ReplaceAll(strings.Join(kinds, ", "), "sbom", "SBOM")
}

// A platformName is a platform in a list, without its operating system where that is the one before.
type platformName struct{ Text, Full string }

func shortPlatforms(all []string, n int) (names []platformName) {
	before := ""
	for _, full := range all[:min(len(all), n)] {
		system, rest, ok := strings.Cut(full, "/")
		if !ok || system != before {
			rest = full
		}
		names, before = append(names, platformName{rest, full}), system
	}
	return names
}

// A moment is a time as pages show it: how long ago, and exactly.
type moment struct {
	Ago, Stamp, Full string
	Never            bool
}

func newMoment(t, now time.Time) moment {
	if t.IsZero() || t.Unix() <= 0 {
		return moment{Never: true}
	}
	return moment{Ago: ago(t, now), Stamp: t.UTC().Format(time.RFC3339), Full: t.Local().Format("2 Jan 2006 15:04:05 MST")}
}

// days returns how long something is kept.
func days(d time.Duration) string {
	const day = 24 * time.Hour
	if d >= day && d%day == 0 {
		return plural(int64(d/day), "day", "days")
	}
	return age(d)
}

// jsonText returns a list of arguments as images have them.
func jsonText(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return ""
	}
	return string(b)
}

// size returns bytes for people, such as 38 MiB.
func size(n int64) string {
	if n < 0 {
		n = 0
	}
	return humanize.IBytes(uint64(n))
}

// sizes returns a range of sizes, in one unit where they have the same.
func sizes(low, high int64) string {
	a, b := size(low), size(high)
	if a == b {
		return b
	}
	number, unit, _ := strings.Cut(a, " ")
	if strings.HasSuffix(b, " "+unit) {
		a = number
	}
	return a + "–" + b
}

func plural(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return humanize.Comma(n) + " " + many
}

// ago returns how long ago a time was, or in how long it will be.
func ago(t, now time.Time) string {
	d := now.Sub(t)
	switch {
	case d < -time.Minute:
		return "in " + age(-d)
	case d < time.Minute:
		return "just now"
	}
	return age(d) + " ago"
}

func age(d time.Duration) string {
	const day = 24 * time.Hour
	units := []struct {
		unit time.Duration
		name string
	}{{365 * day, "year"}, {30 * day, "month"}, {day, "day"}, {time.Hour, "hour"}, {time.Minute, "minute"}}
	for _, u := range units {
		if n := int64(d / u.unit); n > 0 {
			return plural(n, u.name, u.name+"s")
		}
	}
	return "a moment"
}

// shortLength is how many characters of a digest are shown.
const shortLength = 12

func shortDigest(d digest.Digest) string {
	if d == "" {
		return ""
	}
	s := d.Encoded()
	if d.Algorithm() != digest.SHA256 {
		return d.Algorithm().String() + ":" + s[:min(len(s), shortLength)]
	}
	return s[:min(len(s), shortLength)]
}

// A namePart is a component of a repository's name, with the path of the namespace that it ends.
type namePart struct {
	Text, Path string
	Last       bool
}

func nameParts(name oci.Name) (parts []namePart) {
	s := name.String()
	for i := 0; ; {
		j := strings.IndexByte(s[i:], '/')
		if j < 0 {
			return append(parts, namePart{s[i:], repositoryPath(name), true})
		}
		parts = append(parts, namePart{s[i : i+j], namespacePath(s[:i+j+1]), false})
		i += j + 1
	}
}

// webURL returns a link that clients pushed, if it leads to the web, else "".
func webURL(s string) string {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil {
		return ""
	}
	return u.String()
}
