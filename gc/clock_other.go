//go:build !linux

package gc

import "time"

// started is when this process began, the only uptime that Go tells on every system.
var started = time.Now()

// SystemTimer is the machine's own clock.
type SystemTimer struct{}

// Now returns the time of day.
func (SystemTimer) Now() time.Time { return time.Now() }

// Uptime returns the time since this process began, under a name of its own.
func (SystemTimer) Uptime() (string, time.Duration, error) {
	return started.Format(time.RFC3339Nano), time.Since(started), nil
}
