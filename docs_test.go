//go:build unix

package durun_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// docsTime is how long one document may take, most of which is compilers and npm.
const docsTime = 10 * time.Minute

// A step is what a document has its reader do: write a file, or type commands.
type step struct {
	line int    // of the document, where the block's text starts
	file string // to write text to; commands if empty
	text string
	want string // what the commands print; anything if empty
	at   int    // the line of want
}

// A document is a Markdown file with commands in it.
type document struct {
	needs []string // programs, or absolute paths of files
	steps []step
}

// TestDocs does what README.md and docs/*.md tell their readers to do, as written and in order, each document in a folder
// of its own, in one shell, by these conventions:
//
//   - A block ```sh is commands, run under set -eu. ```sh ignore is not run: what needs a service or takes too long.
//   - A block ```text that comes next, in the same section, is what these print to standard output. There "..." stands for any
//     text of a line, and, alone on a line, for any lines.
//   - A block with a title, as ```c title="main.c", is written to that file.
//   - <!-- needs: clang npm --> at the start names the programs, or files by absolute path, without which the document is
//     skipped, but not in CI. "~" is the user's home folder.
//
// On the shell's PATH is durun as it is here; DURUN is the path of this checkout; and there is a store in the folder.
func TestDocs(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: builds programs with many compilers")
	}
	names, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	build := exec.Command("go", "build", "-o", filepath.Join(bin, "durun"), "./cmd/durun")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	for _, name := range append(names, "README.md") {
		t.Run(filepath.Base(name), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			doc, err := readDocument(string(text))
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			for _, need := range doc.needs {
				if err := find(need); err != nil {
					if os.Getenv("CI") == "true" {
						t.Fatalf("needs %s: %v", need, err)
					}
					t.Skipf("needs %s: %v", need, err)
				}
			}
			runDocument(t, name, bin, doc)
		})
	}
}

// find returns an error if there is no such program or file.
func find(need string) error {
	if strings.HasPrefix(need, "~/") {
		home, err := os.UserHomeDir()
		if err != nil {
			return err
		}
		need = filepath.Join(home, need[2:])
	}
	if filepath.IsAbs(need) {
		_, err := os.Stat(need)
		return err
	}
	_, err := exec.LookPath(need)
	return err
}

// runDocument takes the steps, and compares.
func runDocument(t *testing.T, name, bin string, doc *document) {
	checkout, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	dir, blocks := t.TempDir(), t.TempDir()
	printed := func(n int) string { return filepath.Join(blocks, fmt.Sprintf("%d.out", n)) }
	// One script: what a block exports or moves to, the next ones have, as in the reader's terminal.
	script := "set -eu\n"
	for n, s := range doc.steps {
		if s.file == "" {
			script += fmt.Sprintf("exec >'%s'\n%s", printed(n), s.text)
			continue
		}
		block := filepath.Join(blocks, fmt.Sprint(n))
		if err := os.WriteFile(block, []byte(s.text), 0o644); err != nil {
			t.Fatal(err)
		}
		script += fmt.Sprintf("mkdir -p '%s'\ncp '%s' '%s'\n", filepath.Dir(s.file), block, s.file)
	}

	ctx, cancel := context.WithTimeout(t.Context(), docsTime)
	defer cancel()
	// In a file: standard input is the commands' own, and empty.
	file := filepath.Join(blocks, "script")
	if err := os.WriteFile(file, []byte(script), 0o644); err != nil {
		t.Fatal(err)
	}
	sh := exec.CommandContext(ctx, "sh", file)
	sh.Dir = dir
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "DURUN") {
			sh.Env = append(sh.Env, v)
		}
	}
	sh.Env = append(sh.Env, "DURUN="+checkout, "DURUN_STORE="+filepath.Join(dir, "store"),
		"PATH="+bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	var stderr bytes.Buffer
	sh.Stderr = &stderr
	// A group, so that what the document has left running ends as well.
	sh.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	kill := func() error { return syscall.Kill(-sh.Process.Pid, syscall.SIGKILL) }
	sh.Cancel, sh.WaitDelay = kill, time.Second
	runErr := sh.Run()
	if sh.Process != nil {
		_ = kill() // there may be nothing left
	}
	if errors.Is(runErr, exec.ErrWaitDelay) {
		runErr = nil // something had been left running
	}

	last := 0
	for n, s := range doc.steps {
		if s.file != "" {
			continue
		}
		got, err := os.ReadFile(printed(n))
		if errors.Is(err, os.ErrNotExist) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		last = n
		if s.want != "" && !printsAs(s.want, string(got)) {
			t.Errorf("%s:%d: prints\n%s\n%s:%d says\n%s", name, s.line, got, name, s.at, s.want)
		}
	}
	if runErr != nil {
		got, _ := os.ReadFile(printed(last))
		t.Errorf("%s:%d: %v\n%s%s", name, doc.steps[last].line, runErr, got, stderr.Bytes())
	} else if t.Failed() {
		t.Logf("stderr: %s", stderr.Bytes())
	}
}

var (
	fence   = regexp.MustCompile("^(```+)(.*)$")
	title   = regexp.MustCompile(`\btitle="([^"']+)"`)
	comment = regexp.MustCompile(`^<!-- needs: (.*) -->$`)
)

// readDocument finds the steps in a Markdown file.
func readDocument(text string) (*document, error) {
	doc := &document{}
	lines := strings.SplitAfter(text, "\n")
	expects := false // a block of text would say what the last step prints
	for i := 0; i < len(lines); i++ {
		line := strings.TrimRight(lines[i], "\n")
		if m := comment.FindStringSubmatch(line); m != nil {
			doc.needs = strings.Fields(m[1])
		}
		if strings.HasPrefix(line, "#") {
			expects = false
		}
		m := fence.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		start := i + 1
		for i++; i < len(lines) && strings.TrimRight(lines[i], "\n") != m[1]; i++ {
		}
		if i == len(lines) {
			return nil, fmt.Errorf("line %d: the block has no end", start)
		}
		block := strings.Join(lines[start:i], "")
		info := strings.Fields(m[2])
		named := title.FindStringSubmatch(m[2])
		switch {
		case named != nil:
			if !filepath.IsLocal(named[1]) {
				return nil, fmt.Errorf("line %d: %s is outside of the folder", start, named[1])
			}
			doc.steps = append(doc.steps, step{line: start + 1, file: named[1], text: block})
			expects = false
		case m[2] == "sh":
			doc.steps = append(doc.steps, step{line: start + 1, text: block})
			expects = true
		case m[2] == "text" && expects:
			doc.steps[len(doc.steps)-1].want, doc.steps[len(doc.steps)-1].at = block, start+1
			expects = false
		case len(info) > 0 && info[0] == "sh" && m[2] != "sh ignore":
			return nil, fmt.Errorf("line %d: %q: a block of commands is ```sh or ```sh ignore", start, m[2])
		default:
			expects = false
		}
	}
	return doc, nil
}

// printsAs says whether got is as want, in which "..." stands for any text of a line, or any lines.
func printsAs(want, got string) bool {
	pattern := regexp.QuoteMeta(want)
	pattern = regexp.MustCompile(`(?m)^\\\.\\\.\\\.\n`).ReplaceAllString(pattern, `(?s:(?:.*\n)?)`)
	pattern = strings.ReplaceAll(pattern, `\.\.\.`, `.*`)
	return regexp.MustCompile(`\A` + pattern + `\z`).MatchString(got)
}

func TestPrintsAs(t *testing.T) {
	for _, c := range []struct {
		want, got string
		same      bool
	}{
		{"one\n", "one\n", true},
		{"one\n", "one\ntwo\n", false},
		{"one\n", "one", false},
		{"...\ntwo\n", "two\n", true},
		{"...\ntwo\n", "zero\none\ntwo\n", true},
		{"...\ntwo\n", "one two\n", false},
		{"one\n...\n", "one\n", true},
		{"one\n...\n", "one\ntwo\nthree\n", true},
		{"in ... s\n", "in 1.5 s\n", true},
		{"in ... s\n", "in 1.5\n s\n", false},
		{"a.c\n", "abc\n", false},
	} {
		if same := printsAs(c.want, c.got); same != c.same {
			t.Errorf("printsAs(%q, %q) = %v", c.want, c.got, same)
		}
	}
}

func TestReadDocument(t *testing.T) {
	doc, err := readDocument(strings.Join([]string{
		"# A", "<!-- needs: cc /usr/lib/libc.a -->",
		"```c title=\"src/main.c\"", "int x;", "```",
		"```sh", "cc main.c", "```", "Prints", "```text", "done", "```",
		"```sh", "ls", "```", "# B", "```text", "of nothing", "```",
		"```sh ignore", "reboot", "```", "```text", "of nothing", "```",
	}, "\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := document{needs: []string{"cc", "/usr/lib/libc.a"}, steps: []step{
		{line: 4, file: "src/main.c", text: "int x;\n"},
		{line: 7, text: "cc main.c\n", want: "done\n", at: 11},
		{line: 14, text: "ls\n"},
	}}
	if fmt.Sprint(*doc) != fmt.Sprint(want) {
		t.Errorf("read  %v\nwant %v", *doc, want)
	}
	for _, bad := range []string{"```sh\nls\n", "```sh -x\nls\n```\n", "```c title=\"../main.c\"\n```\n"} {
		if _, err := readDocument(bad); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

// TestSDKNames looks up the names of the SDKs that docs/sdk.md lists, in the sources of each.
func TestSDKNames(t *testing.T) {
	sources := map[string]string{
		"C":              "guests/c/durun.h",
		"Go":             "guests/go/durun/*.go",
		"Rust":           "guests/rust/durun/src/*.rs",
		"AssemblyScript": "guests/assemblyscript/assembly/*.ts",
		"Python":         "hostabi/wasi/python/durun/*.py",
	}
	names := map[string]map[string]bool{} // in the sources, by language
	name := regexp.MustCompile(`[A-Za-z_][A-Za-z_0-9]*`)
	for language, pattern := range sources {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		names[language] = map[string]bool{}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, n := range name.FindAllString(string(text), -1) {
				names[language][n] = true
			}
		}
	}

	text, err := os.ReadFile("docs/sdk.md")
	if err != nil {
		t.Fatal(err)
	}
	code := regexp.MustCompile("`[^`]+`")
	var languages []string // of the table, by column
	for i, line := range strings.Split(string(text), "\n") {
		cells := strings.Split(line, "|")
		switch {
		case len(cells) == 1:
			languages = nil
		case languages == nil:
			for _, cell := range cells {
				languages = append(languages, strings.TrimSpace(cell))
			}
		case len(cells) != len(languages):
			t.Errorf("docs/sdk.md:%d: %d cells, want %d", i+1, len(cells)-2, len(languages)-2)
		default:
			for column, cell := range cells {
				for _, n := range name.FindAllString(strings.Join(code.FindAllString(cell, -1), " "), -1) {
					if language := languages[column]; !names[language][n] {
						t.Errorf("docs/sdk.md:%d: %s has no %q", i+1, language, n)
					}
				}
			}
		}
	}
}
