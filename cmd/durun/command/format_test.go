package command

import (
	"io"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
)

func TestHumanBytes(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		n    uint64
		want string
	}{
		{0, "0 B"},
		{1023, "1023 B"},
		{1024, "1.00 KiB"},
		{10235, "10.0 KiB"},
		{1023 << 10, "1.00 MiB"},
		{26 << 20, "26.0 MiB"},
		{999 << 20, "999 MiB"},
		{3 << 40, "3.00 TiB"},
		{1 << 60, "1048576 TiB"},
	} {
		if got := humanBytes(test.n); got != test.want {
			t.Errorf("humanBytes(%d) = %q, want %q", test.n, got, test.want)
		}
	}
}

func TestHumanTime(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, test := range []struct {
		after time.Duration
		want  string
	}{
		{0, "less than a second ago"},
		{-time.Second, "1 second ago"},
		{-119 * time.Second, "119 seconds ago"},
		{-2 * time.Minute, "2 minutes ago"},
		{-47 * time.Hour, "47 hours ago"},
		{-48 * time.Hour, "2 days ago"},
		{90 * time.Second, "in 90 seconds"},
	} {
		if got := humanTime(now.Add(test.after), now); got != test.want {
			t.Errorf("%v: %q, want %q", test.after, got, test.want)
		}
	}
}

func TestPrintable(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"plain ß":      "plain ß",
		"\x1b[31mred":  `\x1b[31mred`,
		"two\nlines":   `two\nlines`,
		"not \xff utf": `not \xff utf`,
	} {
		if got := printable(in); got != want {
			t.Errorf("printable(%q) = %q, want %q", in, got, want)
		}
	}
}

// TestJSONIsExplained holds the help texts to what JSON has: each key of each command's is named. rm and base rm print ids alone.
func TestJSONIsExplained(t *testing.T) {
	t.Parallel()
	printed := map[string]any{
		"base ls": base{}, "check": checked{}, "doctor": finding{}, "gc": collected{}, "history": commit{}, "import": coroutine{},
		"inspect": facts{}, "instrument": instrumented{}, "logs": stretch{}, "ps": coroutine{}, "rekey": rekeyed{}, "result": result{},
		"run": coroutine{}, "send": sent{}, "stack": stackFrame{}, "version": version{},
		"base rm": struct{}{}, "key ls": struct{}{}, "rm": struct{}{},
	}
	root := newRoot(&app{Config: Config{Stdout: io.Discard, Stderr: io.Discard}})
	explained := func(c *cobra.Command) string {
		_, text, _ := strings.Cut(c.Long, "json")
		if _, s, ok := strings.Cut(c.Long, "JSON"); ok {
			text = s
		}
		return text
	}
	ps, _, err := root.Find([]string{"ps"})
	if err != nil {
		t.Fatal(err)
	}
	visit(root, func(c *cobra.Command) {
		flag := c.Flags().Lookup("output")
		if flag == nil || flag.Value.Type() != "format" {
			flag = c.Flags().Lookup("report")
		}
		if flag == nil {
			return
		}
		name := strings.TrimPrefix(c.CommandPath(), "durun ")
		text := explained(c)
		if text == "" {
			t.Errorf("%s: the help doesn't say what its JSON is", name)
		}
		if strings.Contains(text, `the keys of "durun ps"`) {
			text += explained(ps)
		}
		v, ok := printed[name]
		if !ok {
			t.Errorf("%s: what does it print as JSON?", name)
		}
		for _, key := range jsonKeys(reflect.TypeOf(v)) {
			if !regexp.MustCompile(`\b` + key + `\b`).MatchString(text) {
				t.Errorf("%s: the help doesn't explain the key %s", name, key)
			}
		}
	})
}

// jsonKeys returns the keys of what a type is as JSON.
func jsonKeys(t reflect.Type) []string {
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice:
		return jsonKeys(t.Elem())
	case reflect.Struct:
		var keys []string
		for i := range t.NumField() {
			name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
			switch {
			case name != "":
				keys = append(append(keys, name), jsonKeys(t.Field(i).Type)...)
			case t.Field(i).Anonymous:
				keys = append(keys, jsonKeys(t.Field(i).Type)...)
			}
		}
		return keys
	}
	return nil
}
