package s3

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/minio/minio-go/v7/pkg/credentials"
)

// metadataTimeout bounds each request to the metadata service of a cloud's machine. On other machines nobody answers.
const metadataTimeout = time.Second

// provider finds credentials where [Config] says. The source is chosen anew at each retrieval, so that credentials that
// somebody renews in a file are seen. Of a source that applies the error counts: no other is asked in its place.
type provider struct {
	fixed   credentials.Value // as given in the Config
	profile string            // likewise; overrides keys in the environment
	current credentials.Provider
}

// RetrieveWithCredContext implements credentials.Provider.
func (p *provider) RetrieveWithCredContext(cc *credentials.CredContext) (credentials.Value, error) {
	if v := p.fixed; v.AccessKeyID != "" || v.SecretAccessKey != "" {
		v.SignerType = credentials.SignatureV4
		p.current = &credentials.Static{Value: v}
		return v, nil
	}
	id, secret := os.Getenv("AWS_ACCESS_KEY_ID"), os.Getenv("AWS_SECRET_ACCESS_KEY")
	if p.profile == "" && (id != "" || secret != "") {
		if id == "" || secret == "" {
			return credentials.Value{}, errors.New("of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY only one is set")
		}
		p.current = &credentials.EnvAWS{}
		return p.current.RetrieveWithCredContext(cc)
	}
	if name := cmp.Or(p.profile, os.Getenv("AWS_PROFILE")); name != "" {
		p.current = &credentials.FileAWSCredentials{Profile: name}
		v, err := p.current.RetrieveWithCredContext(cc)
		if err == nil && v.AccessKeyID == "" {
			err = errors.New("it has neither keys nor credential_process nor sso_role_name (role_arn is not supported)")
		}
		if err != nil {
			return credentials.Value{}, fmt.Errorf("profile %s: %w", name, err)
		}
		return v, nil
	}
	if file, err := loadProfile(""); err != nil {
		return credentials.Value{}, err
	} else if file.hasCredentials() {
		p.current = &credentials.FileAWSCredentials{Profile: "default"}
		return p.current.RetrieveWithCredContext(cc)
	}

	iam := &credentials.IAM{}
	p.current = iam
	machine := os.Getenv("AWS_WEB_IDENTITY_TOKEN_FILE") == "" &&
		os.Getenv("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") == "" && os.Getenv("AWS_CONTAINER_CREDENTIALS_FULL_URI") == ""
	if machine {
		if off, _ := strconv.ParseBool(os.Getenv("AWS_EC2_METADATA_DISABLED")); off {
			return credentials.Value{}, errNoCredentials
		}
		iam.Client = &http.Client{Timeout: metadataTimeout, Transport: &http.Transport{DisableKeepAlives: true}}
	}
	v, err := iam.RetrieveWithCredContext(cc)
	switch {
	case err == nil:
		return v, nil
	case machine:
		return credentials.Value{}, fmt.Errorf("%w (no metadata service either: %w)", errNoCredentials, err)
	default:
		return credentials.Value{}, fmt.Errorf("the role of this container: %w", err)
	}
}

var errNoCredentials = errors.New("no credentials found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE")

// Retrieve implements credentials.Provider.
func (p *provider) Retrieve() (credentials.Value, error) { return p.RetrieveWithCredContext(nil) }

// IsExpired implements credentials.Provider.
func (p *provider) IsExpired() bool { return p.current == nil || p.current.IsExpired() }
