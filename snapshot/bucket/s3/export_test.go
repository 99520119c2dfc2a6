package s3

import "time"

// WithStall has connections given up sooner than a test would wait.
func (c Config) WithStall(d time.Duration) Config {
	c.stall = d
	return c
}
