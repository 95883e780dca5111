package descriptor

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/adyton-dev/adyton/refusal"
)

// Part is one named part of what is measured.
type Part struct {
	Name string
	// Content is the part's value in canonical JSON.
	Content []byte
}

// Parts gives the measured parts in the order in which they are measured. The
// names are shown to users when a part differs.
func (d *Descriptor) Parts() ([]Part, error) {
	c := d.complete()
	values := []struct {
		name  string
		value any
	}{
		{"version", c.APIVersion},
		{"name", c.Name},
		{"image", c.Image},
		{"init", c.Init},
		{"arguments", c.Arguments},
		{"environment", c.Environment},
		{"pass-environment", c.PassEnvironment},
		{"working-directory", c.WorkingDirectory},
		{"user", c.User},
		{"mounts", c.Mounts},
		{"read-only-root", c.ReadOnlyRoot},
		{"memory", c.Memory},
		{"threads", c.Threads},
		{"unlock", c.Unlock},
		{"broker", c.Broker},
	}
	parts := make([]Part, 0, len(values))
	for _, v := range values {
		content, err := canonical(v.value)
		if err != nil {
			return nil, fmt.Errorf("encode enclave descriptor: %s: %w", v.name, err)
		}
		parts = append(parts, Part{Name: v.name, Content: content})
	}
	return parts, nil
}

// Check compares what is about to run with d, which was signed. If a part
// differs, the error is a MeasurementMismatch that names each such part and shows
// where it differs, signed value first.
func (d *Descriptor) Check(actual *Descriptor) error {
	signed, err := d.Parts()
	if err != nil {
		return err
	}
	running, err := actual.Parts()
	if err != nil {
		return err
	}
	var differences []string
	for i, part := range signed {
		if !bytes.Equal(part.Content, running[i].Content) {
			differences = append(differences, fmt.Sprintf("%s: signed %s, found %s", part.Name,
				excerpt(part.Content, running[i].Content), excerpt(running[i].Content, part.Content)))
		}
	}
	if len(differences) == 0 {
		return nil
	}
	return refusal.New(refusal.MeasurementMismatch, "enclave %q is not what was signed: %s", d.Name, strings.Join(differences, "; "))
}

// excerpt gives text, or the stretch of it where it begins to differ from other.
// Environment values and arguments are shown, as they are no secrets: the
// descriptor is public.
func excerpt(text, other []byte) string {
	const before, limit = 16, 80
	if len(text) <= limit {
		return string(text)
	}
	start := 0
	for start < len(text) && start < len(other) && text[start] == other[start] {
		start++
	}
	start = max(0, min(start-before, len(text)-limit))
	end := min(start+limit, len(text))
	cut := strings.ToValidUTF8(string(text[start:end]), "")
	if start > 0 {
		cut = "…" + cut
	}
	if end < len(text) {
		cut += "…"
	}
	return cut
}
