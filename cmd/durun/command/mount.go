package command

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/durun/durun/snapshot"
)

// grantDir is the kind of a grant that is a mounted folder.
const grantDir = "dir"

const flagReadOnly = "ro"

// parseMount reads the value of --dir: HOST[:GUEST][:ro]. Without GUEST the guest sees the folder under the name that was
// given. The host's path is made absolute, since resume may run elsewhere.
func parseMount(s string) (snapshot.Grant, error) {
	g := snapshot.Grant{Kind: grantDir}
	rest, ro := strings.CutSuffix(s, ":"+flagReadOnly)
	if ro {
		g.Flags = flagReadOnly
	}
	volume := filepath.VolumeName(rest) // a drive's colon separates nothing
	host, guest, named := strings.Cut(rest[len(volume):], ":")
	host = volume + host
	if host == "" {
		return g, usageError("--dir %s: the folder's path is empty; give HOST[:GUEST][:ro]", s)
	}
	if named && (guest == "" || strings.Contains(guest, ":")) {
		return g, usageError("--dir %s: the guest's path %q is not usable; give HOST[:GUEST][:ro]", s, guest)
	}
	if !named {
		guest = filepath.ToSlash(host)
	}
	abs, err := filepath.Abs(host)
	if err != nil {
		return g, usageError("--dir %s: %w", s, err)
	}
	info, err := os.Stat(abs)
	if err != nil {
		return g, usageError("--dir %s: %w", s, err)
	}
	if !info.IsDir() {
		return g, usageError("--dir %s: %s is not a folder", s, abs)
	}
	g.Name, g.Value = path.Clean(guest), abs
	return g, nil
}

// parseMounts reads all values of --dir. Two folders can't have one name.
func parseMounts(values []string) ([]snapshot.Grant, error) {
	var grants []snapshot.Grant
	for _, v := range values {
		g, err := parseMount(v)
		if err != nil {
			return nil, err
		}
		for _, other := range grants {
			if other.Name == g.Name {
				return nil, usageError("--dir %s: the guest's %s is already mounted from %s", v, g.Name, other.Value)
			}
		}
		grants = append(grants, g)
	}
	return grants, nil
}

// mergeGrants returns the grants of a run that is resumed: those recorded, where fresh ones don't replace them by name.
func mergeGrants(recorded, fresh []snapshot.Grant) []snapshot.Grant {
	merged := append([]snapshot.Grant(nil), fresh...)
	for _, g := range recorded {
		replaced := false
		for _, f := range fresh {
			replaced = replaced || f.Kind == g.Kind && f.Name == g.Name
		}
		if !replaced {
			merged = append(merged, g)
		}
	}
	return merged
}

// parseEnvironment reads the values of --env: K=V, or K for the caller's own value.
func parseEnvironment(values []string) ([]string, error) {
	var env []string
	for _, v := range values {
		name, _, given := strings.Cut(v, "=")
		if name == "" || strings.ContainsRune(v, 0) {
			return nil, usageError("--env %q: give NAME=VALUE, or NAME for the value it has here", v)
		}
		if !given {
			own, ok := os.LookupEnv(name)
			if !ok {
				return nil, usageError("--env %s: the variable is not set here; give %s=VALUE", name, name)
			}
			v = name + "=" + own
		}
		env = append(env, v)
	}
	return env, nil
}

// readInput reads the value of --input: the string itself, or the contents of the file after an @.
func readInput(s string) ([]byte, error) {
	if s == "" {
		return nil, nil // none is given: a base keeps its own
	}
	name, file := strings.CutPrefix(s, "@")
	if !file {
		return []byte(s), nil
	}
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, inputError(fmt.Errorf("read the input: %w", err), "")
	}
	return b, nil
}
