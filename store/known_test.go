package store

import (
	"fmt"
	"testing"

	"cubby/store/oci"
)

func TestKnown(t *testing.T) {
	s := newShelf(t)
	s.image("team/b", "amd64", "1", "1")
	s.image("team/a", "amd64", "1", "1")
	for _, tt := range []struct {
		ask  []string
		want string
	}{
		{nil, "[]"}, {[]string{"team/none"}, "[]"}, {[]string{"team/b", "team/none", "team/a", "team/b"}, "[team/a team/b]"}, {[]string{"team"}, "[]"},
	} {
		var names []oci.Name
		for _, n := range tt.ask {
			name, err := oci.ParseName(n)
			if err != nil {
				t.Fatal(err)
			}
			names = append(names, name)
		}
		got, err := s.Known(t.Context(), names)
		if err != nil || fmt.Sprint(got) != tt.want {
			t.Errorf("of %q these are known: %v, %v, want %s", tt.ask, got, err, tt.want)
		}
	}
}
