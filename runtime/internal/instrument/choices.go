package instrument

import (
	"slices"
)

// Choices are what the transform is free to choose, because snapshots don't depend on it. The zero value is what it does;
// the others are what another version may come to do. Tests take snapshots under one and go on from them under another.
type Choices struct {
	AllLive bool // a frame holds all locals, whether they may be read or not
	Spill   bool // operands have locals of their own, even where a constant or another local has the value
	Narrow  bool // all try_tables are narrowed
}

// saveAll makes all locals live at all sites, but those with references that no snapshot holds.
func (a *analyser) saveAll() {
	f := &a.f
	for i := range f.sites {
		s := &f.sites[i]
		live := slices.Clone(s.live)
		for l, t := range f.locals {
			if !isForeign(t) && !slices.Contains(s.live, uint32(l)) {
				live = append(live, uint32(l))
			}
		}
		slices.Sort(live)
		s.live = live
	}
}
