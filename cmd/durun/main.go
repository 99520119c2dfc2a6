// Command durun runs WebAssembly programs as durable coroutines. Package command holds it; here it gets its process and
// the drivers of the stores that it can use.
package main

import (
	"os"

	"github.com/durun/durun/cmd/durun/command"
	"github.com/durun/durun/snapshot/bucket"
	"github.com/durun/durun/snapshot/bucket/file"
	"github.com/durun/durun/snapshot/bucket/s3"
)

func main() { os.Exit(command.Main(config(), os.Args[1:])) }

func config() command.Config {
	return command.Config{
		Stdin:  os.Stdin,
		Stdout: os.Stdout,
		Stderr: os.Stderr,
		Drivers: map[string]bucket.Opener{
			"file": file.OpenURL,
			"mem":  bucket.OpenMem,
			"s3":   s3.OpenURL,
		},
	}
}
