package s3_test

import (
	"testing"

	"github.com/durun/durun/snapshot/bucket"
	"github.com/durun/durun/snapshot/bucket/buckettest"
	"github.com/durun/durun/snapshot/bucket/s3/s3test"
)

func TestConformance(t *testing.T) {
	server := s3test.Start(t)
	buckettest.Run(t, func(t *testing.T) bucket.Bucket { return s3test.Open(t, server.NewBucket(t)) })
}

// TestConformanceWithFaults expects the same of a service and a network that fail now and then.
func TestConformanceWithFaults(t *testing.T) {
	server := s3test.Start(t)
	buckettest.Run(t, func(t *testing.T) bucket.Bucket {
		server.Plan(nil)
		c := server.NewBucket(t)
		server.Plan(s3test.Faults(t, 15))
		return s3test.Open(t, c)
	})
}
