package command

import (
	"path/filepath"
	"testing"
)

func TestSyncFlag(t *testing.T) {
	abs, err := filepath.Abs("rel ä?")
	if err != nil {
		t.Fatal(err)
	}
	root := "file://"
	if filepath.ToSlash(abs)[0] != '/' {
		root = "file:///"
	}
	for _, c := range []struct{ flag, store, want string }{
		{"", "file:///x", "file:///x"},
		{"", "file:///x?sync=false", "file:///x?sync=false"},
		{"", "s3://x/y", "s3://x/y"},
		{"false", "file:///x", "file:///x?sync=false"},
		{"0", "file:///x", "file:///x?sync=false"},
		{"true", "file:///x?sync=false", "file:///x?sync=true"},
		{"true", "s3://x/y?region=z", "s3://x/y?region=z"},
		{"false", "s3://x/y", ""},
		{"false", "mem://", ""},
		{"false", "file://%zz", ""},
		{"maybe", "file:///x", ""},
	} {
		got, err := apply(c.flag, c.store)
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("--sync=%s of %s: %q, %v; want %q", c.flag, c.store, got, err, c.want)
		}
		if err != nil && c.flag == "false" && new(app).classify(err).code != exitUsage {
			t.Errorf("--sync=%s of %s: %v is not about the usage", c.flag, c.store, err)
		}
	}
	// What is a path and no URL is taken as it is.
	if got, err := apply("false", "rel ä?"); err != nil || filepath.Base(got) != "rel%20%C3%A4%3F?sync=false" || got[:len(root)] != root {
		t.Errorf("%q, %v", got, err)
	}
}

func apply(flag, store string) (string, error) {
	var s syncFlag
	if flag != "" {
		if err := s.Set(flag); err != nil {
			return "", err
		}
	}
	return s.apply(store)
}
