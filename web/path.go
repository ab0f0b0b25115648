package web

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"cubby/store/oci"

	"github.com/opencontainers/go-digest"
)

// A place is what kind of page a path names.
type place int

const (
	placeHome place = iota + 1
	placeNamespace
	placeRepository
	placeManifests
	placeHistory
	placeRestore
	placeManifest
	placeLayers
	placeFiles
	placeLayerFiles
	placeReferrers
	placeRaw
	placeRawDownload
	placeFile
	placeBlob
	placeBlobDownload
	placeDelete
	placeDeleteTags
	placeSearch
	placeStorage
	placeCollect
	placeCollection
	placeLogin
	placeLogout
	placeSettings
	placeTheme
	placeSession
	placeHelp
	placeHelpClient
	placeAsset
	placeRobots
	placeIcon

	placeAudit
	placeAuditCSV
	placeUsers
	placeAnonymous
	placeUser
	placeUserGrant
	placeUserRevoke
	placeUserPassword
	placeUserToken
	placeUserRemove
	placeTokens
	placeTokenRevoke

	placeRepositoryReadme
	placeReadme
	placeChartValues
	placeChartSchema
	placeChartTemplates
	placeChartFiles
	placeChartFile
	placeChartDownload

	placeModule
	placeModuleFile
	placeModuleDownload
	placeAbout
)

// A route is a parsed path.
type route struct {
	place     place
	namespace string        // with its last slash, "" for all
	name      oci.Name      // zero where there is none
	ref       oci.Reference // of a manifest; in placeHistory the tag, or zero for all
	digest    digest.Digest // of a blob
	arg       string        // client, asset, user; path of a file in a layer, chart or module package
	id        int64         // of a collection; 0 is the one that runs
}

// hasRef reports whether the route names a tag or a manifest.
func (rt route) hasRef() bool { return rt.ref != (oci.Reference{}) }

// These errors say that a path names no page.
var (
	errPath   = errors.New("there is no such page")
	errMethod = errors.New("method not allowed")
	errForm   = errors.New("the form cannot be read")
	// errConfirm says that nothing was removed.
	errConfirm = errors.New("nothing was removed")
)

// fixed are the pages behind /-/ without a parameter.
var fixed = map[string]place{
	"search": placeSearch, "storage": placeStorage, "storage/gc": placeCollect, "login": placeLogin, "logout": placeLogout,
	"settings": placeSettings, "theme": placeTheme, "session": placeSession, "help": placeHelp,
	"admin/audit": placeAudit, "admin/audit.csv": placeAuditCSV, "admin/users": placeUsers, "admin/anonymous": placeAnonymous,
	"tokens": placeTokens, "tokens/revoke": placeTokenRevoke,
	"about": placeAbout,
}

// parsePath reads the path of a URL. It looks nothing up. Errors wrap errPath, or what is wrong with a name, tag or
// digest.
func parsePath(path string) (route, error) {
	path = strings.TrimPrefix(path, "/")
	switch path {
	case "":
		return route{place: placeHome}, nil
	case "robots.txt":
		return route{place: placeRobots}, nil
	case "favicon.ico":
		return route{place: placeIcon}, nil
	}
	if rest, ok := strings.CutPrefix(path, "-/"); ok {
		if name, ok := strings.CutPrefix(rest, "r/"); ok { // for names that are pages of ours
			return parseReference(name)
		}
		return parseOwn(rest)
	}
	return parseReference(path)
}

func parseOwn(rest string) (route, error) {
	if p, ok := fixed[rest]; ok {
		return route{place: p}, nil
	}
	if client, ok := strings.CutPrefix(rest, "help/"); ok && !strings.Contains(client, "/") {
		return route{place: placeHelpClient, arg: client}, nil
	}
	if file, ok := strings.CutPrefix(rest, "assets/"); ok {
		return route{place: placeAsset, arg: file}, nil
	}
	if text, ok := strings.CutPrefix(rest, "storage/gc/"); ok {
		if text == "running" {
			return route{place: placeCollection}, nil
		}
		if id, err := strconv.ParseInt(text, 10, 64); err == nil && id > 0 {
			return route{place: placeCollection, id: id}, nil
		}
	}
	if user, ok := strings.CutPrefix(rest, "admin/users/"); ok {
		return parseUser(user)
	}
	return route{}, errPath
}

func parseReference(path string) (rt route, err error) {
	left, right, below := strings.Cut(path, "/-/")
	if !below && strings.HasSuffix(left, "/") {
		name, err := oci.ParseName(strings.TrimSuffix(left, "/"))
		return route{place: placeNamespace, namespace: left, name: name}, err
	}
	rt.place = placeRepository
	name, dgst, byDigest := strings.Cut(left, "@")
	tag := ""
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		name, tag = name[:i], name[i+1:]
		rt.place = placeManifest
		if tag == "" {
			return rt, fmt.Errorf("%w: a tag is missing behind the colon", errPath)
		}
	}
	if rt.name, err = oci.ParseName(name); err != nil {
		return rt, err
	}
	if tag != "" {
		if rt.ref.Tag, err = oci.ParseTag(tag); err != nil {
			return rt, err
		}
	}
	if byDigest { // a tag beside it says nothing more, as for docker
		rt.place = placeManifest
		rt.ref = oci.Reference{}
		if rt.ref.Digest, err = oci.ParseDigest(dgst); err != nil {
			return rt, err
		}
	}
	if !below {
		return rt, nil
	}
	if rt.place == placeManifest {
		return rt.belowManifest(right)
	}
	return rt.belowRepository(right)
}

// ofManifest and ofRepository are the pages of a manifest and of a repository without a parameter, by what follows /-/.
var (
	ofManifest = map[string]place{
		"layers": placeLayers, "files": placeFiles,
		"referrers": placeReferrers, "raw": placeRaw, "raw/download": placeRawDownload, "delete": placeDelete,
		"readme": placeReadme, "chart": placeManifest, "chart/readme": placeReadme, "chart/values": placeChartValues, "chart/schema": placeChartSchema,
		"chart/templates": placeChartTemplates, "chart/files": placeChartFiles,
	}
	ofRepository = map[string]place{
		"manifests": placeManifests, "history": placeHistory, "restore": placeRestore, "delete": placeDelete,
		"tags/delete": placeDeleteTags, "readme": placeRepositoryReadme,
	}
)

func (rt route) belowManifest(rest string) (_ route, err error) {
	if p, ok := ofManifest[rest]; ok {
		rt.place = p
		return rt, nil
	}
	if file, ok := strings.CutPrefix(rest, "files/"); ok {
		rt.place, rt.arg = placeFiles, file
		return rt, nil
	}
	if file, ok := strings.CutPrefix(rest, "file/"); ok {
		rt.place = placeFile
		rt.digest, err = oci.ParseDigest(file)
		return rt, err
	}
	if file, ok := strings.CutPrefix(rest, "chart/"); ok {
		return rt.chartFile(file)
	}
	if rest, ok := strings.CutPrefix(rest, "module"); ok && (rest == "" || rest[0] == '/') {
		return rt.parseModule(rest)
	}
	return rt, errPath
}

// chartFile takes the path of a file in a chart.
func (rt route) chartFile(rest string) (route, error) {
	dir, name, _ := strings.Cut(rest, "/")
	switch {
	case name == "" || len(name) > argMax:
		return rt, errPath
	case dir == "templates":
		rt.place, rt.arg = placeChartFile, rest
	case dir == "files":
		rt.place, rt.arg = placeChartFile, name
	case dir == "download":
		rt.place, rt.arg = placeChartDownload, name
	default:
		return rt, errPath
	}
	return rt, nil
}

// argMax bounds the bytes of a file's name in a path.
const argMax = 1000

func (rt route) belowRepository(rest string) (_ route, err error) {
	if p, ok := ofRepository[rest]; ok {
		rt.place = p
		return rt, nil
	}
	if tag, ok := strings.CutPrefix(rest, "history/"); ok {
		rt.place = placeHistory
		rt.ref.Tag, err = oci.ParseTag(tag)
		return rt, err
	}
	if blob, ok := strings.CutPrefix(rest, "blob/"); ok {
		rt.place = placeBlob
		if dgst, file, ok := strings.Cut(blob, "/files"); ok && (file == "" || file[0] == '/') {
			rt.place, rt.arg = placeLayerFiles, strings.TrimPrefix(file, "/")
			rt.digest, err = oci.ParseDigest(dgst)
			return rt, err
		}
		if dgst, ok := strings.CutSuffix(blob, "/download"); ok {
			rt.place, blob = placeBlobDownload, dgst
		}
		rt.digest, err = oci.ParseDigest(blob)
		return rt, err
	}
	return rt, errPath
}

// repositoryPath returns the path of a repository's page.
func repositoryPath(name oci.Name) string {
	switch s := name.String(); s {
	case "v2", "robots.txt", "favicon.ico":
		return "/-/r/" + s
	default:
		if strings.HasPrefix(s, "v2/") {
			return "/-/r/" + s
		}
		return "/" + s
	}
}

// namespacePath returns the path of a namespace's page; it has its last slash.
func namespacePath(namespace string) string {
	if strings.HasPrefix(namespace, "v2/") {
		return "/-/r/" + namespace
	}
	return "/" + namespace
}

// tagPath and digestPath return the path of a manifest's page.
func tagPath(name oci.Name, tag string) string { return repositoryPath(name) + ":" + tag }

func digestPath(name oci.Name, dgst digest.Digest) string {
	return repositoryPath(name) + "@" + dgst.String()
}

func blobPath(name oci.Name, dgst digest.Digest) string {
	return repositoryPath(name) + "/-/blob/" + dgst.String()
}

// path returns the path of the page of the route's manifest, or of its repository.
func (rt route) path() string {
	switch {
	case rt.ref.IsDigest():
		return digestPath(rt.name, rt.ref.Digest)
	case rt.hasRef():
		return tagPath(rt.name, rt.ref.Tag.String())
	}
	return repositoryPath(rt.name)
}
