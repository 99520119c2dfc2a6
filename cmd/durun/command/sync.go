package command

import (
	"strconv"

	"github.com/durun/durun/snapshot/bucket"
)

// syncFlag is --sync of the commands that commit. It chooses an option of a store in a folder; see package file.
type syncFlag string

const syncUsage = "make each commit durable before going on; =false leaves that to the system, where the store is a folder"

// syncHelp is what the commands that have the flag say about it.
const syncHelp = `With --sync=false, commits to a folder don't wait for the disk, which makes them
several times as fast. A crash or kill -9 of durun still loses nothing. A loss
of power may take the commits of the last half minute or so away, or damage
them: durun then says which is damaged, and an earlier one has to do.`

// Set implements pflag.Value.
func (s *syncFlag) Set(text string) error {
	v, err := strconv.ParseBool(text)
	*s = syncFlag(strconv.FormatBool(v))
	return err
}

// String implements pflag.Value.
func (s *syncFlag) String() string {
	if *s == "" {
		return "true"
	}
	return string(*s)
}

// Type implements pflag.Value.
func (*syncFlag) Type() string { return "bool" }

// apply returns the store's URL with what the flag says. Where it isn't given, the URL's own query holds.
func (s *syncFlag) apply(store string) (string, error) {
	if *s == "" {
		return store, nil
	}
	location, ok, err := folderOption(store, "sync", string(*s))
	if err == nil && !ok && *s == "false" {
		return "", usageError("--sync=false is for a store in a folder; %s is none", redacted(store))
	}
	return location, err // all others sync, whatever they call it
}

// folderOption returns the URL of a store with an option of a folder's. Any other store's stays as it is, and ok is false.
func folderOption(store, name, value string) (location string, ok bool, err error) {
	u, err := bucket.ParseURL(store)
	if err != nil {
		return "", false, usageError("--store %s: %w", redacted(store), err)
	}
	if u.Scheme != "file" {
		return store, false, nil
	}
	q := u.Query()
	q.Set(name, value)
	u.RawQuery = q.Encode()
	return u.String(), true, nil
}
