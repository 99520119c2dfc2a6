package command

import (
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/durun/durun/snapshot"
)

func TestParseMount(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for _, test := range []struct{ in, guest, flags string }{
		{".", ".", ""},
		{".:ro", ".", "ro"},
		{".:/", "/", ""},
		{".:/data/", "/data", ""},
		{".:/data:ro", "/data", "ro"},
		{".:data:ro", "data", "ro"},
		{dir + ":/x", "/x", ""},
	} {
		got, err := parseMount(test.in)
		want := snapshot.Grant{Kind: "dir", Name: test.guest, Value: dir, Flags: test.flags}
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%s: %v (-want +got):\n%s", test.in, err, diff)
		}
	}
	for _, in := range []string{"", ":", ":/x", ".:", ".::ro", ".:/a:/b", "nosuch", filepath.Join(dir, "nosuch") + ":/x"} {
		if g, err := parseMount(in); err == nil {
			t.Errorf("%q is %v, not an error", in, g)
		} else if c := new(app).classify(err).code; c != exitUsage {
			t.Errorf("%q: exit code %d for %v", in, c, err)
		}
	}
}

func TestMergeGrants(t *testing.T) {
	t.Parallel()
	a, b := snapshot.Grant{Kind: "dir", Name: "/a", Value: "/old/a"}, snapshot.Grant{Kind: "dir", Name: "/b", Value: "/old/b"}
	fresh := snapshot.Grant{Kind: "dir", Name: "/a", Value: "/new/a", Flags: "ro"}
	got := mergeGrants([]snapshot.Grant{a, b}, []snapshot.Grant{fresh})
	if diff := cmp.Diff([]snapshot.Grant{fresh, b}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
