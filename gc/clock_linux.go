package gc

import (
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// SystemTimer is the machine's own clock.
type SystemTimer struct{}

// Now returns the time of day.
func (SystemTimer) Now() time.Time { return time.Now() }

// Uptime returns the kernel's boot id and the time since boot.
func (SystemTimer) Uptime() (string, time.Duration, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return "", 0, err
	}
	// In a chroot without /proc every boot has the same name; then uptime tells a new boot by being less.
	id, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(id)), time.Duration(ts.Nano()), nil
}
