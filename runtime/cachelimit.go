package runtime

import (
	"cmp"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// The cache folder is kept below a limit: once in a while who writes to it removes what was used least recently. A file's time
// is when it was used, or at most an hour before.
//
// Nobody is asked, and nothing is locked. What is removed while another process needs it is as if it had never been
// there: a file that is open can be read to its end, and one that is gone is made anew; see codecache.go for wazero's.
// Two that do it at once remove the same.

const (
	// DefaultCacheLimit is how many bytes a cache folder may have where [Config.WithCacheLimit] says nothing else.
	DefaultCacheLimit = 2 << 30

	// usedInterval is how exact the time of a file is.
	usedInterval = time.Hour
	// trimInterval is how often a cache folder is trimmed, at most: it may grow beyond its limit for so long.
	trimInterval = 10 * time.Minute
	// unfinishedAge is how old a file or folder with a temporary name must be to belong to nobody any more.
	unfinishedAge = 24 * time.Hour

	// trimStamp is the name of an empty file in the cache folder. Its time is when the folder was trimmed last.
	trimStamp = "trimmed"
)

// cacheEntry is what is removed at once from a cache folder.
type cacheEntry struct {
	paths []string // the first is the one by which the others are found
	size  int64
	used  time.Time
}

// add adds a file that may be gone.
func (e *cacheEntry) add(path string) {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() {
		return
	}
	e.paths = append(e.paths, path)
	e.size += info.Size()
	if info.ModTime().After(e.used) {
		e.used = info.ModTime()
	}
}

// markUsed notes that a file of the cache is used. Nobody is told if that can't be noted.
func markUsed(path string) {
	if info, err := os.Stat(path); err == nil && time.Since(info.ModTime()) > usedInterval {
		_ = os.Chtimes(path, time.Now(), time.Now())
	}
}

// CacheUsage returns how many bytes a cache folder has, as the limit counts them. A folder that isn't there has none.
func CacheUsage(dir string) int64 {
	size := int64(0)
	for _, e := range cacheEntries(dir) {
		size += e.size
	}
	return size
}

// cacheEntries lists a cache folder. Files that durun doesn't write are not listed, for somebody may have given the cache a
// folder with other things in it.
func cacheEntries(dir string) []cacheEntry {
	var list []cacheEntry
	add := func(paths ...string) {
		var e cacheEntry
		for _, p := range paths {
			e.add(p)
		}
		if len(e.paths) > 0 {
			list = append(list, e)
		}
	}
	for _, folder := range []string{preparedFolder, resumeFolder} {
		for _, path := range keyedFiles(dir, folder) {
			add(path)
		}
	}
	code := filepath.Join(dir, codeFolder)
	indexed := map[string]bool{}
	for _, path := range keyedFiles(code, indexFolder) {
		name, _, ok := readCodeIndex(path)
		if !ok {
			add(path)
			continue
		}
		of := filepath.Join(code, filepath.FromSlash(name))
		indexed[of] = true
		add(path, of)
	}
	for _, path := range keyedFiles(code, "wazero-*") {
		if !indexed[path] {
			add(path)
		}
	}
	return list
}

// keyedFiles returns the paths of the files in a folder, or in those that a pattern matches, whose names are keys.
func keyedFiles(dir, pattern string) []string {
	paths, _ := filepath.Glob(filepath.Join(dir, pattern, "*"))
	return slices.DeleteFunc(paths, func(p string) bool {
		name := filepath.Base(p)
		return len(name) != 64 || strings.Trim(name, "0123456789abcdef") != ""
	})
}

// trimCache removes what was used least recently from the cache folder, if it has not been done of late.
func (r *Runtime) trimCache() {
	limit := r.config.cacheLimit
	switch {
	case r.config.cacheDir == "" || limit < 0:
		return
	case limit == 0:
		limit = DefaultCacheLimit
	}
	stamp := filepath.Join(r.config.cacheDir, trimStamp)
	if info, err := os.Stat(stamp); err == nil && time.Since(info.ModTime()).Abs() < trimInterval {
		return
	}
	// Before the work, so that others don't begin with the same.
	if err := os.WriteFile(stamp, nil, 0o600); err != nil {
		return
	}
	_ = os.Chtimes(stamp, time.Now(), time.Now())
	removeUnfinished(r.config.cacheDir)
	trimEntries(cacheEntries(r.config.cacheDir), limit)
}

// trimEntries removes the entries that were used least recently until the rest has at most limit bytes.
func trimEntries(list []cacheEntry, limit int64) {
	size := int64(0)
	for _, e := range list {
		size += e.size
	}
	slices.SortFunc(list, func(a, b cacheEntry) int {
		return cmp.Or(a.used.Compare(b.used), strings.Compare(a.paths[0], b.paths[0]))
	})
	for _, e := range list {
		if size <= limit {
			return
		}
		for _, path := range e.paths {
			_ = os.Remove(path) // one that is open stays where the system wants it so
		}
		size -= e.size
	}
}

// removeUnfinished removes what processes have left behind that ended while they wrote.
func removeUnfinished(dir string) {
	for _, folder := range []string{preparedFolder, resumeFolder, codeFolder, filepath.Join(codeFolder, indexFolder)} {
		paths, _ := filepath.Glob(filepath.Join(dir, folder, unfinishedPrefix+"*"))
		for _, path := range paths {
			if info, err := os.Lstat(path); err == nil && time.Since(info.ModTime()) > unfinishedAge && info.Mode()&fs.ModeSymlink == 0 {
				_ = os.RemoveAll(path)
			}
		}
	}
}
