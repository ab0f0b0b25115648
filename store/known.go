package store

import (
	"context"
	"encoding/json"

	"cubby/store/oci"
)

// Known returns those of some repositories that hold a manifest, in one statement.
func (s *Store) Known(ctx context.Context, names []oci.Name) ([]oci.Name, error) {
	list, err := json.Marshal(texts(names))
	if err != nil {
		return nil, err
	}
	return collect(ctx, s.db, scanName, `SELECT name FROM repositories WHERE manifests > 0 AND name IN (SELECT value FROM json_each(?)) ORDER BY name`, string(list))
}
