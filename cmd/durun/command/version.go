package command

import (
	"fmt"
	"io"
	goruntime "runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/durun/durun/snapshot"
)

// version is what a report of a bug needs to say.
type version struct {
	Version        string `json:"version"`
	Revision       string `json:"revision,omitempty"`
	Modified       bool   `json:"modified,omitempty"`
	Go             string `json:"go"`
	Platform       string `json:"platform"`
	Wazero         string `json:"wazero"`
	SnapshotFormat int    `json:"snapshot_format"`
}

const wazeroPath = "github.com/tetratelabs/wazero"

// buildVersion reads what the linker knows.
func buildVersion() version {
	v := version{
		Version:        "(unknown)",
		Go:             goruntime.Version(),
		Platform:       goruntime.GOOS + "/" + goruntime.GOARCH,
		Wazero:         "(unknown)",
		SnapshotFormat: snapshot.Version,
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	if info.Main.Version != "" {
		v.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Revision = s.Value
		case "vcs.modified":
			v.Modified = s.Value == "true"
		}
	}
	for _, d := range info.Deps {
		if d.Path != wazeroPath {
			continue
		}
		v.Wazero = d.Version
		if d.Replace != nil {
			v.Wazero += " => " + d.Replace.Path + " " + d.Replace.Version
		}
	}
	return v
}

type versionOptions struct {
	format format
}

func newVersionCommand(a *app) *cobra.Command {
	var o versionOptions
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the versions of durun and of what it is built with",
		Long: `Print the versions of durun, of the Go and wazero it is built with, and of the
snapshot format it writes. A snapshot of an older format is always readable by a
newer durun.

JSON is an object with the keys version, revision and modified (of the source,
where they are known; modified, if it is true), go, platform, wazero and
snapshot_format.`,
		Example:           "  durun version\n  durun version -o json",
		Args:              arguments(0, 0, ""),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(*cobra.Command, []string) error {
			return runVersion(a.Stdout, o)
		},
	}
	addFormatFlag(cmd, &o.format)
	return cmd
}

func runVersion(w io.Writer, o versionOptions) error {
	v := buildVersion()
	if o.format == formatJSON {
		return writeJSON(w, v)
	}
	revision := ""
	if v.Revision != "" {
		revision = " (" + v.Revision
		if v.Modified {
			revision += ", modified"
		}
		revision += ")"
	}
	_, err := fmt.Fprintf(w, "durun            %s%s\ngo               %s %s\nwazero           %s\nsnapshot format  %d\n",
		v.Version, revision, v.Go, v.Platform, v.Wazero, v.SnapshotFormat)
	return err
}
