package layer

import (
	"bytes"
	"errors"
	"reflect"
	"testing"
)

// sameIndex fails unless two indexes are alike in all that is stored.
func sameIndex(t testing.TB, got, want *Index) {
	t.Helper()
	a := []any{got.Format, got.Size, got.Uncompressed, got.Problem, got.Unterminated, got.memory, got.Entries, got.points}
	b := []any{want.Format, want.Size, want.Uncompressed, want.Problem, want.Unterminated, want.memory, want.Entries, want.points}
	for i := range a {
		if !reflect.DeepEqual(a[i], b[i]) {
			t.Errorf("field %d: %.300v\nwant %.300v", i, a[i], b[i])
		}
	}
}

func TestMarshal(t *testing.T) {
	head := join(rawFile('0', "before", "1"), sparseFile("1\n0\n1\n", "x", 50), rawFile('5', "d/", ""))
	raw := join(head, synthetic(t, 110, 1000))
	blobs := packings(t, raw)
	blobs["large gzip"] = gzipOf(t, join(head, synthetic(t, 110, 60_000)), 0) // with a window
	for name, blob := range blobs {
		x := scan(t, blob)
		encoded, err := x.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		var got Index
		if err := got.UnmarshalBinary(encoded); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if sameIndex(t, &got, x); name == "large gzip" && x.SeekPoints() == 0 {
			t.Error("there are no seek points to store")
		}
		for _, path := range []string{"before", "usr/lib/package-1/part0/file-109.txt"} {
			want, err := read(t, x, blob, path)
			if s, err2 := read(t, &got, blob, path); s != want || err != nil || err2 != nil {
				t.Errorf("%s: %s is %d bytes, want %d: %v, %v", name, path, len(s), len(want), err, err2)
			}
		}
	}
	cut, _ := Scan(t.Context(), bytes.NewReader(raw[:5000]), 5000, Limits{}, nil)
	encoded, err := cut.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	var got Index
	if err := got.UnmarshalBinary(encoded); err != nil || got.Problem == "" {
		t.Errorf("%v, %q", err, got.Problem)
	}
	sameIndex(t, &got, cut)
}

// TestUnmarshalDamaged: no changed bit and no cut goes unseen.
func TestUnmarshalDamaged(t *testing.T) {
	x := scan(t, gzipOf(t, tarOf(t, regular("a/b", "x"), regular("a/c", "y"), dir("d/")), 0))
	encoded, err := x.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	for n := range encoded {
		var got Index
		if err := got.UnmarshalBinary(encoded[:n]); !errors.Is(err, ErrIndexInvalid) {
			t.Errorf("cut to %d bytes: %v", n, err)
		}
		for bit := range 8 {
			bad := bytes.Clone(encoded)
			bad[n] ^= 1 << bit
			if err := got.UnmarshalBinary(bad); err == nil {
				sameIndex(t, &got, x) // a bit of the frame that says nothing
			} else if !errors.Is(err, ErrIndexInvalid) || got.Entries != nil {
				t.Errorf("byte %d, bit %d: %v, %d entries", n, bit, err, len(got.Entries))
			}
		}
	}
	if err := new(Index).UnmarshalBinary(append(bytes.Clone(encoded), 'x')); !errors.Is(err, ErrIndexInvalid) {
		t.Errorf("with a byte more: %v", err)
	}
}
