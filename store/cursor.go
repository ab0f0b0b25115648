package store

import (
	"encoding/base64"
	"encoding/json"
)

// A cursor says behind which row of a sorted list a page begins. Clients hand it back as text.
type cursor struct {
	Sort   string `json:"s"`
	Number int64  `json:"n"` // the value that is sorted by, where it is a number
	Key    string `json:"k"` // what tells rows of the same value apart
}

func (c cursor) String() string {
	b, err := json.Marshal(c)
	if err != nil {
		return "" // it has no values that JSON lacks
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

// cursorMax bounds the text of a cursor in bytes.
const cursorMax = 2048

// parseCursor reads the cursor of a list that is sorted so, or ErrCursor.
func parseCursor(sort, text string) (c cursor, err error) {
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(text) > cursorMax || json.Unmarshal(b, &c) != nil || c.Sort != sort {
		return cursor{}, ErrCursor
	}
	return c, nil
}
