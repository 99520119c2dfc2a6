package s3

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/durun/durun/snapshot/bucket"
)

// failure is what became of a request.
type failure struct {
	err     error // a *bucket.Error
	retry   bool  // the same request may succeed
	doubt   bool  // so it may, but not likely
	expired bool  // fresh credentials may help
	absent  bool  // there is no such object
	exists  bool  // the condition of a Put doesn't hold
}

// Codes of errors, beyond those that an HTTP status tells as well. Services differ in which they use.
var (
	transientCodes = []string{
		"RequestTimeout", "SlowDown", "Throttling", "ThrottlingException", "RequestLimitExceeded", "InternalError", "ServiceUnavailable",
		"ConditionalRequestConflict", "OperationAborted", "RequestTimeTooSlow", "TemporaryRedirect",
		// The body was damaged or cut on its way.
		"BadDigest", "XAmzContentSHA256Mismatch", "IncompleteBody", "IncompleteSignature",
	}
	expiredCodes = []string{"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"}
	fullCodes    = []string{"QuotaExceeded", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "InsufficientStorage", "StorageFull"}
	keyCodes     = []string{"KeyTooLongError", "InvalidObjectName", "XMinioInvalidObjectName"}
	// Where a service keeps objects as files, a key can't be an object and a folder. versitygw says so as well when a
	// folder is removed that it was about to put an object into.
	folderCodes   = []string{"ExistingObjectIsDirectory", "ObjectParentIsFile", "XMinioObjectExistsAsDirectory", "XMinioParentIsObject"}
	absentCodes   = []string{"NoSuchKey", "NoSuchVersion", "NotFound"}
	strangerCodes = []string{"InvalidAccessKeyId", "XAdminUserNotFound"} // the latter is versitygw's
	regionCodes   = []string{"PermanentRedirect", "AuthorizationHeaderMalformed", "InvalidRegion", "IllegalLocationConstraintException"}
	skewedCodes   = []string{"RequestTimeTooSkewed", "RequestExpired"}
)

// transientStatus are answers to repeat a request on, whatever their code. 409 comes of two writers at once; 520 to 529
// are of proxies whose service didn't answer.
func transientStatus(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusTooManyRequests, 499, http.StatusInternalServerError, http.StatusBadGateway,
		http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return status >= 520 && status <= 529
}

// fail makes what an operation returns of the error of its request.
func (b *Bucket) fail(op, key string, err error, x *exchange) *failure {
	if err == nil {
		return nil
	}
	e := &bucket.Error{Op: op, Key: key}
	f := &failure{err: e}
	var resp minio.ErrorResponse
	switch {
	case !x.sent:
		b.failUnsent(f, e, err)
	case x.status == 0:
		e.Kind, e.Err = bucket.ErrUnavailable, fmt.Errorf("%s: %w", b.endpoint.Host, plain(x.err))
		f.retry = b.answered.Load() || !isUnreachable(x.err)
	case errors.As(err, &resp):
		b.failAnswered(f, e, resp, x)
	default: // an answer that broke off, or that makes no sense
		e.Kind, e.Err = bucket.ErrUnavailable, fmt.Errorf("the answer of %s: %w", b.endpoint.Host, err)
		f.retry = true
	}
	return f
}

// failUnsent is for a request that was not made: minio-go refuses its arguments, or there are no credentials.
func (b *Bucket) failUnsent(f *failure, e *bucket.Error, err error) {
	var resp minio.ErrorResponse
	if errors.As(err, &resp) && resp.Code == "InvalidArgument" {
		e.Kind, e.Err = bucket.ErrURL, err
		return
	}
	e.Kind, e.Err = bucket.ErrPermission, fmt.Errorf("credentials: %w", err)
	var network net.Error
	f.retry = errors.As(err, &network) && b.answered.Load() // they were to be renewed
}

// failAnswered is for a request that was answered with an error.
func (b *Bucket) failAnswered(f *failure, e *bucket.Error, resp minio.ErrorResponse, x *exchange) {
	is := func(codes []string) bool { return slices.Contains(codes, resp.Code) }
	hint := ""
	// An answer without S3's document is one to a HEAD, which can't say what is wrong, or comes of some server on the way.
	// minio-go has the status for a code then.
	bare := strings.HasPrefix(resp.Code, strconv.Itoa(x.status))
	switch status := x.status; {
	case is(expiredCodes):
		f.expired = true
		e.Kind, hint = bucket.ErrPermission, "the credentials have expired; renew them"
	case is(skewedCodes):
		e.Kind, hint = bucket.ErrPermission, b.skewHint(x)
	case is(regionCodes), status == http.StatusMovedPermanently, bare && status == http.StatusBadRequest && resp.Region != "" && resp.Region != b.config.Region:
		e.Kind, hint = bucket.ErrUnavailable, b.regionHint(resp.Region)
	case is(fullCodes), status == http.StatusInsufficientStorage:
		e.Kind = bucket.ErrFull
	case is(keyCodes):
		e.Kind = bucket.ErrKey
	case is(folderCodes):
		f.retry, f.doubt = true, true
		e.Kind = bucket.ErrKey
	case is(strangerCodes):
		e.Kind = bucket.ErrPermission
		hint = fmt.Sprintf("%s doesn't know the access key: check the credentials and the endpoint", b.endpoint.Host)
	case resp.Code == "NoSuchBucket":
		e.Kind = bucket.ErrUnavailable
		hint = fmt.Sprintf("there is no bucket %q at %s: create it, or check its name and the endpoint", b.config.Bucket, b.endpoint.Host)
	case status == http.StatusPreconditionFailed:
		f.exists = true
		e.Kind = bucket.ErrExist
	case status == http.StatusRequestedRangeNotSatisfiable, status == http.StatusNotModified:
	case status == http.StatusNotFound && is(absentCodes): // minio-go gives that code to an answer without one
		f.absent = true
		e.Kind = bucket.ErrNotExist
		return // that says it all
	case resp.Code == "EntityTooLarge", status == http.StatusRequestEntityTooLarge:
		e.Kind = bucket.ErrTooLarge
	case is(transientCodes), transientStatus(status), status == http.StatusConflict:
		f.retry = true
		e.Kind = bucket.ErrUnavailable
	case resp.Code == "SignatureDoesNotMatch":
		e.Kind, hint = bucket.ErrPermission, "the secret key is not that of the access key, or the region is another, or something on the way changes requests"
	case status == http.StatusForbidden, status == http.StatusUnauthorized:
		e.Kind = bucket.ErrPermission
		hint = fmt.Sprintf("the credentials must allow %s on bucket %s", actions[e.Op], b.config.Bucket)
	case status == http.StatusNotImplemented:
		e.Kind, hint = bucket.ErrUnavailable, "the service doesn't know this request"
	default:
		f.retry, f.doubt = bare, bare
		e.Kind = bucket.ErrUnavailable
	}
	e.Err = &answerError{hint: hint, status: x.status, response: resp}
}

// actions are the rights that operations need, as policies name them. Without the right to list, a key that isn't there is
// answered as forbidden.
var actions = map[string]string{
	"put": "s3:PutObject", "get": "s3:GetObject and s3:ListBucket", "stat": "s3:GetObject and s3:ListBucket", "list": "s3:ListBucket",
	"delete": "s3:DeleteObject", "now": "s3:GetObject", "open": "s3:GetBucketLocation",
}

func (b *Bucket) skewHint(x *exchange) string {
	const advice = "set the clock of this machine"
	theirs, err := http.ParseTime(x.header.Get("Date"))
	if err != nil {
		return advice
	}
	d := x.at.Sub(theirs).Round(time.Second)
	if d < 0 {
		return fmt.Sprintf("%s: it is %s behind that of %s", advice, -d, b.endpoint.Host)
	}
	return fmt.Sprintf("%s: it is %s ahead of that of %s", advice, d, b.endpoint.Host)
}

func (b *Bucket) regionHint(region string) string {
	if region == "" || region == b.config.Region {
		return "the bucket is in another region than " + b.config.Region + ": give its own as ?region=NAME, or set AWS_REGION"
	}
	return fmt.Sprintf("the bucket is in region %s, not %s: add ?region=%s to the URL, or set AWS_REGION", region, b.config.Region, region)
}

// answerError is a service's answer that is an error. It unwraps to minio-go's.
type answerError struct {
	hint     string // what to do, or empty
	status   int
	response minio.ErrorResponse
}

func (e *answerError) Error() string {
	text := strings.TrimSuffix(strings.TrimSpace(e.response.Error()), ".")
	facts := fmt.Sprintf("HTTP %d", e.status)
	if code := e.response.Code; code != "" && !strings.HasPrefix(code, strconv.Itoa(e.status)) {
		facts += " " + code
	}
	if id := e.response.RequestID; id != "" {
		facts += ", request " + id
	}
	if e.hint != "" {
		text = e.hint + ": " + text
	}
	return text + " (" + facts + ")"
}

func (e *answerError) Unwrap() error { return e.response }

// isUnreachable says that a connection was never made.
func isUnreachable(err error) bool {
	var op *net.OpError
	var dns *net.DNSError
	return errors.As(err, &dns) || errors.As(err, &op) && op.Op == "dial"
}

// plain gives an end of file that nobody expected its name.
func plain(err error) error {
	if err == io.EOF { //nolint:errorlint // as the transport returns it
		return fmt.Errorf("the connection was closed: %w", io.ErrUnexpectedEOF)
	}
	return err
}
