// Package bucket is the object storage that a store of snapshots stands on: five verbs and one condition.
//
// A [Bucket] holds objects under keys. An object is created whole and only if absent, is never changed, and is durable
// when Put returns. That is all that durun asks of a storage service, and what folders, S3, GCS and Azure can give:
//
//	put if absent    link(2), If-None-Match: *, generation 0
//	get with range   pread, Range
//	stat             lstat, HEAD
//	list by prefix   readdir, ListObjectsV2
//	delete           unlink, DELETE
//
// What some have beyond that are interfaces of their own, which a driver implements or doesn't: [Locker], [Clock], [Watcher]
// and others.
//
// Here live the interface, its errors, the keys' rules, [OpenURL] and the in-memory driver. Each other driver is a
// package below this one (file, s3), so that a program links only those it imports, and proves itself with
// buckettest.Run. Nothing here knows of snapshots; the package imports the standard library alone.
package bucket
