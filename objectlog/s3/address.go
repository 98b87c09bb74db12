package s3

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/minio/minio-go/v7/pkg/s3utils"
)

const form = "want s3://bucket/prefix?endpoint=URL&region=NAME&style=path|host, all but the bucket optional"

const noSecrets = "credentials do not belong into an address: give them by environment, file or role"

// ParseAddress reads s3://bucket/prefix?endpoint=URL&region=NAME&style=path|host. The prefix of keys, which may be empty, is the caller's.
func ParseAddress(address string) (cfg Config, prefix string, err error) {
	bad := func(format string, args ...any) (Config, string, error) {
		if secretEnd(address) > 0 { // what stands before it may be a secret, and the causes quote from the address
			for i := range args {
				args[i] = "***"
			}
		}
		return Config{}, "", fmt.Errorf("bucket address %q: %s; %s", masked(address), fmt.Sprintf(format, args...), form)
	}
	u, err := url.Parse(address)
	switch {
	case err != nil && secretEnd(address) > 0: // where a secret begins and ends, nobody knows
		return Config{}, "", fmt.Errorf("bucket address, not shown because of its @: %s; %s", noSecrets, form)
	case err != nil:
		return bad("%v", errors.Unwrap(err))
	}
	switch {
	case u.Scheme != "s3":
		return bad("it does not begin with s3://")
	case u.User != nil:
		return bad(noSecrets)
	case u.Fragment != "":
		return bad("#%s is no part of it", u.Fragment)
	case u.Port() != "":
		return bad("a port belongs into the endpoint")
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return bad("%v", err)
	}
	for name, values := range query {
		if !slices.Contains([]string{"endpoint", "region", "style"}, name) {
			return bad("unknown parameter %s", name)
		}
		if len(values) != 1 || values[0] == "" {
			return bad("parameter %s wants one value", name)
		}
	}
	cfg = Config{Bucket: u.Host, Endpoint: query.Get("endpoint"), Region: query.Get("region")}
	if secretEnd(cfg.Endpoint) > 0 {
		return bad(noSecrets)
	}
	switch style := query.Get("style"); style {
	case "path", "host":
		cfg.PathStyle = style == "path"
	case "":
		// A certificate for *.host does not cover a name with a dot.
		cfg.PathStyle = cfg.Endpoint != "" || strings.Contains(cfg.Bucket, ".")
	default:
		return bad("style is %q", style)
	}
	if err := cfg.complete(); err != nil {
		return bad("%v", err)
	}
	prefix = strings.TrimPrefix(u.Path, "/")
	if len(prefix) > 1 {
		prefix = strings.TrimSuffix(prefix, "/")
	}
	if err := checkPrefix(prefix); err != nil {
		return bad("%v", err)
	}
	return cfg, prefix, nil
}

// secretEnd answers where the last @ of an address is, by itself or escaped: what stands before it may be credentials. 0: there is none.
func secretEnd(address string) int {
	return max(strings.LastIndex(address, "@"), strings.LastIndex(address, "%40"), 0)
}

// masked is an address for people. A secret may have every character, a slash and an @ too, so all goes that stands before the last one.
func masked(address string) string {
	end := secretEnd(address)
	if end == 0 {
		return address
	}
	scheme := ""
	if strings.HasPrefix(address, "s3://") {
		scheme = "s3://"
	}
	return scheme + "***" + address[end:]
}

// complete fills in what has a default and says what is wrong with the rest.
func (c *Config) complete() error {
	if err := s3utils.CheckValidBucketNameStrict(c.Bucket); err != nil {
		return fmt.Errorf("bucket name %q: %v", c.Bucket, err)
	}
	if c.Endpoint == "" {
		c.Region = cmp.Or(c.Region, os.Getenv("AWS_REGION"), os.Getenv("AWS_DEFAULT_REGION"))
		if c.Region == "" {
			return errors.New("no region: say region=NAME or set AWS_REGION for Amazon S3, or endpoint=URL for another store")
		}
		return nil
	}
	if secretEnd(c.Endpoint) > 0 {
		return errors.New("endpoint with an @, not shown: " + noSecrets)
	}
	u, err := url.Parse(c.Endpoint)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || strings.Trim(u.Path, "/") != "" ||
		u.RawQuery != "" || u.Fragment != "" {
		return fmt.Errorf("endpoint %q is not http://host:port or https://host:port", c.Endpoint)
	}
	if host := u.Hostname(); !s3utils.IsValidIP(host) && !s3utils.IsValidDomain(host) {
		return fmt.Errorf("endpoint %q: %q is neither a host's name nor an IP address", c.Endpoint, host)
	}
	c.Region = cmp.Or(c.Region, "us-east-1")
	return nil
}

func checkPrefix(prefix string) error {
	if prefix == "" {
		return nil
	}
	for part := range strings.SplitSeq(prefix, "/") {
		if part == "" || part == "." || part == ".." {
			return fmt.Errorf("prefix %q has an empty folder, or one that is a dot", prefix)
		}
	}
	for _, r := range prefix {
		if r < ' ' || r == 0x7f || r == '\\' {
			return fmt.Errorf("prefix %q has a character that stores do not take in keys", prefix)
		}
	}
	return nil
}
