package wasi

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"path"
	"slices"
	"strings"

	"github.com/durun/durun/hostabi"
)

// The state of a volume is in parts, see [hostabi.PartedInstance], so that a commit holds little when little has changed:
//
//	<volume>.i<group>          the inodes of a group, memGroupSize numbers: CBOR, an array of inodeState
//	<volume>.d<inode>.<chunk>  a chunk of a file's content
//
// where <volume> is a decimal number, the others are hexadecimal with 10, 10 and 8 digits. A part is encoded anew only if
// something in it has changed.

// memGroupSize is how many inodes are one part of the state.
const memGroupSize = 32

// inodeState is an inode. Names are the file's own business, and not its folder's: a folder of many files is not
// captured anew with each that comes. A folder has one name, but the root, and removed ones that are still open, have none.
type inodeState struct {
	Ino    uint64      `cbor:"1,keyasint"`
	Kind   uint8       `cbor:"2,keyasint"`
	Atim   int64       `cbor:"3,keyasint"`
	Mtim   int64       `cbor:"4,keyasint"`
	Ctim   int64       `cbor:"5,keyasint"`
	Names  []nameState `cbor:"6,keyasint,omitempty"` // ascending
	Target []byte      `cbor:"7,keyasint,omitempty"`
	Size   int64       `cbor:"8,keyasint,omitempty"`
	Data   []byte      `cbor:"9,keyasint,omitempty"` // the first chunk, if it is short
}

type nameState struct {
	_    struct{} `cbor:",toarray"`
	Dir  uint64   // inode number of the folder
	Name []byte
}

func (a nameState) compare(b nameState) int {
	return cmp.Or(cmp.Compare(a.Dir, b.Dir), bytes.Compare(a.Name, b.Name))
}

// memSaved is what was saved of a volume, to be used again as far as nothing has changed.
type memSaved struct {
	parts   []hostabi.Part
	current bool                // parts is the state
	groups  map[uint64][]byte   // encoded groups of inodes
	dirty   map[uint64]struct{} // those that are not in groups, or changed
}

// touch notes that n is to be encoded anew.
func (v *memVolume) touch(n *memNode) {
	if v.saved.dirty == nil {
		v.saved.dirty = map[uint64]struct{}{}
	}
	v.saved.dirty[n.ino/memGroupSize] = struct{}{}
	v.saved.current = false
}

// save returns the parts, by name ascending.
func (v *memVolume) save() ([]hostabi.Part, error) {
	s := &v.saved
	if s.current {
		return s.parts, nil
	}
	if s.groups == nil {
		s.groups = map[uint64][]byte{}
	}
	for g := range s.dirty {
		data, err := v.encodeGroup(g)
		if err != nil {
			return nil, err
		}
		if s.groups[g] = data; data == nil {
			delete(s.groups, g)
		}
	}
	clear(s.dirty)

	s.parts = nil
	for _, n := range v.nodes {
		for index, c := range n.chunks {
			if !inline(index, len(c.data)) {
				c.shared = len(c.data)
				s.parts = append(s.parts, hostabi.Part{
					Name: fmt.Sprintf("%d.d%010x.%08x", v.index, n.ino, index), Data: c.data[:len(c.data):len(c.data)],
				})
			}
		}
	}
	for g, data := range s.groups {
		s.parts = append(s.parts, hostabi.Part{Name: fmt.Sprintf("%d.i%010x", v.index, g), Data: data})
	}
	slices.SortFunc(s.parts, func(a, b hostabi.Part) int { return strings.Compare(a.Name, b.Name) })
	s.current = true
	return s.parts, nil
}

// encodeGroup returns a group's inodes, nil if there are none.
func (v *memVolume) encodeGroup(g uint64) ([]byte, error) {
	var list []inodeState
	for ino := g * memGroupSize; ino < (g+1)*memGroupSize; ino++ {
		n := v.nodes[ino]
		if n == nil {
			continue
		}
		s := inodeState{
			Ino: n.ino, Kind: n.kind, Atim: n.atim, Mtim: n.mtim, Ctim: n.ctim,
			Target: []byte(n.target), Size: n.size,
		}
		for _, m := range n.names {
			s.Names = append(s.Names, nameState{Dir: m.dir.ino, Name: []byte(m.name)})
		}
		slices.SortFunc(s.Names, nameState.compare)
		if c := n.chunks[0]; c != nil && inline(0, len(c.data)) {
			s.Data = c.data
		}
		list = append(list, s)
	}
	if list == nil {
		return nil, nil
	}
	return encMode.Marshal(list)
}

// restore takes over saved parts, whose names are without the volume's number, in an empty volume. They are kept, and not
// changed.
func (v *memVolume) restore(parts []hostabi.Part) error {
	*v = memVolume{now: v.now, index: v.index, limit: v.limit, nodes: map[uint64]*memNode{}, next: memRoot}
	// Inodes sort after the content, but are needed first.
	for _, part := range parts {
		if !strings.HasPrefix(part.Name, "i") {
			continue
		}
		var g uint64
		if _, err := fmt.Sscanf(part.Name, "i%x", &g); err != nil || part.Name != fmt.Sprintf("i%010x", g) {
			return fmt.Errorf("part %q has no name of inodes", part.Name)
		}
		if err := v.restoreGroup(g, part.Data); err != nil {
			return fmt.Errorf("part %s: %w", part.Name, err)
		}
	}
	for _, part := range parts {
		if strings.HasPrefix(part.Name, "i") {
			continue
		}
		if err := v.restoreChunk(part); err != nil {
			return fmt.Errorf("part %q: %w", part.Name, err)
		}
	}
	if v.root = v.nodes[memRoot]; v.root == nil || v.root.kind != typeDirectory || len(v.root.names) > 0 {
		return errors.New("there is no root")
	}
	for ino := uint64(memRoot); ino < v.next; ino++ {
		if v.nodes[ino] == nil {
			v.free = append(v.free, ino) // ascending, so it is a heap
		}
	}
	return v.restoreTree()
}

// restoreGroup makes the inodes of a group, still without their places in the tree.
func (v *memVolume) restoreGroup(g uint64, data []byte) error {
	var list []inodeState
	if err := decMode.Unmarshal(data, &list); err != nil {
		return err
	}
	if len(list) == 0 {
		return errors.New("no inodes")
	}
	for k, s := range list {
		if s.Ino < memRoot || s.Ino/memGroupSize != g || k > 0 && s.Ino <= list[k-1].Ino {
			return fmt.Errorf("inode %d is not one of the group, or out of order", s.Ino)
		}
		if err := s.check(); err != nil {
			return fmt.Errorf("inode %d: %w", s.Ino, err)
		}
		n := &memNode{
			ino: s.Ino, kind: s.Kind, atim: s.Atim, mtim: s.Mtim, ctim: s.Ctim, target: string(s.Target),
			memData: memData{size: s.Size},
		}
		if s.Kind == typeDirectory {
			n.entries = map[string]*memNode{}
		}
		for _, m := range s.Names {
			// The folder may come later: for now a name leads to its number alone.
			n.names = append(n.names, memName{dir: &memNode{ino: m.Dir}, name: string(m.Name)})
		}
		if len(s.Data) > 0 {
			n.chunks = map[uint32]*memChunk{0: {data: s.Data}}
		}
		cost := memNodeCost + int64(len(n.target)+len(s.Data))
		if n.ino == memRoot {
			cost = 0
		}
		for _, m := range n.names {
			cost += nameCost(m.name)
		}
		if v.charge(cost) != success {
			return errors.New("the volume is larger than its limit")
		}
		v.nodes[n.ino] = n
		v.next = max(v.next, n.ino+1)
		v.touch(n)
	}
	// The numbers below that are free will be listed: one out of nowhere must not make that long.
	if v.next > maxInodes {
		return fmt.Errorf("inode %d is beyond what there can be", v.next-1)
	}
	return nil
}

// maxInodes is a bound for inode numbers, since the lowest free one is always used first.
const maxInodes = MaxVolumes/memNodeCost + memGroupSize

func (s *inodeState) check() error {
	file, dir, link := s.Kind == typeRegular, s.Kind == typeDirectory, s.Kind == typeSymlink
	switch {
	case !file && !dir && !link:
		return fmt.Errorf("type %d", s.Kind)
	case s.Size < 0 || s.Size > maxMemSize || s.Size > 0 && !file:
		return fmt.Errorf("size %d", s.Size)
	case int64(len(s.Data)) > min(s.Size, memInline):
		return fmt.Errorf("%d bytes of content", len(s.Data))
	case link != (len(s.Target) > 0) || len(s.Target) > maxPath || path.IsAbs(string(s.Target)):
		return fmt.Errorf("target %.100q", s.Target)
	case dir && len(s.Names) > 1:
		return errors.New("a folder of several names")
	}
	for k, m := range s.Names {
		name := string(m.Name)
		if len(name) > maxFileName || !fs.ValidPath(name) || name == "." || strings.ContainsAny(name, "/\x00") {
			return fmt.Errorf("name %.300q", name)
		}
		if k > 0 && s.Names[k-1].compare(m) >= 0 {
			return fmt.Errorf("name %q is out of order", name)
		}
	}
	return nil
}

// restoreTree puts the inodes into their folders.
func (v *memVolume) restoreTree() error {
	inos := slices.Sorted(maps.Keys(v.nodes))
	for _, ino := range inos {
		n := v.nodes[ino]
		for k := range n.names {
			m := &n.names[k]
			dir := v.nodes[m.dir.ino]
			if dir == nil || dir.kind != typeDirectory {
				return fmt.Errorf("inode %d is in inode %d, which is no folder", ino, m.dir.ino)
			}
			if dir.entries[m.name] != nil {
				return fmt.Errorf("inode %d has two entries %q", dir.ino, m.name)
			}
			m.dir = dir
			dir.entries[m.name] = n
		}
	}
	// Each folder has one parent. So all is sound if each leads to the root, or to one that was removed and is empty.
	sound := map[*memNode]bool{v.root: true}
	for _, ino := range inos {
		var way []*memNode
		n := v.nodes[ino]
		for ; n.kind != typeDirectory || !sound[n]; n = n.names[0].dir {
			if len(n.names) == 0 {
				if len(n.entries) > 0 {
					return fmt.Errorf("inode %d has entries and no name", n.ino)
				}
				break
			}
			if len(way) > len(v.nodes) {
				return fmt.Errorf("inode %d is within itself", ino)
			}
			way = append(way, n)
		}
		for _, dir := range way {
			sound[dir] = true
		}
	}
	return nil
}

func (v *memVolume) restoreChunk(part hostabi.Part) error {
	var ino, index uint64
	_, err := fmt.Sscanf(part.Name, "d%x.%x", &ino, &index)
	if err != nil || part.Name != fmt.Sprintf("d%010x.%08x", ino, index) || index > math.MaxUint32 {
		return errors.New("it has no name of content")
	}
	n := v.nodes[ino]
	switch {
	case n == nil || n.kind != typeRegular:
		return fmt.Errorf("inode %d is no file", ino)
	case inline(uint32(index), len(part.Data)) || len(part.Data) == 0 || len(part.Data) > memChunkSize:
		return fmt.Errorf("%d bytes", len(part.Data))
	case int64(index)*memChunkSize+int64(len(part.Data)) > n.size:
		return fmt.Errorf("content beyond the file's %d bytes", n.size)
	case n.chunks[uint32(index)] != nil:
		return errors.New("there is such a chunk already")
	}
	if v.charge(chunkCost(uint32(index), len(part.Data))) != success {
		return errors.New("the volume is larger than its limit")
	}
	if n.chunks == nil {
		n.chunks = map[uint32]*memChunk{}
	}
	n.chunks[uint32(index)] = &memChunk{data: part.Data[:len(part.Data):len(part.Data)], shared: len(part.Data)}
	return nil
}

// sweep frees what has no name and was not opened again.
func (v *memVolume) sweep() {
	for _, ino := range slices.Sorted(maps.Keys(v.nodes)) {
		v.release(v.nodes[ino])
	}
}
