package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"cubby/store/oci"

	"modernc.org/sqlite"
)

// applicationID marks the database as ours ("Cuby"); SQLite keeps it in the file header.
const applicationID = 0x43756279

//go:embed migrations/*.sql
var migrationFiles embed.FS

// lockFix must run before the process opens its first database: with POSIX locks, closing any other descriptor of
// the database file would drop SQLite's locks. -shm locks stay POSIX, so nothing here opens cubby.db* but SQLite.
var lockFix = sync.OnceFunc(func() { _, _ = sqlite.OFDLocking(true) })

// migrationFunctions must run before the process opens its first database. trusted_schema is off, and nothing in the schema
// uses them: other programs must be able to open the file.
var migrationFunctions = sync.OnceFunc(func() {
	sqlite.MustRegisterDeterministicScalarFunction("cubby_tag_order", 1, func(_ *sqlite.FunctionContext, args []driver.Value) (driver.Value, error) {
		name, ok := args[0].(string)
		if !ok {
			return nil, errors.New("cubby_tag_order wants a text")
		}
		return oci.TagOrder(name), nil
	})
})

// A database is the writer connection and the pool of readers of one file.
type database struct {
	write *sql.DB // one connection, owned by the writer goroutine
	read  *sql.DB

	prepared sync.Map     // query text → *sql.Stmt on the read pool
	count    atomic.Int64 // statements that the read pool ran
}

// dsn returns the data source name of a connection. Every pragma is in it, because the pool discards connections
// after a cancelled query and opens fresh ones.
func dsn(path string, params ...string) string {
	v := url.Values{}
	for _, p := range append(params, "_busy_timeout=5000", "_foreign_keys=1", "_dqs=0", "_defensive=1",
		"_pragma=trusted_schema(0)", "_pragma=cell_size_check(1)", "_pragma=mmap_size(0)") {
		k, val, _ := strings.Cut(p, "=")
		v.Add(k, val)
	}
	u := url.URL{Scheme: "file", Path: path, RawQuery: v.Encode()}
	return u.String()
}

// openDatabase opens, and for the writer of a new store creates, the database, migrates it and checks that each
// pool runs with the settings that durability rests on. The writer opens first: the first open converts to WAL under
// an exclusive lock that busy_timeout does not wait for.
//
// Only with create is a database made: a file that was removed behind our back must not come back empty.
func openDatabase(ctx context.Context, path string, create, readOnly bool) (_ *database, err error) {
	lockFix()
	migrationFunctions()
	mode := "mode=rw"
	if create {
		mode = "mode=rwc"
	}
	db := &database{}
	defer func() {
		if err != nil {
			db.close()
		}
	}()
	if db.write, err = sql.Open("sqlite", dsn(path, mode, "_txlock=immediate", "_journal_mode=WAL", "_synchronous=FULL",
		"_pragma=wal_autocheckpoint(1000)", "_pragma=journal_size_limit(67108864)")); err != nil {
		return nil, err
	}
	db.write.SetMaxOpenConns(1)
	if err := db.migrate(ctx, path, readOnly); err != nil {
		return nil, err
	}
	if db.read, err = sql.Open("sqlite", dsn(path, "mode=rw", "_query_only=1", "_txlock=deferred", "_synchronous=FULL",
		"_pragma=cache_size(-512)")); err != nil {
		return nil, err
	}
	n := min(max(runtime.GOMAXPROCS(0), 2), 4)
	db.read.SetMaxOpenConns(n)
	db.read.SetMaxIdleConns(n)
	for _, pool := range []*sql.DB{db.write, db.read} {
		if err := verifyPragmas(ctx, pool); err != nil {
			return nil, err
		}
	}
	return db, nil
}

func (db *database) close() error {
	var errs []error
	// Readers first: the last connection to close checkpoints the WAL and removes it, and must be able to write.
	for _, pool := range []*sql.DB{db.read, db.write} {
		if pool != nil {
			errs = append(errs, pool.Close())
		}
	}
	return errors.Join(errs...)
}

// verifyPragmas reads back what the DSN asked for: an older or changed driver may ignore a parameter silently.
func verifyPragmas(ctx context.Context, pool *sql.DB) error {
	for pragma, want := range map[string]string{
		"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1", "busy_timeout": "5000",
	} {
		var got string
		if err := pool.QueryRowContext(ctx, "PRAGMA "+pragma).Scan(&got); err != nil {
			return fmt.Errorf("read back %s: %w", pragma, err)
		}
		if got != want {
			return fmt.Errorf("database setting %s is %s and must be %s: refusing to run without it", pragma, got, want)
		}
	}
	return nil
}

// migrate brings the schema to the newest version, each step in a transaction of its own with its version. Before
// changing an existing database it is copied to cubby.db.before-N.
func (db *database) migrate(ctx context.Context, path string, readOnly bool) error {
	files, err := fs.Glob(migrationFiles, "migrations/*.sql")
	if err != nil {
		return err
	}
	var appID, version int
	if err := db.write.QueryRowContext(ctx, "PRAGMA application_id").Scan(&appID); err != nil {
		return err
	}
	if err := db.write.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return err
	}
	switch {
	case appID != applicationID && (appID != 0 || version != 0):
		return fmt.Errorf("%s is a database of another program; give another data directory", path)
	case version < 0:
		return fmt.Errorf("%s is damaged, its schema is %d; restore it from a backup", path, version)
	case version > len(files):
		return fmt.Errorf("%s was written by a newer cubby (schema %d, this one knows %d); run that version", path, version, len(files))
	case version == len(files):
		return nil
	case readOnly:
		return fmt.Errorf("%s has schema %d and needs %d; start once without --read-only to migrate it", path, version, len(files))
	case version > 0:
		if err := backupBefore(ctx, db.write, path, version+1); err != nil {
			return err
		}
	}
	for i := version; i < len(files); i++ {
		if err := db.step(ctx, files[i], i+1); err != nil {
			return fmt.Errorf("migrate to schema %d: %w", i+1, err)
		}
	}
	return nil
}

func backupBefore(ctx context.Context, pool *sql.DB, path string, next int) error {
	backup := path + ".before-" + strconv.Itoa(next)
	// A copy left by a migration that was cut may be incomplete; the database itself is still the old version.
	if err := os.Remove(backup); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if _, err := pool.ExecContext(ctx, "VACUUM INTO ?", backup); err != nil {
		return fmt.Errorf("copy database before migration: %w", err)
	}
	return syncPath(backup, filepath.Dir(backup))
}

// syncPath makes files and directories durable that something else wrote.
func syncPath(paths ...string) error {
	for _, p := range paths {
		f, err := os.Open(p)
		if err != nil {
			return err
		}
		err = f.Sync()
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	return nil
}

func (db *database) step(ctx context.Context, file string, version int) error {
	ddl, err := migrationFiles.ReadFile(file)
	if err != nil {
		return err
	}
	tx, err := db.write.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if _, err := tx.ExecContext(ctx, string(ddl)); err != nil {
		return err
	}
	// Pragmas take no bound parameters; both values are our own integers.
	header := "PRAGMA application_id = " + strconv.Itoa(applicationID) + "; PRAGMA user_version = " + strconv.Itoa(version)
	if _, err := tx.ExecContext(ctx, header); err != nil {
		return err
	}
	return tx.Commit()
}

// A querier runs reads: on the reader pool, or inside the writer's transaction, so that a question is written once.
type querier interface {
	queryRow(ctx context.Context, query string, args ...any) row
	query(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// A row is the one result of a query.
type row interface{ Scan(dest ...any) error }

// failedRow is the row of a query that could not be prepared.
type failedRow struct{ err error }

func (r failedRow) Scan(...any) error { return r.err }

// stmt returns the statement of a query, prepared once per pool (13 instead of 27 µs of CPU per lookup). The set of
// texts is fixed by the source, so the map stays small.
func (db *database) stmt(ctx context.Context, query string) (*sql.Stmt, error) {
	if s, ok := db.prepared.Load(query); ok {
		return s.(*sql.Stmt), nil
	}
	s, err := db.read.PrepareContext(ctx, query)
	if err != nil {
		return nil, err
	}
	if other, loaded := db.prepared.LoadOrStore(query, s); loaded {
		s.Close()
		return other.(*sql.Stmt), nil
	}
	return s, nil
}

func (db *database) queryRow(ctx context.Context, query string, args ...any) row {
	s, err := db.stmt(ctx, query)
	if err != nil {
		return failedRow{err}
	}
	db.count.Add(1)
	return s.QueryRowContext(ctx, args...)
}

func (db *database) query(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	s, err := db.stmt(ctx, query)
	if err != nil {
		return nil, err
	}
	db.count.Add(1)
	return s.QueryContext(ctx, args...)
}

// Statements returns how many statements the read pool has run so far, so that a test can hold a page to its budget.
func (s *Store) Statements() int64 { return s.db.count.Load() }

// collect reads all rows of a query. Its queries are bounded by LIMIT or by what one manifest holds.
func collect[T any](ctx context.Context, q querier, scan func(row) (T, error), query string, args ...any) ([]T, error) {
	rows, err := q.query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []T
	for rows.Next() {
		v, err := scan(rows)
		if err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return all, rows.Err()
}
