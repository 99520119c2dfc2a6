package command

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/durun/durun/hostabi/wasi"
	"github.com/durun/durun/snapshot"
)

// grantVolume is the kind of a grant that is a volume in memory; its value is the limit, in bytes. It is for children: what the
// coroutine itself has is in its state.
const grantVolume = "volume"

// volumesOf returns the volumes among grants.
func volumesOf(grants []snapshot.Grant) ([]wasi.Mount, error) {
	var volumes []wasi.Mount
	for _, g := range grants {
		if g.Kind != grantVolume {
			continue
		}
		n, err := parseSize(g.Value)
		if err != nil {
			return nil, fmt.Errorf("volume %s: %w", g.Name, err)
		}
		volumes = append(volumes, wasi.Mount{Memory: true, Guest: g.Name, Limit: n})
	}
	return volumes, nil
}

// parseVolumes reads all values of --volume: GUEST[:SIZE]. grants are what else the program has, its folders among that.
func parseVolumes(values []string, grants []snapshot.Grant) ([]snapshot.Grant, error) {
	var volumes []snapshot.Grant
	var total int64
	for _, s := range values {
		guest, size, given := strings.Cut(s, ":")
		if guest == "" {
			return nil, usageError("--volume %s: the path is empty; give GUEST[:SIZE]", s)
		}
		g := snapshot.Grant{Kind: grantVolume, Name: path.Clean(guest)}
		limit := int64(wasi.DefaultVolumeLimit)
		if given {
			var err error
			if limit, err = parseSize(size); err != nil {
				return nil, usageError("--volume %s: %w", s, err)
			}
		}
		if slices.ContainsFunc(grants, func(d snapshot.Grant) bool { return d.Kind == grantDir && d.Name == g.Name }) {
			return nil, usageError("--volume %s: --dir gives a folder at %s already", s, g.Name)
		}
		for _, other := range volumes {
			if other.Name == g.Name {
				return nil, usageError("--volume %s: there is a volume at %s already", s, g.Name)
			}
		}
		if limit > wasi.MaxVolumes-total {
			return nil, usageError("--volume %s: all volumes together can have %s", s, humanBytes(wasi.MaxVolumes))
		}
		total += limit
		g.Value = strconv.FormatInt(limit, 10)
		volumes = append(volumes, g)
	}
	return volumes, nil
}

// describeVolumes tells people of volumes.
func describeVolumes(volumes []wasi.Mount) string {
	var list []string
	for _, m := range volumes {
		list = append(list, fmt.Sprintf("%s of %s", m.Guest, humanBytes(uint64(m.Limit))))
	}
	if list == nil {
		return "none"
	}
	return strings.Join(list, ", ")
}

// The values of --stdin.
const (
	stdinHere     = "here"
	stdinMessages = "messages"
)

// parseStdin reads the value of --stdin: whether standard input comes from messages.
func parseStdin(s string) (messages bool, err error) {
	switch s {
	case stdinHere:
		return false, nil
	case stdinMessages:
		return true, nil
	}
	return false, usageError("--stdin %s: give %s or %s", s, stdinHere, stdinMessages)
}

// stdinName is the reverse of parseStdin.
func stdinName(messages bool) string {
	if messages {
		return stdinMessages
	}
	return stdinHere
}
