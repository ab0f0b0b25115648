package oci

import (
	"bytes"
	"encoding/json"
	"time"
)

// An ImageConfig is the part of an image's configuration that people look at.
type ImageConfig struct {
	User         string            `json:"user,omitempty"`
	WorkingDir   string            `json:"working_dir,omitempty"`
	StopSignal   string            `json:"stop_signal,omitempty"`
	Author       string            `json:"author,omitempty"`
	Env          []string          `json:"env,omitempty"`
	Entrypoint   []string          `json:"entrypoint,omitempty"`
	Cmd          []string          `json:"cmd,omitempty"`
	ExposedPorts []string          `json:"exposed_ports,omitempty"`
	Volumes      []string          `json:"volumes,omitempty"`
	Labels       map[string]string `json:"labels,omitempty"`
	History      []History         `json:"history,omitempty"` // oldest first
	DiffIDs      int               `json:"diff_ids,omitempty"`
	Truncated    bool              `json:"truncated,omitempty"` // something was too long and is cut or left out
}

// A History is how a layer, or an empty one, came about.
type History struct {
	CreatedAt time.Time `json:"created_at,omitzero"`
	CreatedBy string    `json:"created_by,omitempty"`
	Comment   string    `json:"comment,omitempty"`
	Empty     bool      `json:"empty,omitempty"`
}

// A configFile is an image's configuration as it is written. Fields of a wrong type stay empty.
type configFile struct {
	Created      string `json:"created"`
	Author       string `json:"author"`
	OS           string `json:"os"`
	Architecture string `json:"architecture"`
	Variant      string `json:"variant"`
	Config       struct {
		User         string
		WorkingDir   string
		StopSignal   string
		Env          list[string]
		Entrypoint   list[string]
		Cmd          list[string]
		ExposedPorts dict[none]
		Volumes      dict[none]
		Labels       dict[string]
	} `json:"config"`
	RootFS struct {
		DiffIDs list[string] `json:"diff_ids"`
	} `json:"rootfs"`
	History list[historyEntry] `json:"history"`
}

type historyEntry struct {
	Created   string `json:"created"`
	CreatedBy string `json:"created_by"`
	Comment   string `json:"comment"`
	Empty     bool   `json:"empty_layer"`
}

// UnmarshalJSON keeps an entry also when a field is of a wrong type: history is matched with layers by position.
func (h *historyEntry) UnmarshalJSON(b []byte) error {
	type plain historyEntry
	_ = json.Unmarshal(b, (*plain)(h))
	return nil
}

// readConfig reads a configuration as far as it can be.
func readConfig(raw []byte) (c configFile, ok bool) {
	if !json.Valid(raw) {
		return c, false
	}
	_ = json.Unmarshal(raw, &c) // what is of a wrong type is left out, the rest is read
	return c, true
}

// A list reads at most factList elements: decoded, an empty object takes fifty times its bytes. It counts them all.
type list[T any] struct {
	s []T
	n int
}

func (l *list[T]) UnmarshalJSON(b []byte) error {
	return eachValue(b, '[', func(_ string, dec *json.Decoder) error {
		var v T
		if l.n++; l.n > factList {
			return dec.Decode(&none{})
		}
		if dec.Decode(&v) == nil {
			l.s = append(l.s, v)
		}
		return nil
	})
}

// A dict is likewise an object.
type dict[T any] struct {
	m    map[string]T
	keys []string
	n    int
}

func (d *dict[T]) UnmarshalJSON(b []byte) error {
	return eachValue(b, '{', func(key string, dec *json.Decoder) error {
		var v T
		if d.n++; d.n > factList {
			return dec.Decode(&none{})
		}
		if dec.Decode(&v) != nil {
			return nil
		}
		if d.m == nil {
			d.m = make(map[string]T)
		}
		if _, ok := d.m[key]; !ok {
			d.keys = append(d.keys, key)
		}
		d.m[key] = v
		return nil
	})
}

// A none takes any value and keeps nothing.
type none struct{}

func (*none) UnmarshalJSON([]byte) error { return nil }

// eachValue calls f for each value of an array or object, with its key; f must decode it. Anything else has no values.
func eachValue(b []byte, open json.Delim, f func(key string, dec *json.Decoder) error) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	if t, err := dec.Token(); err != nil || t != open {
		return err
	}
	for dec.More() {
		key := ""
		if open == '{' {
			t, err := dec.Token()
			if err != nil {
				return err
			}
			key, _ = t.(string)
		}
		if err := f(key, dec); err != nil {
			return err
		}
	}
	return nil
}

// image takes over what is kept, within its limits.
func (c *configFile) image() *ImageConfig {
	t := trimmer{}
	v := &ImageConfig{
		User: t.text(c.Config.User), WorkingDir: t.text(c.Config.WorkingDir), StopSignal: t.text(c.Config.StopSignal), Author: t.text(c.Author),
		Env: t.texts(c.Config.Env.s, c.Config.Env.n), Entrypoint: t.texts(c.Config.Entrypoint.s, c.Config.Entrypoint.n),
		Cmd:          t.texts(c.Config.Cmd.s, c.Config.Cmd.n),
		ExposedPorts: t.texts(c.Config.ExposedPorts.keys, c.Config.ExposedPorts.n), Volumes: t.texts(c.Config.Volumes.keys, c.Config.Volumes.n),
		DiffIDs: c.RootFS.DiffIDs.n,
	}
	if len(c.Config.Labels.m) > 0 {
		v.Labels = make(map[string]string, len(c.Config.Labels.m))
		for _, key := range c.Config.Labels.keys {
			v.Labels[t.text(key)] = t.text(c.Config.Labels.m[key])
		}
	}
	for _, h := range c.History.s {
		v.History = append(v.History, History{CreatedAt: believable(h.Created), CreatedBy: t.text(h.CreatedBy), Comment: t.text(h.Comment), Empty: h.Empty})
	}
	v.Truncated = t.cut || c.Config.Labels.n > factList || c.History.n > factList
	return v
}

// A trimmer bounds texts and remembers whether it had to.
type trimmer struct{ cut bool }

func (t *trimmer) text(s string) string {
	short := cut(s)
	t.cut = t.cut || len(short) < len(s)
	return short
}

func (t *trimmer) texts(all []string, n int) []string {
	t.cut = t.cut || n > factList
	for i := range all {
		all[i] = t.text(all[i])
	}
	return all
}
