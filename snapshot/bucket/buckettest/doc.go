// Package buckettest tests drivers of package bucket, and what stands on them.
//
// [Run] is the conformance suite: every driver's tests call it. [Faulty] is a bucket that fails when told to: before an
// operation, after it (the answer is lost), or for good (a crash), so that a test can try every step of whatever uses a
// bucket. [NoLock] takes a bucket's locks away. [Proxy] does to HTTP requests what Faulty does to operations: lost and cut
// requests, answers and bodies, errors, damage, delays; it counts them as well. The package is for tests; it imports testing and bucket alone.
package buckettest
