package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"cubby/store/durable"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// groupMax bounds the operations of one commit group.
const groupMax = 256

// A tx is the writer's open transaction. Only the writer goroutine uses it, and only while it runs an operation.
type tx struct {
	ctx  context.Context // the writer's own: a cancelled statement would undo the whole group
	conn *sql.Conn

	statements map[string]*sql.Stmt // prepared on conn
	now        int64                // unix seconds, one value for the whole group
}

func (t *tx) stmt(query string) (*sql.Stmt, error) {
	if s, ok := t.statements[query]; ok {
		return s, nil
	}
	s, err := t.conn.PrepareContext(t.ctx, query)
	if err != nil {
		return nil, err
	}
	t.statements[query] = s
	return s, nil
}

// exec runs a change and returns the number of rows it touched.
func (t *tx) exec(query string, args ...any) (int64, error) {
	s, err := t.stmt(query)
	if err != nil {
		return 0, err
	}
	r, err := s.ExecContext(t.ctx, args...)
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}

// insert runs an INSERT and returns the new row's id.
func (t *tx) insert(query string, args ...any) (int64, error) {
	s, err := t.stmt(query)
	if err != nil {
		return 0, err
	}
	r, err := s.ExecContext(t.ctx, args...)
	if err != nil {
		return 0, err
	}
	return r.LastInsertId()
}

func (t *tx) queryRow(_ context.Context, query string, args ...any) row {
	s, err := t.stmt(query)
	if err != nil {
		return failedRow{err}
	}
	return s.QueryRowContext(t.ctx, args...)
}

func (t *tx) query(_ context.Context, query string, args ...any) (*sql.Rows, error) {
	s, err := t.stmt(query)
	if err != nil {
		return nil, err
	}
	return s.QueryContext(t.ctx, args...)
}

// An operation is a pure function of its transaction: it may be run twice, and nothing it does outside the
// transaction would be undone. What it computes it assigns, never appends, to variables of its caller.
type operation struct {
	run   func(*tx) error
	scope scope
	done  chan error // receives one value, after the commit
}

// A writer owns the one connection that changes the database. What is queued while a commit is on its way to the
// disk runs in one transaction, with a savepoint each, and is answered after the one commit (group commit).
type writer struct {
	pool  *sql.DB
	dir   *durable.Dir // that of the database
	log   *slog.Logger
	now   func() int64 // unix seconds
	probe func() error // says whether the disk takes writes: nil, a full disk, or another error
	full  func(cause error) *stateError
	room  func() bool // makes some when the disk is full, or reports that it cannot
	queue chan *operation
	reads *generations

	failed atomic.Pointer[error] // set once by an I/O error: read-only until restart
	asked  atomic.Int64          // unix nanoseconds; when the last operation came that was not in the background

	// closing guards the queue: senders hold it shared.
	closing sync.RWMutex
	closed  bool
	stopped chan struct{}

	// The goroutine's own.
	tx *tx
}

func newWriter(pool *sql.DB, dir *durable.Dir, log *slog.Logger, now func() int64, probe func() error, full func(error) *stateError, room func() bool, reads *generations) *writer {
	w := &writer{
		pool: pool, dir: dir, log: log, now: now, probe: probe, full: full, room: room, reads: reads,
		queue: make(chan *operation, groupMax), stopped: make(chan struct{}),
	}
	go w.loop()
	return w
}

// do runs an operation in the next commit group and returns when it is on disk, or was refused. It cannot be
// cancelled: the caller may hold a digest's lock, which must cover the commit.
func (w *writer) do(in scope, run func(*tx) error) error {
	w.asked.Store(time.Now().UnixNano())
	return w.enqueue(in, run)
}

const (
	// backgroundTime bounds an operation in the background while nobody else has any, backgroundShort while somebody
	// does: clients' operations queue behind it. Then it also pauses for backgroundPause before the next.
	backgroundTime  = 5 * time.Millisecond
	backgroundShort = time.Millisecond
	backgroundPause = 6 * time.Millisecond
	// backgroundYield is how long after an operation of somebody else the next is expected.
	backgroundYield = 200 * time.Millisecond
)

// background is do for an operation that does as much of its work as it can until a deadline. It gives way to others.
func (w *writer) background(run func(t *tx, deadline time.Time) error) error {
	limit := backgroundTime
	if time.Since(time.Unix(0, w.asked.Load())) < backgroundYield {
		limit = backgroundShort
		time.Sleep(backgroundPause)
	}
	return w.enqueue(scope{}, func(t *tx) error { return run(t, time.Now().Add(limit)) })
}

func (w *writer) enqueue(in scope, run func(*tx) error) error {
	op := &operation{run: run, scope: in, done: make(chan error, 1)}
	w.closing.RLock()
	if w.closed {
		w.closing.RUnlock()
		return &stateError{is: ErrReadOnly, sentence: ": it is closing"}
	}
	w.queue <- op
	w.closing.RUnlock()
	return <-op.done
}

// close answers what is queued and ends the goroutine.
func (w *writer) close() {
	w.closing.Lock()
	if !w.closed {
		w.closed = true
		close(w.queue)
	}
	w.closing.Unlock()
	<-w.stopped
}

func (w *writer) loop() {
	defer close(w.stopped)
	defer w.disconnect()
	for first := range w.queue {
		group := []*operation{first}
	drain:
		for len(group) < groupMax {
			select {
			case op, ok := <-w.queue:
				if !ok {
					break drain
				}
				group = append(group, op)
			default:
				break drain
			}
		}
		w.commit(group)
	}
}

// commit runs a group and answers each operation once. When something other than a refusal goes wrong, everything is
// rolled back and each operation runs in a transaction of its own: one poisoned operation must not cost the others.
// Not so after an I/O error: the commit may be on disk, and running it again would lie about what it found.
func (w *writer) commit(group []*operation) {
	answers, err := w.attempt(group)
	if err != nil {
		err = w.classify(err)
		// SQLite rolled back, so doing it again does nothing twice.
		if isFull(err) && w.room() {
			w.commit(group)
			return
		}
		state, _ := errors.AsType[*stateError](err)
		if len(group) > 1 && (state == nil || state.is == ErrFull && !state.uncertain) {
			for _, op := range group {
				w.commit([]*operation{op})
			}
			return
		}
	}
	for i, op := range group {
		if err != nil {
			op.done <- err
		} else {
			op.done <- answers[i]
		}
	}
}

// attempt runs a group in one transaction. It returns the refusal, or nil, of each operation; or an error, and then
// nothing was committed as far as SQLite knows.
func (w *writer) attempt(group []*operation) (answers []error, err error) {
	if failed := w.failed.Load(); failed != nil {
		return nil, *failed
	}
	if err := w.connect(); err != nil {
		return nil, err
	}
	t := w.tx
	t.now = w.now()
	if _, err := t.exec("BEGIN IMMEDIATE"); err != nil {
		w.disconnect()
		return nil, err
	}
	defer func() {
		if err != nil {
			// After an error of the disk SQLite may have rolled back by itself. Starting over with a fresh
			// connection is right in every case.
			_, _ = t.exec("ROLLBACK")
			w.disconnect()
		}
	}()
	answers = make([]error, len(group))
	if len(group) == 1 {
		// Its refusal undoes all there is: that needs no savepoint, and no copy of the pages that it changes.
		if err = runGuarded(group[0], t); err != nil && isRefusal(err) {
			answers[0] = err
			_, err = t.exec("ROLLBACK")
			return answers, err
		}
		if err != nil {
			return nil, err
		}
	} else {
		for i, op := range group {
			if answers[i], err = t.savepoint(op); err != nil {
				return nil, err
			}
		}
	}
	end := w.reads.begin(group)
	err = w.dir.Commit(fileDB, func() error {
		_, err := t.exec("COMMIT")
		return err
	})
	end()
	if err != nil {
		return nil, fmt.Errorf("commit: %w", err)
	}
	return answers, nil
}

// savepoint runs one operation so that its refusal undoes only its own changes.
func (t *tx) savepoint(op *operation) (answer, err error) {
	if _, err := t.exec("SAVEPOINT operation"); err != nil {
		return nil, err
	}
	if err := runGuarded(op, t); err != nil {
		if !isRefusal(err) {
			return nil, err
		}
		answer = err
		if _, err := t.exec("ROLLBACK TO operation"); err != nil {
			return nil, err
		}
	}
	_, err = t.exec("RELEASE operation")
	return answer, err
}

// runGuarded turns a panic of an operation into its error: the writer goroutine serves everyone.
func runGuarded(op *operation, t *tx) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("operation panicked: %v", p)
		}
	}()
	return op.run(t)
}

func (w *writer) connect() error {
	if w.tx != nil {
		return nil
	}
	ctx := context.Background()
	conn, err := w.pool.Conn(ctx)
	if err != nil {
		return err
	}
	w.tx = &tx{ctx: ctx, conn: conn, statements: make(map[string]*sql.Stmt)}
	// What a savepoint must be able to undo stays in memory: it would go to a file of its own from 64 KiB on. That is
	// little but for a manifest with tens of thousands of tags that goes, at less than a kilobyte for each.
	if _, err := w.tx.exec("PRAGMA temp_store = MEMORY"); err != nil {
		w.disconnect()
		return err
	}
	return nil
}

func (w *writer) disconnect() {
	if w.tx == nil {
		return
	}
	for _, s := range w.tx.statements {
		s.Close()
	}
	// The pool must not hand out the same connection again: what state it is in is not known.
	_ = w.tx.conn.Raw(func(any) error { return driver.ErrBadConn })
	w.tx.conn.Close()
	w.tx = nil
}

// classify decides what a failed transaction means for the store. A full disk heals by itself; any other I/O error
// makes the store read-only until restart, because nothing is known about what reached the disk.
func (w *writer) classify(err error) error {
	if isRefusal(err) {
		return err
	}
	e, ok := errors.AsType[*sqlite.Error](err)
	if !ok {
		return err
	}
	switch e.Code() & 0xff {
	case sqlite3.SQLITE_FULL:
		return w.full(err) // SQLite rolled back
	case sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_READONLY:
		// SQLite reports a full disk as an I/O error where it extends the -shm file.
		if probe := w.probe(); probe != nil && durable.IsFull(probe) {
			full := w.full(err)
			full.uncertain = true
			return full
		}
		failed := stateError{is: ErrReadOnly, sentence: " until restart, after a database error", cause: err}
		later := error(&failed)
		w.failed.Store(&later)
		w.log.Error("database error, store is read-only until restart", "err", err)
		now := failed
		now.uncertain = true
		return &now
	}
	return err
}
