package command

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestInstrumentReport checks what the report says of the smallest module there is, and of one whose numbers are known:
// JSON and text agree.
func TestInstrumentReport(t *testing.T) {
	instrument := func(module string, flags ...string) (report string) {
		var stdout, stderr bytes.Buffer
		args := append([]string{"instrument", module, "-o", filepath.Join(t.TempDir(), "out.wasm")}, flags...)
		if code := Main(Config{Stdout: &stdout, Stderr: &stderr}, args); code != exitOK {
			t.Fatalf("%q: exit code %d: %s", args, code, stderr.Bytes())
		}
		if stdout.Len() > 0 {
			t.Errorf("%q: wrote %q to standard output", args, stdout.Bytes())
		}
		return stderr.String()
	}
	empty := filepath.Join(t.TempDir(), "empty.wasm")
	if err := os.WriteFile(empty, []byte("\x00asm\x01\x00\x00\x00"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		module string
		want   instrumented
		text   string // the first line
	}{
		{empty, instrumented{BytesBefore: 8}, "functions  0, of which 0 (0.0 %) may suspend"},
		{
			filepath.Join("..", "..", "..", "testdata", "wat", "multivalue.wasm"),
			instrumented{Functions: 11, Suspendable: 7, Sites: 16, CodeBefore: 267},
			"functions  11, of which 7 (63.6 %) may suspend",
		},
	} {
		var got instrumented
		d := json.NewDecoder(bytes.NewReader([]byte(instrument(c.module, "--report", "json"))))
		d.DisallowUnknownFields()
		if err := d.Decode(&got); err != nil {
			t.Fatal(err)
		}
		if got.Seconds <= 0 || got.BytesAfter <= got.BytesBefore {
			t.Errorf("%s: %+v", c.module, got)
		}
		if c.want.CodeBefore > 0 && (got.CodeAfter <= got.CodeBefore || got.CodeRatio <= 1) {
			t.Errorf("%s: %d bytes of code, was %d: %v", c.module, got.CodeAfter, got.CodeBefore, got.CodeRatio)
		}
		// What changes with the transform is not held here.
		c.want.Module = c.module
		c.want.CodeAfter, c.want.CodeRatio, c.want.BytesAfter, c.want.Seconds = got.CodeAfter, got.CodeRatio, got.BytesAfter, got.Seconds
		if c.want.BytesBefore == 0 {
			c.want.BytesBefore = got.BytesBefore
		}
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", c.module, d)
		}
		if first, _, _ := bytes.Cut([]byte(instrument(c.module, "-v")), []byte("\n")); string(first) != c.text {
			t.Errorf("%s: %q, want %q", c.module, first, c.text)
		}
	}
}
