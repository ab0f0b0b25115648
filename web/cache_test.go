package web

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
)

func TestCache(t *testing.T) {
	t.Parallel()
	c := newCache[string, int](100)
	has := func(step string, want ...string) {
		t.Helper()
		var got []string
		for _, k := range []string{"a", "b", "c", "d"} {
			if e, ok := c.at[k]; ok && e.Value.(*cached[string, int]).key == k { // without asking for it
				got = append(got, k)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: kept %v, want %v", step, got, want)
		}
	}
	c.put("a", 1, 40)
	c.put("b", 2, 40)
	has("room for both", "a", "b")
	if v, ok := c.get("a"); !ok || v != 1 {
		t.Errorf("a is %d, %v", v, ok)
	}
	c.put("c", 3, 40)
	has("b was not asked for longest", "a", "c")
	c.put("d", 4, 101)
	has("too large to be kept", "a", "c")
	c.put("a", 5, 101)
	has("the old value of what is too large is no longer true", "c")
	c.put("c", 6, 50)
	c.put("b", 7, 50)
	has("exactly full", "b", "c")
	if v, ok := c.get("c"); !ok || v != 6 {
		t.Errorf("c is %d, %v", v, ok)
	}
	if _, ok := c.get("none"); ok {
		t.Error("found what is not there")
	}
}

// TestTurns: one at a time, viewers by turns, and who gives up stands in nobody's way.
func TestTurns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := turns{most: 3}
		done, err := q.take(t.Context(), "x")
		if err != nil {
			t.Fatal(err)
		}
		var order []string
		leave, cancel := context.WithCancel(t.Context())
		wait := func(ctx context.Context, viewer, what string) {
			go func() {
				next, err := q.take(ctx, viewer)
				if err != nil {
					order = append(order, what+" gave up")
					return
				}
				order = append(order, what)
				next()
			}()
			synctest.Wait()
		}
		wait(t.Context(), "greedy", "g1")
		wait(t.Context(), "greedy", "g2")
		wait(t.Context(), "greedy", "g3")
		if _, err := q.take(t.Context(), "greedy"); !errors.Is(err, errTurns) {
			t.Errorf("a fourth: %v, want errTurns", err)
		}
		wait(leave, "leaver", "l")
		wait(t.Context(), "modest", "m")
		cancel()
		synctest.Wait()
		done()
		done() // once more does nothing
		synctest.Wait()
		if want := []string{"l gave up", "g1", "m", "g2", "g3"}; !slices.Equal(order, want) {
			t.Errorf("order %v, want %v", order, want)
		}
		if done, err := q.take(t.Context(), "x"); err != nil || len(q.order)+len(q.waiting) > 0 {
			t.Errorf("afterwards: %v, %v, %v", err, q.order, q.waiting)
		} else {
			done()
		}
		if q.taken {
			t.Error("still taken")
		}
	})
}
