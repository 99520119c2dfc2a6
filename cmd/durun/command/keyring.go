package command

import (
	"fmt"
	"io"
	"os"

	"github.com/durun/durun/snapshot"
)

const (
	keyFileVariable = "DURUN_KEY_FILE"
	keyVariable     = "DURUN_KEY"
)

// maxKeyFile is how much of a key file is read, in bytes: of anything longer somebody has given the wrong one.
const maxKeyFile = 1 << 20

// keyring is the keys that the store's objects are encrypted under: those in --key-file, else in $DURUN_KEY_FILE, else
// $DURUN_KEY; nil for none.
func (a *app) keyring() (*snapshot.Keyring, error) {
	file, from := a.keyFile, "--key-file"
	key := os.Getenv(keyVariable)
	if file == "" {
		if file, from = os.Getenv(keyFileVariable), keyFileVariable; file != "" && key != "" {
			return nil, usageError("both %s and %s are set; set one of them", keyFileVariable, keyVariable)
		}
	}
	switch {
	case file != "":
		text, err := readKeyFile(file)
		if err != nil {
			return nil, inputError(fmt.Errorf("%s: %w", from, err), "")
		}
		r, err := snapshot.ParseKeyring(text)
		if err != nil {
			return nil, usageError("%s %s: %w", from, file, err)
		}
		return r, nil
	case key != "":
		r, err := snapshot.ParseKeyring(key)
		if err != nil {
			return nil, usageError("%s: %w", keyVariable, err)
		}
		return r, nil
	}
	return nil, nil
}

func readKeyFile(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err == nil && len(text) > maxKeyFile {
		err = fmt.Errorf("%s: too large to be a file of keys", name)
	}
	return string(text), err
}

// keyText is a key's id as JSON has it, empty for none.
func keyText(id snapshot.KeyID) string {
	if id.IsZero() {
		return ""
	}
	return id.String()
}
