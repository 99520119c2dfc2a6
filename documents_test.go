package durun_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// otherLanguages are the documents in which Name.Name need not be Go.
var otherLanguages = map[string]bool{
	"docs/assemblyscript.md": true, "docs/c.md": true, "docs/python.md": true, "docs/rust.md": true,
	"docs/sdk.md": true,
}

var (
	codeSpan   = regexp.MustCompile("`([^`\n]+)`")
	mdLink     = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	mdHeading  = regexp.MustCompile(`(?m)^#+ (.*)$`)
	mdFence    = regexp.MustCompile("(?ms)^(```+)[^\n]*\n.*?^```+$")
	sourcePath = regexp.MustCompile(`^[\w./*-]+\.(go|md|json|h|wat|wasm)$`)
	goMember   = regexp.MustCompile(`^[A-Z]\w*\.[A-Z]\w*$`)
	goSelector = regexp.MustCompile(`^[a-z]+\.[A-Z]\w*(\.[A-Z]\w*)?$`)
	variable   = regexp.MustCompile(`\bDURUN_[A-Z_]*[A-Z]\b`)
	notInSlug  = regexp.MustCompile(`[^\p{L}\p{N}_ -]`)
)

// documents returns the Markdown files of this repository by path, without those that are test data.
func documents(t *testing.T) map[string]string {
	t.Helper()
	docs := map[string]string{}
	walk(t, func(path string) {
		if filepath.Ext(path) != ".md" {
			return
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		docs[path] = string(text)
	})
	if len(docs) < 10 {
		t.Fatalf("only %d documents found", len(docs))
	}
	return docs
}

// walk visits the files of this repository.
func walk(t *testing.T, visit func(path string)) {
	t.Helper()
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == ".git" || d.Name() == "node_modules" || d.Name() == "target" || path == "bin"):
			return fs.SkipDir
		case !d.IsDir():
			visit(filepath.ToSlash(path))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestLinks follows the links between documents: the file has to be there, and the heading.
func TestLinks(t *testing.T) {
	docs := documents(t)
	for name, text := range docs {
		for _, m := range mdLink.FindAllStringSubmatch(mdFence.ReplaceAllString(text, ""), -1) {
			target, anchor, _ := strings.Cut(m[1], "#")
			if strings.Contains(target, "://") {
				continue
			}
			path := name
			if target != "" {
				path = filepath.ToSlash(filepath.Join(filepath.Dir(name), target))
			}
			if _, err := os.Stat(path); err != nil {
				t.Errorf("%s: the link %s leads nowhere", name, m[1])
			} else if anchor != "" && !headings(docs[path])[anchor] {
				t.Errorf("%s: the link %s leads to no heading", name, m[1])
			}
		}
	}
}

// headings returns the anchors of a document, as GitHub makes them.
func headings(text string) map[string]bool {
	anchors := map[string]bool{}
	for _, m := range mdHeading.FindAllStringSubmatch(mdFence.ReplaceAllString(text, ""), -1) {
		slug := notInSlug.ReplaceAllString(strings.ToLower(m[1]), "")
		anchors[strings.ReplaceAll(slug, " ", "-")] = true
	}
	return anchors
}

func TestHeadings(t *testing.T) {
	got := headings("# Two nodes\n```sh\n# a comment\n```\n## What is `--sync=false`, and why?\n")
	for _, want := range []string{"two-nodes", "what-is---syncfalse-and-why"} {
		if !got[want] {
			t.Errorf("no anchor %s in %v", want, got)
		}
	}
	if len(got) != 2 {
		t.Errorf("anchors %v", got)
	}
}

// TestNames looks for what the documents name: files, exported identifiers of Go packages, environment variables.
func TestNames(t *testing.T) {
	files, packages, identifiers, variables := map[string]bool{}, map[string]bool{}, map[string]bool{}, map[string]bool{}
	walk(t, func(path string) {
		for p := path; ; {
			files[p] = true // by all its endings: a document may be brief about the folder
			_, rest, ok := strings.Cut(p, "/")
			if !ok {
				break
			}
			p = rest
		}
		if filepath.Ext(path) == ".md" || strings.Contains(path, "testdata/") {
			return
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range variable.FindAllString(string(text), -1) {
			variables[v] = true
		}
		if filepath.Ext(path) == ".go" && !strings.HasSuffix(path, "_test.go") {
			packages[declare(t, path, text, identifiers)] = true
		}
	})
	for name, text := range documents(t) {
		for _, v := range variable.FindAllString(text, -1) {
			if !variables[v] {
				t.Errorf("%s: nothing reads the variable %s", name, v)
			}
		}
		for _, m := range codeSpan.FindAllStringSubmatch(mdFence.ReplaceAllString(text, ""), -1) {
			span := strings.TrimSuffix(m[1], "()")
			pkg, _, _ := strings.Cut(span, ".")
			switch {
			case sourcePath.MatchString(span) && !strings.Contains(span, "*"):
				if !files[strings.TrimPrefix(span, "./")] {
					t.Errorf("%s: there is no file %s", name, span)
				}
			case otherLanguages[name]:
			case goMember.MatchString(span), goSelector.MatchString(span) && packages[pkg]:
				if !identifiers[span] {
					t.Errorf("%s: there is no %s", name, span)
				}
			}
		}
	}
}

// declare adds what a file of Go declares to names, as package.Name, Type.Member and package.Type.Member, and returns its
// package's name.
func declare(t *testing.T, path string, text []byte, names map[string]bool) string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, text, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	pkg := file.Name.Name + "."
	member := func(of string, idents ...*ast.Ident) {
		for _, id := range idents {
			names[of+"."+id.Name], names[pkg+of+"."+id.Name] = true, true
		}
	}
	for _, d := range file.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Recv == nil {
				names[pkg+d.Name.Name] = true
				continue
			}
			of := d.Recv.List[0].Type
			if star, ok := of.(*ast.StarExpr); ok {
				of = star.X
			}
			if id, ok := of.(*ast.Ident); ok {
				member(id.Name, d.Name)
			}
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				switch spec := spec.(type) {
				case *ast.ValueSpec:
					for _, id := range spec.Names {
						names[pkg+id.Name] = true
					}
				case *ast.TypeSpec:
					names[pkg+spec.Name.Name] = true
					var fields *ast.FieldList
					switch typ := spec.Type.(type) {
					case *ast.StructType:
						fields = typ.Fields
					case *ast.InterfaceType:
						fields = typ.Methods
					default:
						continue
					}
					for _, f := range fields.List {
						member(spec.Name.Name, f.Names...)
					}
				}
			}
		}
	}
	return file.Name.Name
}
