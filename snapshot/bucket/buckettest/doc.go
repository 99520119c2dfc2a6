// Package buckettest tests drivers of package bucket, and what stands on them.
//
// [Run] is the conformance suite: every driver's tests call it. [Faulty] is a bucket that fails when told to: before an
// operation, after it (the answer is lost), or for good (a crash), so that a test can try every step of whatever uses a
// bucket. [NoLock] takes a bucket's locks away. The package is for tests; it imports testing and bucket alone.
package buckettest
