module github.com/durun/durun/guests/go/durun

go 1.24
