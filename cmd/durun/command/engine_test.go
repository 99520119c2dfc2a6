package command

import (
	"os"
	"path/filepath"
	"testing"
)

// TestCacheDir: a relative XDG_CACHE_HOME is as good as none.
func TestCacheDir(t *testing.T) {
	t.Setenv(cacheVariable, "") // to be put back
	if err := os.Unsetenv(cacheVariable); err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	for _, name := range []string{"HOME", "USERPROFILE", "LOCALAPPDATA"} {
		t.Setenv(name, home)
	}
	t.Setenv("XDG_CACHE_HOME", "")
	want, err := cacheDir()
	if err != nil || !filepath.IsAbs(want) {
		t.Fatalf("%q, %v", want, err)
	}
	t.Setenv("XDG_CACHE_HOME", "relative")
	if got, err := cacheDir(); got != want || err != nil {
		t.Errorf("with a relative XDG_CACHE_HOME: %q, %v; want %q", got, err, want)
	}
}
