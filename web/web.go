// Package web is the browse UI: pages that show what the registry holds, what it costs, and let people clean it up. They
// are made on the server and work without JavaScript.
//
// A page's URL is the reference of what it shows: /team/api, /team/api:1.9, /team/api@sha256:…. What is no reference
// lives behind /-/, because a lone - is never a part of a repository's name; so nothing can collide.
//
// Whatever clients pushed is a stranger's. It reaches a page only as text that html/template escapes, and a browser as a
// file only as an attachment in a sandbox: it must never run in our origin.
package web

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"cubby/server/auth"
	"cubby/store"
	"cubby/store/oci"

	"github.com/opencontainers/go-digest"
)

// A Config says what the pages show, and hands over what other packages do.
type Config struct {
	Store    *store.Store
	Guard    *auth.Guard
	Log      *slog.Logger // nil: silent
	Version  string       // of the program
	ReadOnly bool         // nothing can be changed

	Collector Collector
	// Clients are those that Connect knows.
	Clients []string
	// Connect returns what a client needs to use the registry at a host; user is who logs in, or "".
	Connect func(ctx context.Context, client, host string, https bool, user string) (string, error)
	// Keep returns how long a manifest of a repository is kept after its last tag went, and after its last use.
	Keep func(oci.Name) (untagged, used time.Duration)
	// Problem tells why the rules that a file says are not in force, or "".
	Problem func() string
	// FreshPassword reports whether the first user still has the password that was made up for it.
	FreshPassword func() bool
	// Every is the time between scheduled collections; 0: there are none.
	Every time.Duration
}

// A Collector plans and carries out what removes more than one thing: its plan is what it then does.
type Collector interface {
	// Plan returns what a collection would do now. With now set keep times end at once.
	Plan(ctx context.Context, now bool) (Plan, error)
	// Collect does it if the plan is still the one of the fingerprint, else it is ErrPlanChanged.
	Collect(ctx context.Context, now bool, fingerprint string, by store.Actor, progress func(done, total int)) (Plan, error)
	// PlanRemoval returns what removing all tags of a repository would do; its Fingerprint is what Remove asks for.
	PlanRemoval(ctx context.Context, name oci.Name) (Plan, error)
	// Remove removes them if the plan is still the one of the fingerprint, and returns how many tags went.
	Remove(ctx context.Context, name oci.Name, fingerprint string, by store.Actor) (tags int64, err error)
}

// ErrPlanChanged says that what was shown is not what would be done now.
var ErrPlanChanged = errors.New("what would be removed has changed since it was shown; look again")

// ErrRefused says that it was not safe to remove anything.
var ErrRefused = errors.New("refused")

// A Plan is what goes and what stays, and why.
type Plan struct {
	Lines       []PlanLine
	Tags        int64 // that go
	Manifests   int64 // that go
	Blobs       int64 // that go
	Frees       int64 // bytes
	Kept        int64 // bytes that are kept for undo
	KeptUntil   time.Time
	Fingerprint string // of what goes
}

// Goes reports whether anything would be removed.
func (p Plan) Goes() bool { return p.Tags+p.Manifests+p.Blobs > 0 }

// A PlanLine is one thing of a plan, as `cubby gc --dry-run` prints it.
type PlanLine struct {
	Remove     bool   // else it is kept
	Kind       string // tag, manifest or blob
	Repository oci.Name
	Tag        string
	Digest     digest.Digest
	Size       int64 // bytes
	Rule       string
	Why        string
	Until      time.Time // kept until
}

// A Handler serves the pages. It is safe for concurrent use. Close it before the store.
type Handler struct {
	Config
	now    func() time.Time
	assets func() *assets

	warnings warnings
	run      collection
	kept     kept
	cache    *cache[string, any] // of what was made from charts and the like, by kind and digest
	// busy is for pages that may take a while, on a connection to the database that the API's clients wait for too.
	busy      turns
	indexer   *indexer
	reads     turns      // of files of layers, one at a time
	makes     turns      // of what cache keeps, see made
	downloads slots      // of files of layers
	people    sync.Mutex // held while a page changes who may do what, see changePeople
	working   sync.WaitGroup
	stop      context.CancelFunc
	ctx       context.Context // of what goes on after its request
}

// New returns the handler of all pages.
func New(c Config) *Handler {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	h := &Handler{
		Config: c, now: time.Now, assets: sync.OnceValue(embedded), cache: newCache[string, any](cacheMax), busy: turns{most: busyWaiting},
		indexer: newIndexer(c.Store), reads: turns{most: readWaiting}, makes: turns{most: madeWaiting},
	}
	h.ctx, h.stop = context.WithCancel(context.Background())
	return h
}

// busyWaiting is how many costly pages of one viewer may wait.
const busyWaiting = 16

// costly waits until no other page is made that may take a while, viewers by turns. Call done at its end; writing the answer
// does too.
func (h *Handler) costly(r *request) (done func(), err error) {
	done, err = h.busy.take(r.Context(), r.who.Quota())
	if err != nil {
		return nil, err
	}
	return r.hold(done), nil
}

// guarded runs a job that no request waits for. A panic in it must not end the registry.
func guarded(job func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return job()
}

// Close ends what goes on in the background, and waits for it.
func (h *Handler) Close() {
	h.stop()
	h.working.Wait()
}

// A request is what a page is made for.
type request struct {
	*http.Request
	who   *auth.Principal
	route route
	held  []func() // gives back what others wait for
}

// hold notes what gives back something that others wait for. It is called at the latest when the answer is written, whose
// client may be slow.
func (r *request) hold(done func()) func() {
	done = sync.OnceFunc(done)
	r.held = append(r.held, done)
	return done
}

func (r *request) release() {
	for _, done := range r.held {
		done()
	}
	r.held = nil
}

// A page shows one kind of URL. It returns an error instead of writing one.
type page func(h *Handler, w http.ResponseWriter, r *request) error

// An access says who may open a page.
type access int

const (
	everybody  access = iota + 1 // also who may do nothing: how to log in, help
	listing                      // who may list repositories; the page shows only those of them that the viewer sees
	pulling                      // who may pull from the repository
	deleting                     // who may delete in it
	restoring                    // who may push to it
	admins                       // who may do everything
	members                      // who is logged in, for what is their own
	settingOwn                   // everybody, for what concerns the viewer's own browser
)

// An entry is what a path does with each method, and who may.
type entry struct {
	get        page
	getAccess  access
	post       page
	postAccess access
}

// pages are all there is, by the place that parsePath finds.
var pages = map[place]entry{
	placeHome:         {get: (*Handler).repositoriesPage, getAccess: listing},
	placeNamespace:    {get: (*Handler).repositoriesPage, getAccess: listing},
	placeRepository:   {get: (*Handler).repositoryPage, getAccess: pulling},
	placeManifests:    {get: (*Handler).manifestsPage, getAccess: pulling},
	placeHistory:      {get: (*Handler).historyPage, getAccess: pulling},
	placeRestore:      {post: (*Handler).restore, postAccess: restoring},
	placeManifest:     {get: (*Handler).manifestPage, getAccess: pulling},
	placeLayers:       {get: (*Handler).layersPage, getAccess: pulling},
	placeFiles:        {get: (*Handler).filesPage, getAccess: pulling},
	placeLayerFiles:   {get: (*Handler).layerFilesPage, getAccess: pulling},
	placeReferrers:    {get: (*Handler).referrersPage, getAccess: pulling},
	placeRaw:          {get: (*Handler).rawPage, getAccess: pulling},
	placeRawDownload:  {get: (*Handler).downloadManifest, getAccess: pulling},
	placeFile:         {get: (*Handler).downloadFile, getAccess: pulling},
	placeBlob:         {get: (*Handler).blobPage, getAccess: pulling},
	placeBlobDownload: {get: (*Handler).downloadBlob, getAccess: pulling},
	placeDelete:       {get: (*Handler).deletePage, getAccess: deleting, post: (*Handler).deleteReference, postAccess: deleting},
	placeDeleteTags:   {get: (*Handler).deleteTagsPage, getAccess: deleting, post: (*Handler).deleteTags, postAccess: deleting},
	placeSearch:       {get: (*Handler).searchPage, getAccess: listing},
	placeStorage:      {get: (*Handler).storagePage, getAccess: listing},
	placeCollect:      {get: (*Handler).collectPage, getAccess: admins, post: (*Handler).collect, postAccess: admins},
	placeCollection:   {get: (*Handler).collectionPage, getAccess: admins},
	placeLogin:        {get: (*Handler).loginPage, getAccess: everybody, post: (*Handler).login, postAccess: everybody},
	placeLogout:       {post: (*Handler).logout, postAccess: settingOwn},
	placeSettings:     {get: (*Handler).settingsPage, getAccess: everybody, post: (*Handler).saveSettings, postAccess: settingOwn},
	placeTheme:        {post: (*Handler).setTheme, postAccess: settingOwn},
	placeSession:      {post: (*Handler).endSession, postAccess: settingOwn},
	placeHelp:         {get: (*Handler).helpPage, getAccess: everybody},
	placeHelpClient:   {get: (*Handler).helpClientPage, getAccess: everybody},
	placeAsset:        {get: (*Handler).asset, getAccess: everybody},
	placeRobots:       {get: (*Handler).robots, getAccess: everybody},
	placeIcon:         {get: (*Handler).icon, getAccess: everybody},

	placeAudit:        {get: (*Handler).auditPage, getAccess: admins},
	placeAuditCSV:     {get: (*Handler).auditCSV, getAccess: admins},
	placeUsers:        {get: (*Handler).usersPage, getAccess: admins, post: (*Handler).addUser, postAccess: admins},
	placeAnonymous:    {post: (*Handler).setAnonymous, postAccess: admins},
	placeUser:         {get: (*Handler).userPage, getAccess: admins},
	placeUserGrant:    {post: (*Handler).grantUser, postAccess: admins},
	placeUserRevoke:   {post: (*Handler).revokeUser, postAccess: admins},
	placeUserPassword: {post: (*Handler).setPassword, postAccess: admins},
	placeUserToken:    {post: (*Handler).revokeUserToken, postAccess: admins},
	placeUserRemove:   {get: (*Handler).removeUserPage, getAccess: admins, post: (*Handler).removeUser, postAccess: admins},
	placeTokens:       {get: (*Handler).tokensPage, getAccess: members, post: (*Handler).makeToken, postAccess: members},
	placeTokenRevoke:  {post: (*Handler).revokeToken, postAccess: members},

	placeRepositoryReadme: {get: (*Handler).repositoryReadmePage, getAccess: pulling},
	placeReadme:           {get: (*Handler).readmePage, getAccess: pulling},
	placeChartValues:      {get: (*Handler).chartValuesPage, getAccess: pulling},
	placeChartSchema:      {get: (*Handler).chartSchemaPage, getAccess: pulling},
	placeChartTemplates:   {get: (*Handler).chartTemplatesPage, getAccess: pulling},
	placeChartFiles:       {get: (*Handler).chartFilesPage, getAccess: pulling},
	placeChartFile:        {get: (*Handler).chartFilePage, getAccess: pulling},
	placeChartDownload:    {get: (*Handler).downloadChartFile, getAccess: pulling},
	placeModule:           {get: (*Handler).modulePage, getAccess: pulling},
	placeModuleFile:       {get: (*Handler).moduleFilePage, getAccess: pulling},
	placeModuleDownload:   {get: (*Handler).downloadModuleFile, getAccess: pulling},
	placeAbout:            {get: (*Handler).aboutPage, getAccess: everybody},
}

// ServePage answers one request. err says why it must be refused, whatever it asks for.
func (h *Handler) ServePage(w http.ResponseWriter, hr *http.Request, who *auth.Principal, err error) {
	r := &request{Request: hr, who: who}
	setSafety(w.Header())
	if who != nil && who.StaleSession {
		http.SetCookie(w, h.Guard.ClearCookie(hr))
	}
	if err == nil {
		err = h.serve(w, r)
	}
	if err != nil {
		h.errorPage(w, r, err)
	}
}

func (h *Handler) serve(w http.ResponseWriter, r *request) error {
	rt, err := parsePath(r.URL.Path)
	if err != nil {
		// Who may do nothing learns nothing, not even which paths could be.
		if denied := h.allow(r, listing); denied != nil {
			return denied
		}
		return err
	}
	r.route = rt
	e := pages[rt.place]
	var p page
	var need access
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		p, need = e.get, e.getAccess
	case http.MethodPost:
		p, need = e.post, e.postAccess
	}
	if p == nil {
		w.Header().Set("Allow", strings.Join(e.methods(), ", "))
		method := r.Method
		if method == http.MethodHead {
			method = http.MethodGet // or the answers would differ
		}
		return fmt.Errorf("%w: %.20q is not possible here", errMethod, method)
	}
	if err := h.allow(r, need); err != nil {
		return err
	}
	if h.ReadOnly && (need == deleting || need == restoring) {
		return fmt.Errorf("%w: the server was started with --read-only", store.ErrReadOnly)
	}
	if r.Method == http.MethodPost {
		if h.ReadOnly && need != settingOwn && need != everybody {
			return fmt.Errorf("%w: the server was started with --read-only", store.ErrReadOnly)
		}
		r.Body = http.MaxBytesReader(w, r.Body, formMax)
		if err := r.ParseForm(); err != nil {
			return fmt.Errorf("%w: %w", errForm, err)
		}
	}
	err = p(h, w, r)
	if r.Method == http.MethodPost {
		h.forgetKept()
	}
	return err
}

// formMax bounds the bytes of a form: the names of some hundred tags.
const formMax = 256 << 10

func (e entry) methods() (all []string) {
	if e.get != nil {
		all = append(all, http.MethodGet, http.MethodHead)
	}
	if e.post != nil {
		all = append(all, http.MethodPost)
	}
	return all
}

// allow asks the guard, as the API does. What changes something wants more: somebody who logged in, or this machine.
func (h *Handler) allow(r *request, need access) error {
	name := r.route.name
	if need == everybody || need == settingOwn {
		return nil
	}
	// What is not listed is no action, which the guard refuses.
	action := map[access]auth.Action{listing: auth.List, pulling: auth.Pull, deleting: auth.Delete, restoring: auth.Push, admins: auth.List, members: auth.List}[need]
	err := h.Guard.Authorize(r.who, action, name)
	if err == nil && (need == deleting || need == restoring) {
		// These pages show what is there, and tell it when they refuse.
		err = h.Guard.Authorize(r.who, auth.Pull, name)
	}
	if need == listing && r.who.AnonymousAllowed() {
		err = nil // clients must be told to log in, or they never do; a visitor sees what is open, and a link
	}
	if err == nil && need >= deleting && !r.who.MayChange() {
		err = fmt.Errorf("%w: log in to change anything here", auth.ErrUnauthorized)
	}
	if err == nil && need == admins && !r.who.IsAdmin() {
		err = fmt.Errorf("%w: %s is no administrator", auth.ErrDenied, r.who.Name)
	}
	if err != nil {
		h.Guard.Denied(r.who, r.Request, name)
	}
	return err
}

// may reports whether the viewer may do something to the repository of the request, to show only what works.
func (h *Handler) may(r *request, a store.Actions) bool {
	return !h.ReadOnly && r.who.MayChange() && r.who.May(a, r.route.name)
}

// now30 is the beginning of the 30 days for which pulls are shown.
func (h *Handler) now30() time.Time { return h.now().Add(-pullDays * 24 * time.Hour) }

// pullDays is for how many days pulls are shown.
const pullDays = 30
