// Package acme has the test with a real ACME server. It wants pebble, so it stands behind the build tag acme and no other
// run of the tests knows it: scripts/acme.sh brings pebble and runs it.
package acme
