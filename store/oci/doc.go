// Package oci holds the words of the OCI specifications as types: repository names, tags, digests, references and
// parsed manifests. It does no I/O. A value that must be valid is made only by its parser, so code that holds a Name,
// a Tag or a Manifest need not check it again.
package oci
