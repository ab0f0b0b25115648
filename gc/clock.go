package gc

import (
	"context"
	"fmt"
	"time"

	"cubby/store"
)

const (
	// backStep is how far the clock may go back: time servers correct by seconds.
	backStep = 5 * time.Minute
	// jumpStep is how far the clock may be ahead of the uptime that passed. A machine that was off for longer cannot be
	// told from a clock that jumped.
	jumpStep = 24 * time.Hour
	// trustAfter is the uptime after which a clock that jumped forward is believed.
	trustAfter = 24 * time.Hour
)

// A Timer tells the time of day and how long the machine has been up, sleep included. boot is a name of this boot.
type Timer interface {
	Now() time.Time
	Uptime() (boot string, up time.Duration, err error)
}

// ObserveClock compares the clock with what the store remembers and remembers it anew. It returns why the clock is
// implausible, or "". Call it before every collection and now and then between them: the more often, the sooner a clock
// that jumped is believed.
//
// A clock that went back is not remembered: it is implausible until it is right again, or force is set, and then it is
// in doubt like one that jumped. Without remember nothing is written.
func ObserveClock(ctx context.Context, st *store.Store, timer Timer, force, remember bool) (reason string, err error) {
	last, err := st.Clock(ctx)
	if err != nil {
		return "", fmt.Errorf("observe clock: %w", err)
	}
	boot, up, err := timer.Uptime()
	if err != nil {
		return "", fmt.Errorf("observe clock: %w", err)
	}
	next := store.Clock{SeenAt: timer.Now(), Boot: boot, Uptime: up}
	if !force && !last.SeenAt.IsZero() {
		if reason = judge(last, &next); next.SeenAt.Before(last.SeenAt.Add(-backStep)) {
			next.SeenAt, next.DoubtSince, next.TrustedFor = last.SeenAt, last.SeenAt, 0
		}
	}
	if !remember {
		return reason, nil
	}
	return reason, st.SetClock(next)
}

// judge returns why the clock is implausible, or "", and completes next.
func judge(last store.Clock, next *store.Clock) string {
	passed := next.SeenAt.Sub(last.SeenAt)
	up := next.Uptime
	if next.Boot == last.Boot && next.Uptime >= last.Uptime {
		up -= last.Uptime
	}
	if passed < -backStep {
		return fmt.Sprintf("the clock says %s and was at %s before: it went back", stamp(next.SeenAt), stamp(last.SeenAt))
	}
	next.DoubtSince, next.TrustedFor = last.DoubtSince, last.TrustedFor
	switch {
	case passed > up+jumpStep:
		next.DoubtSince, next.TrustedFor = next.SeenAt, 0
	case !next.DoubtSince.IsZero():
		next.TrustedFor += up
	}
	if next.TrustedFor >= trustAfter {
		next.DoubtSince, next.TrustedFor = time.Time{}, 0
	}
	if next.DoubtSince.IsZero() {
		return ""
	}
	return fmt.Sprintf("the clock jumped at %s, by more than the machine was up or back and forth; it is believed after %s more of uptime",
		stamp(next.DoubtSince), (trustAfter - next.TrustedFor).Round(time.Minute))
}

func stamp(t time.Time) string { return t.Local().Format("2006-01-02 15:04") }
