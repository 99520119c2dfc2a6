package symbols

import (
	"cmp"
	"math"
	"slices"
	"sync/atomic"
)

// Costs of what isn't matched, and what an answer needs, in bits.
const (
	absentCost    = 1  // of a declaration without a body: inlined, merged or removed
	foreignCost   = 1  // of a body without declaration between units, where objects without debug information may be
	strangeCost   = 10 // of one within a unit
	misplaced     = 2  // of a body that has a declaration out of order
	anchorScore   = 12 // that an anchor needs
	anchorUsers   = 8  // how many bodies may refer to an object that leads to anchors
	enough        = 8  // the margin that a name needs
	maxRounds     = 1  // of aligning what is left between what is certain
	minAnchors    = 8  // fewer are chance
	maxUnits      = 8  // the units that a body is sought in, out of order
	maxCells      = 16 << 20
	maxSearched   = 32 << 20
	maxRemembered = 4 // the declarations out of order that are compared for a body and a unit
)

// pair is a body that is a declaration's, both by their places.
type pair struct {
	body, declaration int
	score             int32
}

// anchors returns the pairs that stand out: those with objects that few bodies refer to, or with numbers that no other body
// has, where no other body or declaration fits as well. They are in the order of bodies.
func (p *program) anchors() []pair {
	best := map[int]pair{}
	ties := map[int]bool{}
	for k := range p.ordered {
		d := &p.ordered[k]
		var candidates []int32
		for _, o := range d.objects {
			if users := p.users[o]; len(users) <= anchorUsers {
				candidates = append(candidates, users...)
			}
		}
		candidates = slices.DeleteFunc(candidates, func(i int32) bool { return p.bodies[i].frames > 1 })
		if i, ok := p.only(d); ok {
			candidates = append(candidates, i)
		}
		slices.Sort(candidates)
		found, tie := pair{score: impossible}, false
		for _, i := range slices.Compact(candidates) {
			switch s := p.score(int(i), d); {
			case s > found.score:
				found, tie = pair{int(i), k, s}, false
			case s == found.score:
				tie = true
			}
		}
		if found.score < anchorScore || tie {
			continue
		}
		switch old, ok := best[found.body]; {
		case !ok || found.score > old.score:
			best[found.body] = found
			ties[found.body] = false
		case found.score == old.score:
			ties[found.body] = true
		}
	}
	var list []pair
	for i, a := range best {
		if !ties[i] {
			list = append(list, a)
		}
	}
	slices.SortFunc(list, func(a, b pair) int { return cmp.Compare(a.body, b.body) })
	return list
}

// chain returns the pairs of the largest sum of scores whose declarations are in order too. It takes the prefix maxima
// from a tree by declaration (Fenwick 1994).
func chain(list []pair, declarations int) []pair {
	tree := make([]int, declarations+1) // the last pair of the best chain, + 1
	sum := make([]int64, len(list))
	before := make([]int, len(list))
	end := -1
	for i, a := range list {
		best := 0
		for k := a.declaration; k > 0; k -= k & -k {
			if t := tree[k]; t != 0 && (best == 0 || sum[t-1] > sum[best-1]) {
				best = t
			}
		}
		before[i], sum[i] = best-1, int64(a.score)
		if best > 0 {
			sum[i] += sum[best-1]
		}
		for k := a.declaration + 1; k < len(tree); k += k & -k {
			if t := tree[k]; t == 0 || sum[t-1] < sum[i] {
				tree[k] = i + 1
			}
		}
		if end < 0 || sum[i] > sum[end] {
			end = i
		}
	}
	var out []pair
	for i := end; i >= 0; i = before[i] {
		out = append(out, list[i])
	}
	slices.Reverse(out)
	return out
}

// option is what a body may be out of order: a declaration of a unit, and how well it fits.
type option struct {
	declaration *declaration
	score       int32
}

// options are those of one unit, the best first, which may have no declaration.
type options struct {
	unit int
	list []option
}

// alignment is the state of the dynamic programming. A row is a number of bodies, a column one of declarations: the
// cell is what the best alignment of the rest, or of what comes before, scores. Rows have the columns from low to high.
type alignment struct {
	*program
	low, high []int
	at        []int // where the row's cells start
	before    []int32
	after     []int32
	match     []int32 // of the row's next body and the column's next declaration
	options   [][]options
	// unitAt is the unit of the declarations on both sides of a column, or -1 between units.
	left, right []int
}

// align returns what the bodies are, nil where that is too much work. A body's declaration lies between its neighbours
// among the anchors, of which one may be wrong if there are two on each side.
func (p *program) align(anchors []pair, neighbours int) []answer {
	a := &alignment{program: p}
	if !a.band(anchors, neighbours) || !a.search(anchors) {
		return nil
	}
	a.forward()
	return a.backward()
}

// band sets the rows' bounds. It returns false if that is too much work.
func (a *alignment) band(anchors []pair, neighbours int) bool {
	n, m := len(a.bodies), len(a.ordered)
	a.low, a.high, a.at = make([]int, n+1), make([]int, n+1), make([]int, n+2)
	next := 0 // the first anchor whose body isn't in the row
	for i := range n + 1 {
		for next < len(anchors) && anchors[next].body < i {
			next++
		}
		a.high[i] = m
		if k := next - neighbours; k >= 0 {
			a.low[i] = anchors[k].declaration + 1
		}
		if k := next + neighbours - 1; k < len(anchors) {
			a.high[i] = anchors[k].declaration
		}
		a.at[i+1] = a.at[i] + a.high[i] - a.low[i] + 1
		if a.at[i+1] > maxCells {
			return false
		}
	}
	a.left, a.right = make([]int, m+1), make([]int, m+1)
	for j := range m + 1 {
		a.left[j], a.right[j] = -1, -1
		if j > 0 {
			a.left[j] = a.ordered[j-1].unit
		}
		if j < m {
			a.right[j] = a.ordered[j].unit
		}
	}
	return true
}

// search finds what each body may be out of order. It returns false if that is too much work.
func (a *alignment) search(anchors []pair) bool {
	ordered, anywhere := byUnit(a.ordered), byUnit(a.anywhere)
	var units []int // in order
	for j := range a.ordered {
		if u := a.ordered[j].unit; len(units) == 0 || units[len(units)-1] != u {
			units = append(units, u)
		}
	}
	// The units that each body may be in.
	low, high := make([]int, len(a.bodies)), make([]int, len(a.bodies))
	next := 0
	for i := range a.bodies {
		for next < len(anchors) && anchors[next].body < i {
			next++
		}
		high[i] = len(units) - 1
		if next > 0 {
			low[i], _ = slices.BinarySearch(units, a.ordered[anchors[next-1].declaration].unit)
		}
		if next < len(anchors) {
			high[i], _ = slices.BinarySearch(units, a.ordered[anchors[next].declaration].unit)
		}
	}
	a.options = make([][]options, len(a.bodies))
	var work atomic.Int64
	inParallel(len(a.bodies), func(from, to int) {
		for i := from; i < to && work.Load() <= maxSearched; i++ {
			if d := a.bodies[i].is; d != nil {
				a.options[i] = []options{{d.unit, []option{{d, a.score(i, d)}}}}
				continue
			}
			if high[i]-low[i] >= maxUnits {
				continue
			}
			by := a.bodies[i].mentioned
			for _, u := range units[low[i] : high[i]+1] {
				o := options{unit: u}
				add := func(list []declaration) {
					work.Add(int64(len(list)))
					for k := range list {
						o.add(&list[k], a.score(i, &list[k]))
					}
				}
				add(anywhere[u])
				if by >= 0 && high[by] >= low[i] {
					add(ordered[u])
				}
				a.options[i] = append(a.options[i], o)
			}
		}
	})
	return work.Load() <= maxSearched
}

// byUnit returns the parts of a list that are a unit's.
func byUnit(list []declaration) map[int][]declaration {
	units := map[int][]declaration{}
	for from := 0; from < len(list); {
		to := from + 1
		for to < len(list) && list[to].unit == list[from].unit {
			to++
		}
		units[list[from].unit] = list[from:to]
		from = to
	}
	return units
}

// add adds an option, if it is one of the best.
func (o *options) add(d *declaration, score int32) {
	if score == impossible {
		return
	}
	at := len(o.list)
	for at > 0 && o.list[at-1].score < score {
		at--
	}
	if at < maxRemembered {
		o.list = slices.Insert(o.list[:min(len(o.list), maxRemembered-1)], at, option{d, score})
	}
}

// unmatched returns what it scores that body i has no declaration at column j.
func (a *alignment) unmatched(i, j int) int32 {
	score := int32(-strangeCost)
	if a.left[j] != a.right[j] {
		score = -foreignCost
	}
	for k := range a.options[i] {
		if o := &a.options[i][k]; len(o.list) > 0 && (o.unit == a.left[j] || o.unit == a.right[j]) {
			score = max(score, o.list[0].score-misplaced)
		}
	}
	return score
}

// turns says whether column j lies otherwise among the units than the one before it.
func (a *alignment) turns(j int) bool { return a.left[j] != a.left[j-1] || a.right[j] != a.right[j-1] }

func (a *alignment) forward() {
	n := len(a.bodies)
	a.before, a.match = make([]int32, a.at[n+1]), make([]int32, a.at[n+1])
	for i := range a.before {
		a.before[i], a.match[i] = impossible, impossible
	}
	inParallel(n, func(from, to int) {
		for i := from; i < to; i++ {
			// The next cell has to be in its row.
			for j := max(a.low[i], a.low[i+1]-1); j <= min(a.high[i], a.high[i+1]-1); j++ {
				a.match[a.at[i]+j-a.low[i]] = a.score(i, &a.ordered[j])
			}
		}
	})
	a.before[0] = 0
	for i := range n + 1 {
		row := a.before[a.at[i]:a.at[i+1]]
		unmatched := int32(0)
		for j := a.low[i]; j <= a.high[i]; j++ {
			score := row[j-a.low[i]]
			if j < a.high[i] {
				raise(&row[j+1-a.low[i]], score-absentCost)
			}
			if i == n {
				continue
			}
			if j == a.low[i] || a.turns(j) {
				unmatched = a.unmatched(i, j)
			}
			if score <= impossible/2 {
				continue
			}
			next := a.before[a.at[i+1]:a.at[i+2]]
			if j >= a.low[i+1] {
				raise(&next[j-a.low[i+1]], score+unmatched)
			}
			if s := a.match[a.at[i]+j-a.low[i]]; s != impossible {
				raise(&next[j+1-a.low[i+1]], score+s)
			}
		}
	}
}

func raise(v *int32, to int32) { *v = max(*v, to) }

// backward completes the cells, and returns the answers.
func (a *alignment) backward() []answer {
	n := len(a.bodies)
	a.after = make([]int32, a.at[n+1])
	for i := range a.after {
		a.after[i] = impossible
	}
	a.after[len(a.after)-1] = 0
	found := make([]answer, n)
	// Each row has a cell of the best alignment. What is far worse makes no difference.
	v := verdict{floor: a.before[len(a.before)-1] - 2*enough}
	for i := n; i >= 0; i-- {
		row := a.after[a.at[i]:a.at[i+1]]
		v.list = v.list[:0]
		unmatched, most := int32(0), int32(impossible)
		for j := a.high[i]; j >= a.low[i]; j-- {
			c := j - a.low[i]
			score := row[c]
			if j < a.high[i] {
				raise(&score, row[c+1]-absentCost)
			}
			if i < n {
				before := a.before[a.at[i]+c]
				next := a.after[a.at[i+1]:a.at[i+2]]
				if j == a.high[i] || a.turns(j+1) {
					unmatched = a.unmatched(i, j)
				}
				if j >= a.low[i+1] {
					rest := next[j-a.low[i+1]]
					raise(&score, rest+unmatched)
					raise(&most, before+rest)
				}
				if j == a.low[i] || a.turns(j) {
					if most > impossible/2 {
						a.consider(&v, i, j, most)
					}
					most = impossible
				}
				if s := a.match[a.at[i]+c]; s != impossible {
					rest := s + next[j+1-a.low[i+1]]
					raise(&score, rest)
					v.add(&a.ordered[j], before+rest)
				}
			}
			row[c] = max(score, impossible)
		}
		if i < n {
			found[i] = v.answer()
		}
	}
	return found
}

// consider adds to v that body i has no declaration at column j, or at others between the same units, where the rest
// scores so much.
func (a *alignment) consider(v *verdict, i, j int, rest int32) {
	cost := int32(strangeCost)
	if a.left[j] != a.right[j] {
		cost = foreignCost
	}
	v.add(nil, rest-cost)
	for k := range a.options[i] {
		if o := &a.options[i][k]; o.unit == a.left[j] || o.unit == a.right[j] {
			for _, o := range o.list {
				v.add(o.declaration, rest+o.score-misplaced)
			}
		}
	}
}

// verdict collects what a body may be, nil for nothing that is declared, and the score of the best alignment with each.
type verdict struct {
	list  []option
	floor int32 // of the scores that are kept
}

func (v *verdict) add(d *declaration, score int32) {
	if score < v.floor {
		return
	}
	for i := range v.list {
		if v.list[i].declaration == d {
			raise(&v.list[i].score, score)
			return
		}
	}
	v.list = append(v.list, option{d, score})
}

// answer is what a body is, nil for unknown, and by what margin.
type answer struct {
	declaration *declaration
	margin      int32
}

func (v *verdict) answer() answer {
	best := option{score: math.MinInt32}
	for _, o := range v.list {
		if o.score > best.score {
			best = o
		}
	}
	if best.declaration == nil {
		return answer{}
	}
	// Of two of one name it doesn't matter which.
	second := v.floor
	for _, o := range v.list {
		if o.declaration == nil || o.declaration.name != best.declaration.name {
			second = max(second, o.score)
		}
	}
	return answer{best.declaration, best.score - second}
}

// settle gives the bodies whose answers are certain their declarations, and returns how many are new.
func (p *program) settle(found []answer) (settled int) {
	// Out of order, two bodies may be one declaration's; then neither is certain, or one, by far.
	margins := map[*declaration][2]int32{}
	for _, f := range found {
		if f.declaration != nil {
			m := margins[f.declaration]
			margins[f.declaration] = [2]int32{max(m[0], f.margin), max(m[1], min(m[0], f.margin))}
		}
	}
	for i, f := range found {
		if f.declaration == nil || p.bodies[i].is != nil {
			continue
		}
		if m := margins[f.declaration]; f.margin == m[0] && m[0]-m[1] >= enough {
			p.bodies[i].is = f.declaration
			f.declaration.taken = true
			settled++
		}
	}
	return settled
}

// settled returns the bodies that have declarations in order as anchors.
func (p *program) settled() []pair {
	var list []pair
	for i := range p.bodies {
		if d := p.bodies[i].is; d != nil && !d.anywhere {
			list = append(list, pair{i, d.place, 1})
		}
	}
	return chain(list, len(p.ordered))
}
