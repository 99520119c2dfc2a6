package s3

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/minio/minio-go/v7/pkg/s3utils"

	"github.com/durun/durun/snapshot/bucket"
)

const (
	amazon          = "https://s3.amazonaws.com" // the region's own endpoint takes its place in requests
	defaultRegion   = "us-east-1"                // what services without regions take
	defaultRetryFor = time.Minute
)

// Config says where a bucket is. What is empty comes from the environment or the AWS configuration file, from the first
// of these that has it:
//
//	Endpoint   AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, endpoint_url in the file (also of its services section)
//	Region     AWS_REGION, AWS_DEFAULT_REGION, region in the file; else Amazon is asked
//	Profile    AWS_PROFILE, else "default"
//
// The file is AWS_CONFIG_FILE or ~/.aws/config. AWS_CA_BUNDLE, or ca_bundle there, names a file of certificates to be trusted
// beside the system's. AWS_IGNORE_CONFIGURED_ENDPOINT_URLS=true has only the Endpoint given here
// count. Credentials come from the first of
//
//   - AccessKeyID, SecretAccessKey and SessionToken here, for programs that have them from elsewhere;
//   - AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, unless a Profile is given here;
//   - the profile, in AWS_SHARED_CREDENTIALS_FILE or ~/.aws/credentials, and in the configuration file: keys,
//     credential_process, or what `aws sso login` left;
//   - AWS_WEB_IDENTITY_TOKEN_FILE with AWS_ROLE_ARN, as Kubernetes sets them;
//   - AWS_CONTAINER_CREDENTIALS_RELATIVE_URI or AWS_CONTAINER_CREDENTIALS_FULL_URI, as ECS and EKS set them;
//   - the metadata service of an EC2 machine, unless AWS_EC2_METADATA_DISABLED is true. It has two seconds to answer.
type Config struct {
	Bucket   string // the service's name for it
	Prefix   string // of all keys, without slashes at its ends; may be empty
	Endpoint string // a URL without a path, http or https
	Region   string
	Profile  string
	// PathStyle has the bucket's name in the path, and not in the host's name. Nil: in the path for all but Amazon and the
	// few others that are known to want it in the host's name, or as s3.addressing_style in the configuration file says.
	PathStyle *bool
	// Credentials are not part of a bucket's URL.
	AccessKeyID, SecretAccessKey, SessionToken string

	// RetryFor is how long after an operation's beginning a request of it may be repeated; 0 stands for a minute.
	RetryFor time.Duration

	caBundle string // a file of certificates

	// For tests, in place of stallTimeout and dial.
	stall time.Duration
	dial  dialFunc
}

// parameters are the options in a URL's query.
var parameters = map[string]func(*Config, string) error{
	"endpoint": func(c *Config, v string) error { c.Endpoint = v; return nil },
	"region":   func(c *Config, v string) error { c.Region = v; return nil },
	"profile":  func(c *Config, v string) error { c.Profile = v; return nil },
	"path-style": func(c *Config, v string) error {
		b, err := strconv.ParseBool(v)
		c.PathStyle = &b
		return err
	},
}

// ParseURL reads s3://BUCKET[/PREFIX][?endpoint=URL&region=NAME&profile=NAME&path-style=BOOL]. Errors: [bucket.ErrURL].
func ParseURL(u *url.URL) (Config, error) {
	fail := func(format string, args ...any) (Config, error) {
		return Config{}, &bucket.Error{Op: "open", Key: u.Redacted(), Kind: bucket.ErrURL, Err: fmt.Errorf(format, args...)}
	}
	switch {
	case u.Scheme != "s3":
		return fail("the scheme is not s3")
	case u.User != nil:
		return fail("credentials don't belong into a URL: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE")
	case u.Fragment != "":
		return fail("it has a fragment; write # as %%23")
	case u.Port() != "":
		return fail("a port after the bucket's name; the service's address is a parameter: s3://%s?endpoint=http://HOST:PORT", u.Hostname())
	}
	c := Config{Bucket: u.Host, Prefix: strings.Trim(u.Path, "/")}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return fail("%w", err)
	}
	for _, name := range slices.Sorted(maps.Keys(query)) {
		set, ok := parameters[name]
		if !ok {
			return fail("unknown parameter %q; known are %s", name, strings.Join(slices.Sorted(maps.Keys(parameters)), ", "))
		}
		if len(query[name]) != 1 {
			return fail("parameter %s is given more than once", name)
		}
		if err := set(&c, query.Get(name)); err != nil {
			return fail("parameter %s: %w", name, err)
		}
	}
	if _, err := c.check(); err != nil {
		return fail("%w", err)
	}
	return c, nil
}

// URL is the inverse of [ParseURL].
func (c Config) URL() string {
	u := url.URL{Scheme: "s3", Host: c.Bucket}
	if c.Prefix != "" {
		u.Path = "/" + c.Prefix
	}
	q := url.Values{}
	for name, v := range map[string]string{"endpoint": c.Endpoint, "region": c.Region, "profile": c.Profile} {
		if v != "" {
			q.Set(name, v)
		}
	}
	if c.PathStyle != nil {
		q.Set("path-style", strconv.FormatBool(*c.PathStyle))
	}
	// A URL in an endpoint reads better as it is, and nothing in it needs to be escaped in a query.
	u.RawQuery = strings.NewReplacer("%3A", ":", "%2F", "/").Replace(q.Encode())
	return u.String()
}

// check returns the endpoint's URL, Amazon's if there is none.
func (c Config) check() (*url.URL, error) {
	if err := s3utils.CheckValidBucketNameStrict(c.Bucket); err != nil {
		return nil, fmt.Errorf("bucket %q: %w", c.Bucket, err)
	}
	if s3utils.IsS3ExpressBucket(c.Bucket) {
		return nil, fmt.Errorf("bucket %q: a directory bucket doesn't list its keys in order, which a store needs: use a general purpose bucket", c.Bucket)
	}
	if c.Prefix != "" {
		if err := bucket.ValidKey(c.Prefix); err != nil {
			return nil, fmt.Errorf("prefix: %w", err)
		}
	}
	endpoint := cmp.Or(c.Endpoint, amazon)
	if !strings.Contains(endpoint, "://") {
		endpoint = "https://" + endpoint
	}
	u, err := url.Parse(endpoint)
	switch {
	case err != nil:
		return nil, fmt.Errorf("endpoint: %w", err)
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, fmt.Errorf("endpoint %s: neither http:// nor https://", endpoint)
	case u.Host == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "":
		return nil, fmt.Errorf("endpoint %s: http(s)://HOST[:PORT] is wanted, and no more", endpoint)
	}
	return &url.URL{Scheme: u.Scheme, Host: u.Host}, nil
}

// complete fills in what the environment and the configuration file say.
func (c Config) complete() (Config, error) {
	profile := cmp.Or(c.Profile, os.Getenv("AWS_PROFILE"))
	file, err := loadProfile(profile)
	if err != nil {
		return c, err
	}
	c.Region = cmp.Or(c.Region, os.Getenv("AWS_REGION"), os.Getenv("AWS_DEFAULT_REGION"), file["region"])
	if ignore, _ := strconv.ParseBool(os.Getenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS")); !ignore {
		c.Endpoint = cmp.Or(c.Endpoint, os.Getenv("AWS_ENDPOINT_URL_S3"), os.Getenv("AWS_ENDPOINT_URL"),
			file["s3.endpoint_url"], file["endpoint_url"])
	}
	c.caBundle = cmp.Or(os.Getenv("AWS_CA_BUNDLE"), file["ca_bundle"])
	if c.PathStyle == nil {
		switch style := file["s3.addressing_style"]; style {
		case "path", "virtual":
			path := style == "path"
			c.PathStyle = &path
		}
	}
	return c, nil
}

// OpenURL is the [bucket.Opener] of s3://; see [ParseURL].
func OpenURL(ctx context.Context, u *url.URL) (bucket.Bucket, error) {
	c, err := ParseURL(u)
	if err != nil {
		return nil, err
	}
	b, err := Open(ctx, c)
	if err != nil {
		return nil, err
	}
	return b, nil
}
