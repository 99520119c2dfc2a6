package bucket

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
)

// Opener opens the bucket that a URL of its scheme names.
type Opener func(ctx context.Context, u *url.URL) (Bucket, error)

// OpenURL opens the bucket at a URL with the opener of its scheme, or, where s is no URL, the folder of that path with the
// opener "file". There is no global registry: a program lists the drivers that it links.
//
//	b, err := bucket.OpenURL(ctx, s, map[string]bucket.Opener{"file": file.OpenURL, "mem": bucket.OpenMem})
//
// Errors: [ErrURL] for an unknown scheme or a malformed URL, and those of the opener.
func OpenURL(ctx context.Context, s string, openers map[string]Opener) (Bucket, error) {
	u, err := CheckURL(s, openers)
	if err != nil {
		return nil, err
	}
	return openers[u.Scheme](ctx, u)
}

// CheckURL is [ParseURL] for URLs that [OpenURL] can open with some openers. Errors: [ErrURL].
func CheckURL(s string, openers map[string]Opener) (*url.URL, error) {
	if scheme, rest, ok := strings.Cut(s, ":"); ok && openers[scheme] != nil && !strings.HasPrefix(rest, "//") {
		// Taken for a path, it would be a new folder of that name.
		return nil, &Error{
			Op: "open", Key: s, Kind: ErrURL,
			Err: fmt.Errorf("it lacks the slashes of %s://; a folder of that name is ./%s", scheme, s),
		}
	}
	u, err := ParseURL(s)
	if err != nil {
		return nil, err
	}
	if openers[u.Scheme] == nil {
		known := slices.Sorted(maps.Keys(openers))
		return nil, &Error{
			Op: "open", Key: s, Kind: ErrURL,
			Err: fmt.Errorf("unknown scheme %q; known are %s, or a folder's path", u.Scheme, strings.Join(known, ", ")),
		}
	}
	return u, nil
}

// ParseURL returns the URL that s is, or file:// and the absolute path where s is no URL. Errors: [ErrURL].
func ParseURL(s string) (*url.URL, error) {
	u, err := parse(s)
	if err != nil {
		return nil, &Error{Op: "open", Key: s, Kind: ErrURL, Err: err}
	}
	return u, nil
}

func parse(s string) (*url.URL, error) {
	if s == "" {
		return nil, fmt.Errorf("it is empty")
	}
	if scheme, _, ok := strings.Cut(s, "://"); ok && scheme != "" && !strings.ContainsAny(scheme, `/\.`) {
		return url.Parse(s)
	}
	// A path is taken as it is: a percent sign or a question mark in it is just that.
	path, err := filepath.Abs(s)
	if err != nil {
		return nil, err
	}
	path = filepath.ToSlash(path)
	if !strings.HasPrefix(path, "/") { // C:/…
		path = "/" + path
	}
	return &url.URL{Scheme: "file", Path: path}, nil
}
