package command

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/durun/durun/snapshot/bucket"
)

// TestHeldException checks what is said of a program that waits with a caught exception in its hands. In a frame that ends the
// program, in a global the drive.
func TestHeldException(t *testing.T) {
	const (
		prefix = "\x00asm\x01\x00\x00\x00" +
			"\x01\x04\x01\x60\x00\x00" + // type 0: [] -> []
			"\x02\x14\x01\x05durun\x0acheckpoint\x00\x00" + // function 0
			"\x03\x02\x01\x00" + // function 1, of type 0
			"\x0d\x03\x01\x00\x00" // tag 0, of type 0
		global = "\x06\x06\x01\x69\x01\xd0\x69\x0b" // (global (mut exnref) (ref.null exn))
		export = "\x07\x08\x01\x04main\x00\x01"
		// call 0  block (result exnref)  try_table (catch_all_ref 0)  throw 0  end  unreachable  end
		caught = "\x10\x00\x02\x69\x1f\x40\x01\x03\x00\x08\x00\x0b\x00\x0b"
	)
	code := func(locals, body string) string {
		body = locals + caught + body + "\x0b"
		return fmt.Sprintf("\x0a%c\x01%c%s", len(body)+2, len(body), body)
	}
	for _, c := range []struct {
		name, module string
		exit         int
		want         string
	}{
		{
			"local", prefix + export + code("\x01\x01\x69", "\x21\x00\x10\x00\x20\x00\x0a"), // local.set 0  call 0  local.get 0  throw_ref
			exitTrap, "x failed: the program can't be suspended in the call in function 1 at offset 0x13: an exnref",
		},
		{
			"global", prefix + global + export + code("\x00", "\x24\x00\x10\x00"), // global.set 0  call 0
			exitData, "the program can't be suspended here: global 0: it holds an exnref",
		},
	} {
		path := filepath.Join(t.TempDir(), c.name+".wasm")
		if err := os.WriteFile(path, []byte(c.module), 0o600); err != nil {
			t.Fatal(err)
		}
		var stdout, stderr bytes.Buffer
		config := Config{Stdout: &stdout, Stderr: &stderr, Drivers: map[string]bucket.Opener{"mem": bucket.OpenMem}}
		code := Main(config, []string{"run", "--store", "mem://", "--no-cache", "--id", "x", path})
		text := stderr.String()
		if code != c.exit || !strings.Contains(text, c.want) || !strings.Contains(text, "let go of it") {
			t.Errorf("%s: exit code %d, want %d, and %q; got:\n%s", c.name, code, c.exit, c.want, text)
		}
		if strings.Contains(text, "a bug in durun") {
			t.Errorf("%s: taken for a bug:\n%s", c.name, text)
		}
	}
}
