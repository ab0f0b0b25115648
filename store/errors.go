package store

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"cubby/store/oci"

	"github.com/opencontainers/go-digest"
)

// A refusal is an answer of the store about the request, as opposed to a failure of the disk or the database. An
// operation of a commit group that returns one is undone alone; any other error undoes and repeats the whole group.
type refusal string

func (r refusal) Error() string { return string(r) }

// These errors say that something named by the request does not exist, or that its content does not fit.
var (
	ErrNameUnknown         error = refusal("repository not known")
	ErrBlobUnknown         error = refusal("blob not known")
	ErrManifestUnknown     error = refusal("manifest not known")
	ErrManifestBlobUnknown error = refusal("manifest names content that is not in this repository")
	ErrUploadUnknown       error = refusal("upload session not known")
	ErrUploadBusy          error = refusal("another request is writing to this upload session")
	ErrUploadsTooMany      error = refusal("too many open upload sessions")
	ErrRangeInvalid        error = refusal("chunk out of order")
	ErrDigestMismatch      error = refusal("content does not match the digest")
	ErrReceive             error = refusal("content could not be received")
	ErrSizeMismatch        error = refusal("content does not match its length")
	ErrInUse               error = refusal("content is in use")
	ErrPrecondition        error = refusal("precondition failed")
	ErrTarget              error = refusal("backup directory refused")
	ErrHistoryUnknown      error = refusal("not in the history")
	ErrContentDeleted      error = refusal("content deleted")
	ErrImmutable           error = refusal("tag is immutable")
	ErrCursor              error = refusal("this page is not known; begin with the first one")
	ErrSort                error = refusal("order not known")
	ErrCollectionUnknown   error = refusal("collection not known")
	ErrOverwrite           error = refusal("you may make new tags but not move one that is there")
)

// These errors say why the store takes no writes. Reads go on.
var (
	ErrFull     error = refusal("disk full")
	ErrReadOnly error = refusal("store is read-only")
)

// A stateError says why writes are refused, in a sentence for clients. Its cause may name paths: it is for logs and
// errors.Is only.
type stateError struct {
	is       error // ErrFull or ErrReadOnly
	sentence string
	cause    error // may be nil
	// uncertain is set when a commit was tried: it may come back from the write-ahead log at the next start.
	uncertain bool
}

func (e *stateError) Error() string { return e.is.Error() + e.sentence }

func (e *stateError) Unwrap() []error {
	if e.cause == nil {
		return []error{e.is}
	}
	return []error{e.is, e.cause}
}

// mayHaveCommitted reports whether the operation that failed with err may be on disk all the same.
func mayHaveCommitted(err error) bool {
	if e, ok := errors.AsType[*stateError](err); ok {
		return e.uncertain
	}
	return !isRefusal(err)
}

// These errors refuse to open a store; their text tells what to do.
var (
	ErrNoStore = errors.New("no store")
	ErrLocked  = errors.New("data directory is in use")
)

// A MissingError lists the content that a manifest needs and that its repository lacks. It is ErrManifestBlobUnknown.
type MissingError struct{ Digests []digest.Digest }

func (e *MissingError) Error() string {
	return fmt.Sprintf("%v: %d missing, first %s", ErrManifestBlobUnknown, len(e.Digests), e.Digests[0])
}

func (e *MissingError) Unwrap() error { return ErrManifestBlobUnknown }

// An OffsetError tells where an upload session really is. It is ErrRangeInvalid.
type OffsetError struct {
	ID     string
	Offset int64 // bytes received
}

func (e *OffsetError) Error() string {
	return fmt.Sprintf("%v: the session has %d bytes, the next chunk must begin there", ErrRangeInvalid, e.Offset)
}

func (e *OffsetError) Unwrap() error { return ErrRangeInvalid }

// An InUseError names what must be deleted before a blob or manifest may be. It is ErrInUse.
type InUseError struct {
	Digest digest.Digest
	By     []Holder // at most a few; Count tells how many there are
	Count  int64
}

// A Holder is a manifest that names other content.
type Holder struct {
	Digest digest.Digest
	Tags   []string
}

func (e *InUseError) Error() string {
	if len(e.By) == 0 {
		return fmt.Sprintf("%s is in use", e.Digest)
	}
	by := e.By[0]
	who := by.Digest.String()
	if len(by.Tags) > 0 {
		who = strings.Join(by.Tags, ", ") + " (" + who + ")"
	}
	more := ""
	if e.Count > 1 {
		more = fmt.Sprintf(" and %d more", e.Count-1)
	}
	return fmt.Sprintf("%s is part of %s%s; delete that first", e.Digest, who, more)
}

func (e *InUseError) Unwrap() error { return ErrInUse }

// A ContentDeletedError says that a manifest to which the history leads is no longer in the repository, and who removed
// it when, if that is still known. It is ErrContentDeleted.
type ContentDeletedError struct {
	Digest digest.Digest
	At     time.Time // zero when not known
	By     Actor
}

func (e *ContentDeletedError) Error() string {
	if e.At.IsZero() {
		return fmt.Sprintf("%v: %s", ErrContentDeleted, e.Digest)
	}
	who := e.By.Name
	if e.By.Address != "" {
		who += " (" + e.By.Address + ")"
	}
	return fmt.Sprintf("%v at %s by %s: %s", ErrContentDeleted, e.At.Local().Format("2006-01-02 15:04:05 MST"), who, e.Digest)
}

func (e *ContentDeletedError) Unwrap() error { return ErrContentDeleted }

// An ImmutableError says that a rule of the operator forbids to move a tag that is there. It is ErrImmutable.
type ImmutableError struct {
	Tag    oci.Tag
	Rule   string
	Digest digest.Digest // where it is
}

func (e *ImmutableError) Error() string {
	return fmt.Sprintf("%v: rule %q keeps %s at %s; use another tag, or delete that one first", ErrImmutable, e.Rule, e.Tag, e.Digest)
}

func (e *ImmutableError) Unwrap() error { return ErrImmutable }

// A NameUnknownError carries the nearest names that exist, for a helpful message. It is ErrNameUnknown.
type NameUnknownError struct{ Name oci.Name }

func (e *NameUnknownError) Error() string { return fmt.Sprintf("no repository %s here", e.Name) }

func (e *NameUnknownError) Unwrap() error { return ErrNameUnknown }

// isRefusal reports whether err is an answer about the request (see refusal).
func isRefusal(err error) bool {
	_, ok := errors.AsType[refusal](err)
	return ok
}
