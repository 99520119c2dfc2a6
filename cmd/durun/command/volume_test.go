package command

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/durun/durun/hostabi/wasi"
	"github.com/durun/durun/snapshot"
)

func TestParseVolumes(t *testing.T) {
	for _, c := range []struct {
		values string // by spaces
		want   []wasi.Mount
		dir    string // of another folder that the program has
		err    string
	}{
		{values: "/tmp", want: []wasi.Mount{{Memory: true, Guest: "/tmp", Limit: wasi.DefaultVolumeLimit}}},
		{values: "/a/:1KiB b:7", want: []wasi.Mount{{Memory: true, Guest: "/a", Limit: 1024}, {Memory: true, Guest: "b", Limit: 7}}},
		{values: "/a:256M", want: []wasi.Mount{{Memory: true, Guest: "/a", Limit: 256 << 20}}},
		{values: "/a /a/:5", err: "there is a volume at /a already"},
		{values: "/a:256M /b:1", err: "all volumes together can have 256 MiB"},
		{values: "/a:1 /b:8388607.9TiB", err: "all volumes together can have 256 MiB"},
		{values: "/b /a/", err: "--dir gives a folder at /a already", dir: "/a"},
		{values: ":5", err: "the path is empty"},
		{values: "/a:", err: "is no size"},
		{values: "/a:0", err: "is no size"},
		{values: "/a:-1", err: "is no size"},
		{values: "/a:5X", err: "is no size"},
		{values: "/a:99999999T", err: "is no size"},
	} {
		grants, err := parseVolumes(strings.Fields(c.values), []snapshot.Grant{{Kind: grantDir, Name: c.dir}})
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: %v, want %q", c.values, err, c.err)
			}
			continue
		}
		got, verr := volumesOf(grants)
		if d := cmp.Diff(c.want, got); d != "" || err != nil || verr != nil {
			t.Errorf("%s: %v, %v\n%s", c.values, err, verr, d)
		}
	}
}
