package file

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/durun/durun/snapshot/bucket"
)

// The tests here run this test binary again, as other processes on the same folder.

const (
	childEnv  = "DURUN_FILE_CHILD"
	folderEnv = "DURUN_FILE_FOLDER"
)

func TestMain(m *testing.M) {
	role := os.Getenv(childEnv)
	if role == "" {
		os.Exit(m.Run())
	}
	if err := child(role, os.Getenv(folderEnv)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

const raceKeys = 60

// content is what a writer puts under a key: it can be told whose it is and whether it is whole.
func content(writer string, i int) []byte {
	return []byte(strings.Repeat(fmt.Sprintf("%s %d\n", writer, i), 2000+i))
}

func child(role, folder string) error {
	b, err := Open(folder)
	if err != nil {
		return err
	}
	ctx := context.Background()
	role, name, _ := strings.Cut(role, ":")
	switch role {
	case "race": // creates all keys, prints those that it won
		fmt.Fprintln(os.Stdout, "ready")
		if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
			return err
		}
		for i := range raceKeys {
			err := bucket.PutBytes(ctx, b, fmt.Sprintf("race/%d/%d", i%5, i), content(name, i))
			switch {
			case err == nil:
				fmt.Fprintln(os.Stdout, i)
			case !errors.Is(err, bucket.ErrExist):
				return err
			}
		}
		return nil
	case "write": // creates keys until it is killed, prints each once it is durable
		for i := 0; ; i++ {
			if err := bucket.PutBytes(ctx, b, fmt.Sprintf("w/%s/%d", name, i), content(name, i)); err != nil {
				return err
			}
			fmt.Fprintln(os.Stdout, i)
		}
	case "lock": // holds a lock until it is killed
		if _, err := b.TryLock(ctx, "leases/p"); err != nil {
			return err
		}
		fmt.Fprintln(os.Stdout, "locked")
		_, err := io.Copy(io.Discard, os.Stdin)
		return err
	default:
		return fmt.Errorf("unknown role %s", role)
	}
}

func start(t *testing.T, folder, role string) (*exec.Cmd, io.WriteCloser, *bufio.Reader) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), childEnv+"="+role, folderEnv+"="+folder)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd, in, bufio.NewReader(out)
}

func TestProcessesRaceToCreate(t *testing.T) {
	folder := t.TempDir()
	names := []string{"a", "b", "c", "d"}
	outs := make([]*bufio.Reader, len(names))
	ins := make([]io.WriteCloser, len(names))
	for i, name := range names {
		_, ins[i], outs[i] = start(t, folder, "race:"+name)
		if line, err := outs[i].ReadString('\n'); line != "ready\n" {
			t.Fatal(line, err)
		}
	}
	for _, in := range ins {
		if _, err := io.WriteString(in, "go\n"); err != nil {
			t.Fatal(err)
		}
	}
	winner := map[int]string{}
	for i, out := range outs {
		all, err := io.ReadAll(out)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range strings.Fields(string(all)) {
			var k int
			if _, err := fmt.Sscan(line, &k); err != nil {
				t.Fatal(err)
			}
			if w, ok := winner[k]; ok {
				t.Errorf("both %s and %s won key %d", w, names[i], k)
			}
			winner[k] = names[i]
		}
	}
	b, err := Open(folder)
	if err != nil {
		t.Fatal(err)
	}
	for k := range raceKeys {
		got, err := read(t, b, fmt.Sprintf("race/%d/%d", k%5, k))
		if err != nil || winner[k] == "" || got != string(content(winner[k], k)) {
			t.Errorf("key %d, won by %q: %d bytes, %v", k, winner[k], len(got), err)
		}
	}
}

func TestKilledWriters(t *testing.T) {
	folder := t.TempDir()
	b, err := Open(folder)
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(3, 4))
	for round := range 6 {
		name := fmt.Sprintf("k%d", round)
		cmd, _, out := start(t, folder, "write:"+name)
		told := 0
		for range 1 + r.IntN(20) {
			if _, err := out.ReadString('\n'); err != nil {
				t.Fatal(err)
			}
			told++
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		rest, _ := io.ReadAll(out)
		_ = cmd.Wait()
		told += bytes.Count(rest, []byte("\n"))
		n := 0
		for e, err := range b.List(t.Context(), bucket.ListOptions{Prefix: "w/" + name + "/"}) {
			if err != nil {
				t.Fatal(err)
			}
			var i int
			if _, err := fmt.Sscanf(e.Key, "w/"+name+"/%d", &i); err != nil {
				t.Fatal(err)
			}
			if got, err := read(t, b, e.Key); err != nil || got != string(content(name, i)) {
				t.Errorf("%s: %d bytes, %v", e.Key, len(got), err)
			}
			n++
		}
		if n != told && n != told+1 {
			t.Errorf("%d objects were put, %d are there", told, n)
		}
	}
	// What the killed ones left behind goes, once it is old.
	old := time.Now().Add(-time.Hour)
	for _, name := range temporary(t, b) {
		if err := os.Chtimes(b.path(tmpDir+"/"+name), old, old); err != nil {
			t.Fatal(err)
		}
	}
	if err := bucket.PutBytes(t.Context(), b, "k", nil); err != nil {
		t.Fatal(err)
	}
	if left := temporary(t, b); left != nil {
		t.Errorf("left: %q", left)
	}
}

func TestKilledLockHolder(t *testing.T) {
	folder := t.TempDir()
	b, err := Open(folder)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		cmd, _, out := start(t, folder, "lock")
		if line, err := out.ReadString('\n'); line != "locked\n" {
			t.Fatal(line, err)
		}
		if _, err := b.TryLock(t.Context(), "leases/p"); !errors.Is(err, bucket.ErrLocked) {
			t.Errorf("while another process holds it: %v", err)
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		release, err := b.TryLock(t.Context(), "leases/p")
		if err != nil {
			t.Fatalf("after its holder was killed: %v", err)
		}
		if err := release(); err != nil {
			t.Error(err)
		}
	}
}
