// Package s3test runs a real S3 service for tests, and faults between it and its clients.
//
// The service is versitygw, a program of other people, on a folder that ends with the test. It listens on a socket, and
// a buckettest.Proxy stands before it, which counts requests and fails those that a test wants to fail. `make
// versitygw` installs it in the cache folder. Where it is missing, tests are skipped, but fail if the environment
// variable CI is set.
package s3test
