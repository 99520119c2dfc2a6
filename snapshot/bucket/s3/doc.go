// Package s3 keeps a bucket in Amazon S3 or a service that speaks its protocol: MinIO, Cloudflare R2, Ceph, versitygw.
//
//	s3://bucket                                 at Amazon; region and credentials as the AWS tools find them
//	s3://bucket/prefix?region=eu-central-1      below a prefix of the bucket's keys
//	s3://bucket?endpoint=http://localhost:9000  at another service
//
// [Config] says what settings there are, and which environment variables and files stand in for them.
//
// # What it asks of the service
//
// Put is one request, PUT with If-None-Match: *, never a multipart upload. Where the service holds the condition, one of
// several writers wins; where it ignores it, they would overwrite each other's commits unseen. So before the first Put a
// bucket asks the service, by putting an object of its own, .durun/if-none-match, which must be refused once it is there.
// Listings are expected in the order of keys, which Amazon's directory buckets don't give: they are refused by name.
//
// The SHA-256 of each body is part of the request's signature, so that a service takes no body that was damaged on its way.
// What is read is verified by those who read it, as package snapshot does.
//
// # Failures
//
// Time-outs, lost connections, 5xx, 429 and the like are retried with exponential backoff and jitter, as long as the time
// since the operation's beginning is less than a minute ([Config].RetryFor); a Retry-After is heeded. A connection on
// which nothing moves for 30 s is given up. A service that can't be reached at all is retried only if it has answered
// before, since else the address is likely wrong. Whatever else goes wrong is an error at once.
//
// A PUT whose answer is lost may have been done. Each Put marks its object with a random number, as metadata; if
// a retry finds an object there, its mark tells whether it is this Put's own. A body of a Get that breaks off is read on
// from where it was, as long as the object is the same.
//
// The package imports minio-go for requests, signatures and credentials; its own retries are off.
package s3
