module github.com/durun/durun/guests/go/examples

go 1.24

require github.com/durun/durun/guests/go/durun v0.0.0

replace github.com/durun/durun/guests/go/durun => ../durun
