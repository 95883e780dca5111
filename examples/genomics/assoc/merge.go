package assoc

import (
	"cmp"
	"fmt"
	"io"
	"slices"
)

// stream gives the variants of one cohort one after another.
type stream struct {
	batches <-chan batch
	current []variant
	err     error

	contig     int // of the variant given last, to check the order
	pos        int64
	duplicates int64
}

// peek gives the next variant, or nil at the end or after an error.
func (s *stream) peek() *variant {
	for len(s.current) == 0 && s.err == nil {
		b, ok := <-s.batches
		if !ok {
			b.err = io.ErrUnexpectedEOF // the cohort was cancelled
		}
		s.current, s.err = b.variants, b.err
	}
	if len(s.current) == 0 {
		return nil
	}
	return &s.current[0]
}

// merge gives the variants of all cohorts in order to emit, each allele once.
func merge(streams []*stream, emit func(*variant)) error {
	for {
		var first *variant
		for _, s := range streams {
			v := s.peek()
			if v == nil && s.err != io.EOF {
				return s.err
			}
			if v != nil && (first == nil || place(v, first.contig, first.pos) < 0) {
				first = v
			}
		}
		if first == nil {
			return nil
		}
		contig, pos := first.contig, first.pos
		var site []variant
		for _, s := range streams {
			if err := s.take(contig, pos, &site); err != nil {
				return err
			}
		}
		slices.SortFunc(site, func(a, b variant) int {
			return cmp.Or(cmp.Compare(a.ref, b.ref), cmp.Compare(a.alt, b.alt))
		})
		for i := range site {
			emit(&site[i])
		}
	}
}

// take moves the stream's variants at one place into site. An allele that the
// stream has twice there counts once.
func (s *stream) take(contig int, pos int64, site *[]variant) error {
	type allele struct{ ref, alt string }
	var taken []allele
	for v := s.peek(); v != nil && place(v, contig, pos) == 0; v = s.peek() {
		if place(v, s.contig, s.pos) < 0 {
			return fmt.Errorf("%s:%d: %w", v.chrom, v.pos, errUnsorted)
		}
		s.contig, s.pos = contig, pos
		if a := (allele{v.ref, v.alt}); slices.Contains(taken, a) {
			s.duplicates++
		} else {
			taken = append(taken, a)
			add(site, v)
		}
		s.current = s.current[1:]
	}
	if v := s.peek(); v == nil && s.err != io.EOF {
		return s.err
	}
	return nil
}

// add adds v's counts to its allele in site.
func add(site *[]variant, v *variant) {
	i := slices.IndexFunc(*site, func(o variant) bool { return o.ref == v.ref && o.alt == v.alt })
	if i < 0 {
		*site = append(*site, *v)
		return
	}
	o := &(*site)[i]
	if o.id == "." {
		o.id = v.id
	}
	o.cohorts++
	o.cases.add(v.cases)
	o.controls.add(v.controls)
}

// place compares v's place with another.
func place(v *variant, contig int, pos int64) int {
	return cmp.Or(cmp.Compare(v.contig, contig), cmp.Compare(v.pos, pos))
}
