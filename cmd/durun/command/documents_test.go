package command

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// otherFlags are flags that the documents name and durun has not, with whose they are.
var otherFlags = map[string]string{
	"--sidecar": "versitygw",
}

var (
	codeBlock = regexp.MustCompile("(?ms)^```(?:sh|sh ignore|text)\n(.*?)^```$")
	codeSpan  = regexp.MustCompile("`([^`\n]+)`")
	flagSpan  = regexp.MustCompile("^--[a-z][a-z-]+")
	verb      = regexp.MustCompile(`(?:^|[\s(])durun ([a-z]+)`)
)

// TestDocuments holds what the documents say of the command to what there is: each "durun VERB FLAGS…" in their code has to
// be one that parses, also in blocks that TestDocs doesn't run; each flag named by itself has to be some verb's.
func TestDocuments(t *testing.T) {
	t.Parallel()
	root := newRoot(&app{Config: Config{Stdout: io.Discard, Stderr: io.Discard}})
	root.InitDefaultHelpCmd()
	all := map[string]bool{}
	visit(root, func(c *cobra.Command) {
		c.InitDefaultHelpFlag()
		add := func(f *pflag.Flag) { all["--"+f.Name] = true }
		c.Flags().VisitAll(add)
		c.PersistentFlags().VisitAll(add)
	})

	commands := 0
	for name, text := range readDocuments(t) {
		var code []string
		for _, m := range codeBlock.FindAllStringSubmatch(text, -1) {
			code = append(code, m[1])
		}
		for _, m := range codeSpan.FindAllStringSubmatch(codeBlock.ReplaceAllString(text, ""), -1) {
			code = append(code, m[1])
			if f := flagSpan.FindString(m[1]); f != "" && !all[f] && otherFlags[f] == "" {
				t.Errorf("%s: no command has the flag %s", name, f)
			}
		}
		for _, c := range code {
			for _, at := range verb.FindAllStringSubmatchIndex(c, -1) {
				commands++
				words := shellWords(c[at[2]:])
				found, args, err := root.Find(words)
				if err == nil && found == root {
					err = errors.New("no such verb")
				}
				if err == nil {
					err = found.ParseFlags(args)
				}
				if err != nil {
					t.Errorf("%s: durun %s: %v", name, strings.Join(words, " "), err)
				}
			}
		}
	}
	if commands < 50 {
		t.Errorf("found only %d commands in the documents", commands)
	}
}

// visit calls f for a command and all below it.
func visit(c *cobra.Command, f func(*cobra.Command)) {
	f(c)
	for _, sub := range c.Commands() {
		visit(sub, f)
	}
}

// readDocuments returns the repository's documents by path, but for FORMAT.md: it has keys' labels that look like commands.
func readDocuments(t *testing.T) map[string]string {
	t.Helper()
	docs := map[string]string{}
	for _, pattern := range []string{"*.md", "docs/*.md", "guests/*.md", "hostabi/*.md", "hostabi/*/*.md"} {
		paths, err := filepath.Glob(filepath.Join("..", "..", "..", pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			docs[filepath.ToSlash(path)] = string(text)
		}
	}
	return docs
}

// shellWords returns the words of the first simple command in a script, without quotes, as far as documents need that:
// redirections and substitutions stay as they are written.
func shellWords(script string) []string {
	var words []string
	var word strings.Builder
	open := false // a word has begun
	end := func() {
		if open {
			words = append(words, word.String())
		}
		word.Reset()
		open = false
	}
	for i := 0; i < len(script); i++ {
		switch c := script[i]; {
		case c == '\\' && i+1 < len(script):
			if i++; script[i] != '\n' {
				word.WriteByte(script[i])
				open = true
			}
		case c == '\'' || c == '"':
			open = true
			for i++; i < len(script) && script[i] != c; i++ {
				word.WriteByte(script[i])
			}
		case c == ' ' || c == '\t':
			end()
		case strings.IndexByte("\n;|&()<>", c) >= 0, c == '#' && !open:
			end()
			return words
		default:
			word.WriteByte(c)
			open = true
		}
	}
	end()
	return words
}

func TestShellWords(t *testing.T) {
	t.Parallel()
	for script, want := range map[string][]string{
		"ps -a | grep x":                    {"ps", "-a"},
		"run --id a \\\n  m.wasm # comment": {"run", "--id", "a", "m.wasm"},
		"run --handler 'x=exec:a | b' m":    {"run", "--handler", "x=exec:a | b", "m"},
		"send a b \"\" >out; durun ps":      {"send", "a", "b", ""},
		"run m -c '\nimport time'\nls":      {"run", "m", "-c", "\nimport time"},
	} {
		if got := shellWords(script); !slices.Equal(got, want) {
			t.Errorf("%q: words %q, want %q", script, got, want)
		}
	}
}

// TestExitCodesHelp holds the help to the constants: each is explained, and nothing else is.
func TestExitCodesHelp(t *testing.T) {
	t.Parallel()
	file, err := parser.ParseFile(token.NewFileSet(), "exit.go", nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	codes := map[string]string{} // their names
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if ok && len(spec.Values) == 1 && strings.HasPrefix(spec.Names[0].Name, "exit") {
			if value, ok := spec.Values[0].(*ast.BasicLit); ok && value.Kind == token.INT {
				codes[value.Value] = spec.Names[0].Name
			}
		}
		return true
	})
	if codes["79"] != "exitSuspended" {
		t.Fatalf("the constants of exit.go: %v", codes)
	}
	for code, name := range codes {
		if !regexp.MustCompile(`\b` + code + `\b`).MatchString(exitCodesHelp) {
			t.Errorf("the help doesn't say what %s is, which is %s", code, name)
		}
	}
	for _, m := range regexp.MustCompile(`(?m)^  (\d+) +\S`).FindAllStringSubmatch(exitCodesHelp, -1) {
		if codes[m[1]] == "" {
			t.Errorf("the help explains exit code %s, and there is no constant for it", m[1])
		}
	}
	for name, text := range readDocuments(t) {
		for _, m := range regexp.MustCompile(`exit\s+code\s+(\d{2,3})\b`).FindAllStringSubmatch(text, -1) {
			if codes[m[1]] == "" {
				t.Errorf("%s: there is no exit code %s", name, m[1])
			}
		}
	}
}
