// Package command is the durun command: one file a verb, each with its newXCommand, an options struct and runX.
//
// What is written for the caller goes through the command's writers; nothing here touches os.Stdout or calls os.Exit.
// [Main] turns errors into messages and exit codes, and is the only place that does. The package knows the public
// packages runtime, snapshot and hostabi, and no store driver: package main registers those.
package command
