package s3test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"testing"
	"time"

	"github.com/durun/durun/snapshot/bucket/buckettest"
)

// Refuse is a fault in which the service answers with an error of S3's, before it does what was asked for.
func Refuse(status int, code string) buckettest.HTTPFault {
	return buckettest.HTTPFault{
		Status: status,
		Header: http.Header{"Content-Type": {"application/xml"}, "Date": {time.Now().UTC().Format(http.TimeFormat)}},
		Body:   fmt.Sprintf("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>%s</Code><Message>injected</Message><RequestId>R1</RequestId></Error>", code),
	}
}

// Faults is a plan in which a percentage of requests fail, in every way that a client should get over, by chance. The
// seed shows in the test's output.
func Faults(tb testing.TB, percent int) func(buckettest.Request) buckettest.HTTPFault {
	seed := rand.Uint64()
	tb.Logf("faults in %d %% of requests, seed %d", percent, seed)
	r := rand.New(rand.NewPCG(seed, 0))
	after := func(f buckettest.HTTPFault) buckettest.HTTPFault {
		f.After = true
		return f
	}
	kinds := []func() buckettest.HTTPFault{
		func() buckettest.HTTPFault { return buckettest.HTTPFault{Drop: true} },
		func() buckettest.HTTPFault { return buckettest.HTTPFault{Drop: true, After: true} },
		func() buckettest.HTTPFault { return Refuse(http.StatusInternalServerError, "InternalError") },
		func() buckettest.HTTPFault { return after(Refuse(http.StatusInternalServerError, "InternalError")) },
		func() buckettest.HTTPFault { return Refuse(http.StatusServiceUnavailable, "SlowDown") },
		func() buckettest.HTTPFault { return Refuse(http.StatusTooManyRequests, "TooManyRequests") },
		func() buckettest.HTTPFault {
			return buckettest.HTTPFault{Status: http.StatusBadGateway, Body: "<html>bad gateway</html>"}
		},
		func() buckettest.HTTPFault {
			return buckettest.HTTPFault{Status: http.StatusGatewayTimeout, After: true}
		},
		func() buckettest.HTTPFault { return Refuse(http.StatusConflict, "ConditionalRequestConflict") },
		func() buckettest.HTTPFault { return Refuse(http.StatusBadRequest, "RequestTimeout") },
		func() buckettest.HTTPFault { return buckettest.HTTPFault{Truncate: 1 + r.Int64N(2000)} },
		func() buckettest.HTTPFault { return buckettest.HTTPFault{Truncate: 1 + r.Int64N(100_000)} },
		func() buckettest.HTTPFault { return buckettest.HTTPFault{Damage: true} },
		func() buckettest.HTTPFault {
			return buckettest.HTTPFault{Delay: time.Duration(r.Int64N(int64(20 * time.Millisecond)))}
		},
	}
	return func(buckettest.Request) buckettest.HTTPFault {
		if r.IntN(100) >= percent {
			return buckettest.HTTPFault{}
		}
		return kinds[r.IntN(len(kinds))]()
	}
}
