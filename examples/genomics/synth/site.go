package synth

import (
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
)

// The chromosome that the sites lie on: GRCh38's chr22 without its short arm.
const (
	chromosome       = "chr22"
	chromosomeLength = 50_818_468
	firstPosition    = 10_510_077
	lastPosition     = 50_807_000
)

// The streams of random numbers of a study; those of the cohorts' calls follow
// streamCalls.
const (
	streamSites uint64 = iota
	streamSamples
	streamCalls
)

// source gives the random numbers of one stream and item.
func (s Spec) source(stream, item uint64) *rand.Rand {
	return rand.New(rand.NewPCG(s.Seed<<8^stream, item*0x9e3779b97f4a7c15))
}

// site is a place where genomes differ.
type site struct {
	pos         int64
	id          string
	ref         string
	alts        []string
	filter      string
	quality     int
	frequencies []float64 // of alts, among the controls
	oddsRatio   float64   // 1 unless planted
}

// effect is a planted association. The last four are so weak that one cohort of
// 1,000 samples does not show them beyond doubt, but two together do.
type effect struct{ frequency, oddsRatio float64 }

func effects() []effect {
	return []effect{
		{0.30, 2.0}, {0.22, 2.2}, {0.41, 2.1}, {0.15, 2.4}, {0.35, 2.6}, {0.26, 2.3}, {0.18, 2.5}, {0.45, 2.0},
		{0.055, 2.1}, {0.06, 2.0}, {0.05, 2.15}, {0.065, 2.0},
	}
}

// Planted gives the planted associations, in the order of their positions.
func (s Spec) Planted() []Association {
	var out []Association
	for _, site := range makeSites(s) {
		if site.oddsRatio != 1 {
			out = append(out, Association{
				Chrom: chromosome, Pos: site.pos, ID: site.id, Ref: site.ref, Alt: site.alts[0],
				Frequency: site.frequencies[0], OddsRatio: site.oddsRatio,
			})
		}
	}
	return out
}

// run is a run of sites of which each cohort lacks one, its own.
const run = 51

// in tells whether the cohort has the site of number i.
func in(i, cohort int) bool { return i%run != 7+cohort }

// makeSites makes the sites of the study, enough for each cohort's records.
func makeSites(spec Spec) []site {
	rng := spec.source(streamSites, 0)
	n := spec.Variants + spec.Variants/(run-1) + 1
	planted := effects()
	sites := make([]site, n)
	pos := float64(firstPosition)
	meanGap := float64(lastPosition-firstPosition) / float64(n)
	for i := range sites {
		pos += 1 + rng.ExpFloat64()*(meanGap-1)
		sites[i] = makeSite(rng, int64(pos))
	}
	for k, e := range planted {
		// The first of a run, which every cohort has.
		s := &sites[(k+1)*n/(len(planted)+1)/run*run]
		s.ref, s.alts, s.filter = "A", []string{"G"}, "PASS"
		s.frequencies, s.oddsRatio = []float64{e.frequency}, e.oddsRatio
	}
	return sites
}

func makeSite(rng *rand.Rand, pos int64) site {
	s := site{
		pos:       pos,
		id:        "rs" + strconv.Itoa(10_000_000+rng.IntN(1_400_000_000)),
		filter:    "PASS",
		quality:   30 + rng.IntN(970),
		oddsRatio: 1,
	}
	switch r := rng.Float64(); {
	case r < 0.04:
		s.ref = bases(rng, 1)
		s.alts = []string{s.ref + bases(rng, 1+rng.IntN(8))}
	case r < 0.08:
		s.ref = bases(rng, 2+rng.IntN(8))
		s.alts = []string{s.ref[:1]}
	default:
		p := rng.Perm(4)
		s.ref = "ACGT"[p[0] : p[0]+1]
		s.alts = []string{"ACGT"[p[1] : p[1]+1]}
		if r > 0.98 {
			s.alts = append(s.alts, "ACGT"[p[2]:p[2]+1])
		}
	}
	switch r := rng.Float64(); {
	case r < 0.03:
		s.filter = "LowQual"
	case r < 0.04:
		s.filter = "LowQual;ExcessHet"
	}
	for range s.alts {
		// Density 1/x between 0.0005 and 0.5.
		s.frequencies = append(s.frequencies, 0.0005*math.Pow(1000, rng.Float64())/float64(len(s.alts)))
	}
	return s
}

func bases(rng *rand.Rand, n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = "ACGT"[rng.IntN(4)]
	}
	return string(b)
}

// append appends the columns of the record before its calls.
func (s *site) append(line, calls []byte) []byte {
	counts, called := make([]int, len(s.alts)), 0
	for i := 1; i < len(calls); i += 2 {
		if calls[i] != '.' {
			called++
		}
		if allele := int(calls[i]) - '1'; allele >= 0 && allele < len(counts) {
			counts[allele]++
		}
	}
	line = append(line, chromosome+"\t"...)
	line = strconv.AppendInt(line, s.pos, 10)
	for _, column := range []string{s.id, s.ref, strings.Join(s.alts, ",")} {
		line = append(append(line, '\t'), column...)
	}
	line = strconv.AppendInt(append(line, '\t'), int64(s.quality), 10)
	line = append(append(line, '\t'), s.filter...)
	for k, n := range counts {
		line = append(line, separator(k, "\tAC=")...)
		line = strconv.AppendInt(line, int64(n), 10)
	}
	for k, n := range counts {
		line = append(line, separator(k, ";AF=")...)
		line = strconv.AppendFloat(line, float64(n)/float64(max(called, 1)), 'g', 6, 64)
	}
	line = append(line, ";AN="...)
	line = strconv.AppendInt(line, int64(called), 10)
	return append(line, "\tGT"...)
}

func separator(k int, first string) string {
	if k == 0 {
		return first
	}
	return ","
}
