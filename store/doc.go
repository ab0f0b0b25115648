// Package store is what the registry knows and keeps: metadata in SQLite, blobs as plain files. It is the only code
// that speaks SQL or touches blob files. It knows nothing of HTTP.
//
// # Where things are
//
//	<data>/cubby.db            repositories, tags, manifests with their bytes, reference counts, tag history
//	<data>/blobs/store.json    the sentinel: the id that the database must have too
//	<data>/blobs/sha256/ab/…   blobs by digest, shared by all repositories; sha512 likewise
//	<data>/blobs/.uploads/…    bytes of open upload sessions
//	<data>/index/…             what pages found out about blobs, thrown away with them; no part of a backup
//	<data>/reserve             given up when the disk is full to the last byte, so that deletes can commit
//	<data>/tmp                 SQLite's temporary files, emptied at start
//	<data>/lock                held by the owner, with its pid and role
//	<data>/cubby.sock          the admin socket of a running server
//
// # Invariants
//
// Check verifies I2, I3, I5 and I6; the fault tests verify all.
//
//	I1  every acknowledged write survives a crash and a power cut
//	I2  no blob row without a file of the right size and digest
//	I3  every tag resolves, through all its manifests, to complete content, except what was never pushed (sparse)
//	I4  bytes that nobody refers to are gone at most two collections after their keep time
//	I5  a digest is never served with other bytes; a short file counts as other bytes
//	I6  stored reference counts equal counts made anew from the manifests
//
// # Order
//
// Put: the file is durable, then its row is committed, then the caller is answered (commitBlob names the crash that each
// step survives). So a row always has its file; a file without a row is garbage, not damage.
//
// Delete: the row is committed gone, then the file is unlinked, holding the digest's lock and after asking once more
// that no row came back (unlinkBlob). So the same digest can be pushed meanwhile.
//
// Recovery: Open empties tmp and removes uploads that no session claims. Nothing else ever needs repair. A blob whose
// file is missing, short, or was found by Check to have other bytes, is answered as absent, and the next push of its digest
// puts it right.
//
// # Locks
//
// In this order, and never while waiting for the network: an upload session's turn, a digest's lock, the writer. The
// writer goroutine owns the one connection that changes the database; operations queue to it as functions of a
// transaction, and what is queued commits together (writer.go). Such a function must be pure: it may run twice.
//
// # Counts and leases
//
// repository_blobs.refs and manifests.refs count the distinct manifests of the repository that name a digest in any
// field. References are stored by digest, so what is pushed after the manifest that names it starts with the right
// count. Whoever was told "this blob is here" can put a manifest naming it for at least half of Lease: keep_until holds
// the blob while refs is zero.
//
// # What pages show
//
// What a manifest is (manifest_facts), its labels, the order of tags and the sums of a repository are written in the
// transactions that change them, so that no page computes them; the config of an image is read before its manifest's
// transaction. They decide nothing: a manifest that is not described is served as any other. What older versions have put
// is described in the background (facts.go).
//
// # Limitations
//
// The modification of files below blobs/ by anyone else is found by Check only, and what it found is forgotten at a
// restart. Network file systems are refused on Linux, and not recognised elsewhere. Upload sessions are saved a second
// after they fall idle: a crash before that loses them, and their clients begin again.
package store
