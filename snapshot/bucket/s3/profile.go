package s3

import (
	"cmp"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
)

// profile is what the AWS tools' files say under one name: settings by name, those that are nested below another, as in
// "s3 =", with that one's name and a dot before theirs.
type profile map[string]string

// loadProfile reads a profile of the configuration file and of the credentials file, whose settings count before the
// former's; the default one if the name is empty. A file, or a profile, that isn't there has no settings.
func loadProfile(name string) (profile, error) {
	config, err := loadINI("AWS_CONFIG_FILE", "config")
	if err != nil {
		return nil, err
	}
	secrets, err := loadINI("AWS_SHARED_CREDENTIALS_FILE", "credentials")
	if err != nil {
		return nil, err
	}
	name = cmp.Or(name, "default")
	section := config["profile "+name]
	if name == "default" && section == nil {
		section = config[name]
	}
	p := profile{}
	maps.Copy(p, section)
	if services := p["services"]; services != "" {
		if endpoint := config["services "+services]["s3.endpoint_url"]; endpoint != "" {
			p["s3.endpoint_url"] = endpoint
		}
	}
	maps.Copy(p, secrets[name])
	return p, nil
}

// hasCredentials says whether credentials can be had by the profile.
func (p profile) hasCredentials() bool {
	return p["aws_access_key_id"] != "" || p["credential_process"] != "" || p["sso_role_name"] != ""
}

// loadINI reads the file that an environment variable names, or else ~/.aws/name.
func loadINI(variable, name string) (map[string]profile, error) {
	path := os.Getenv(variable)
	if path == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return nil, nil //nolint:nilerr // whoever has no home has no files there
		}
		path = filepath.Join(home, ".aws", name)
	}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return parseINI(string(data)), err
}

// parseINI reads the AWS tools' dialect of INI files: [sections] of name = value lines, where lines that are indented
// belong to the setting above, which has no value of its own. Comments start with # or ;. What can't be
// read is skipped, as those tools do.
func parseINI(text string) map[string]profile {
	sections := map[string]profile{}
	var section profile
	var parent string
	for line := range strings.Lines(text) {
		indented := line[0] == ' ' || line[0] == '\t'
		line = strings.TrimSpace(line)
		switch {
		case line == "" || line[0] == '#' || line[0] == ';':
			continue
		case line[0] == '[':
			name, _, _ := strings.Cut(line[1:], "]")
			name = strings.Join(strings.Fields(name), " ")
			if section = sections[name]; section == nil {
				section = profile{}
				sections[name] = section
			}
			parent = ""
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		if !ok || section == nil {
			continue
		}
		name, value = strings.ToLower(strings.TrimSpace(name)), strings.TrimSpace(value)
		for _, mark := range []string{" #", " ;", "\t#", "\t;"} {
			value, _, _ = strings.Cut(value, mark)
		}
		value = strings.TrimSpace(value)
		switch {
		case indented && parent != "":
			section[parent+"."+name] = value
		case value == "":
			parent = name
		default:
			parent = ""
			section[name] = value
		}
	}
	return sections
}
