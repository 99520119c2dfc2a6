package serve

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestDocumentedRoutes holds that the package's documentation has the routes that there are.
func TestDocumentedRoutes(t *testing.T) {
	doc, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	var documented []string
	for _, m := range regexp.MustCompile(`(?m)^//\t([A-Z]+) +(/[^ ?]*)`).FindAllStringSubmatch(string(doc), -1) {
		documented = append(documented, m[1]+" "+m[2])
	}
	names := strings.NewReplacer("{id}", "ID", "{name}", "NAME")
	var there []string
	for pattern := range maps.Keys((&server{}).routes()) {
		there = append(there, names.Replace(pattern))
	}
	slices.Sort(there)
	slices.Sort(documented)
	if !slices.Equal(documented, there) {
		t.Errorf("documented:\n%s\nthere:\n%s", strings.Join(documented, "\n"), strings.Join(there, "\n"))
	}
}
