package s3

import (
	"strings"
	"testing"
)

func TestParseAddressReadsEveryForm(t *testing.T) {
	t.Setenv("AWS_REGION", "")
	t.Setenv("AWS_DEFAULT_REGION", "eu-west-1")
	for address, want := range map[string]struct {
		cfg    Config
		prefix string
	}{
		"s3://b-1":                               {Config{Bucket: "b-1", Region: "eu-west-1"}, ""},
		"s3://b-1/":                              {Config{Bucket: "b-1", Region: "eu-west-1"}, ""},
		"s3://b.dotted":                          {Config{Bucket: "b.dotted", Region: "eu-west-1", PathStyle: true}, ""},
		"s3://b-1/a/b?region=us-east-2":          {Config{Bucket: "b-1", Region: "us-east-2"}, "a/b"},
		"s3://b-1/a/?endpoint=http://h:9000":     {Config{Bucket: "b-1", Endpoint: "http://h:9000", Region: "us-east-1", PathStyle: true}, "a"},
		"s3://b-1?endpoint=https://h&region=x":   {Config{Bucket: "b-1", Endpoint: "https://h", Region: "x", PathStyle: true}, ""},
		"s3://b-1?endpoint=https://h&style=host": {Config{Bucket: "b-1", Endpoint: "https://h", Region: "us-east-1"}, ""},
		"s3://b-1?style=path":                    {Config{Bucket: "b-1", Region: "eu-west-1", PathStyle: true}, ""},
	} {
		cfg, prefix, err := ParseAddress(address)
		if err != nil || cfg != want.cfg || prefix != want.prefix {
			t.Errorf("%s: got %+v, %q, %v; want %+v, %q", address, cfg, prefix, err, want.cfg, want.prefix)
		}
	}
}

func TestParseAddressShowsTheRightForm(t *testing.T) {
	t.Setenv("AWS_REGION", "")
	t.Setenv("AWS_DEFAULT_REGION", "")
	for address, cause := range map[string]string{
		"":                                    "does not begin with s3://",
		"b-1/prefix":                          "does not begin with s3://",
		"http://h/b":                          "does not begin with s3://",
		"s3://":                               "bucket name",
		"s3:///prefix?region=x":               "bucket name",
		"s3://B_1?region=x":                   "bucket name",
		"s3://b-1":                            "no region",
		"s3://key:secret@b-1?region=x":        "credentials",
		"s3://b-1:9000?region=x":              "port",
		"s3://b-1?region=x#f":                 "#f",
		"s3://b-1?region=x&colour=red":        "unknown parameter colour",
		"s3://b-1?region=x&region=y":          "wants one value",
		"s3://b-1?region=":                    "wants one value",
		"s3://b-1?region=x&style=virtual":     "style",
		"s3://b-1?endpoint=localhost:9000":    "endpoint",
		"s3://b-1?endpoint=ftp://h":           "endpoint",
		"s3://b-1?endpoint=http://h/path":     "endpoint",
		"s3://b-1?endpoint=http://u:secret@h": "endpoint",
		"s3://b-1?endpoint=http%3A//h%3Fa=b":  "endpoint",
		"s3://b-1/a//b?region=x":              "empty folder",
		"s3://b-1//?region=x":                 "empty folder",
		"s3://b-1/../x?region=x":              "a dot",
		"s3://b-1/a%0Ab?region=x":             "character",
		"s3://b-1/a%zz?region=x":              "escape",
		"s3://b-1?region=%zz":                 "escape",
	} {
		_, _, err := ParseAddress(address)
		if err == nil || !strings.Contains(err.Error(), cause) || !strings.Contains(err.Error(), form) {
			t.Errorf("%q: %v, want one that says %q and the right form", address, err, cause)
		}
		if strings.Contains(address, "secret") && err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%v tells the secret", err)
		}
	}
}

// TestErrorsTellNoSecretOfAnAddress, wherever somebody has put one.
func TestErrorsTellNoSecretOfAnAddress(t *testing.T) {
	for _, address := range []string{
		"s3://AKID:TOP/SECRET@b-1",
		"s3://AKID:TOP/SECRET@b-1?region=x",
		"s3://AKID:TOP@SECRET@b-1?region=x",
		"s3://AKID:TOP?SECRET@b-1",
		"s3://AKID:1#TOPSECRET@b-1",
		"s3://AKID:1?TOPSECRET@b-1",
		"s3://AKID:1?region=x&style=TOPSECRET@b-1",
		"s3://AKID:1?region=x&TOP%zzSECRET@b-1",
		"s3://AKID/TOP//SECRET@b-1?region=x",
		"s3://AKID%3ATOP%2FSECRET%40b-1?region=x",
		"s3:/AKID:TOP/SECRET@b-1",
		"AKID:TOP/SECRET@b-1",
		"http://AKID:TOP/SECRET@b-1",
		"s3://b-1?endpoint=http://AKID:TOPSECRET@h",
		"s3://b-1?endpoint=http://AKID:TOP/SECRET@h:1",
		"s3://b-1?endpoint=http%3A%2F%2FAKID%3ATOPSECRET%40h%3A1",
		"s3://b-1?endpoint=AKID:TOPSECRET@h",
		"s3://B_1?endpoint=http://h/TOPSECRET@h",
	} {
		_, _, err := ParseAddress(address)
		if err == nil || !strings.Contains(err.Error(), form) {
			t.Errorf("%q: %v, want one with the right form", address, err)
			continue
		}
		for _, part := range []string{"AKID", "TOP", "SECRET"} {
			if strings.Contains(err.Error(), part) {
				t.Errorf("%q: %v tells %s", address, err, part)
			}
		}
	}
	for _, endpoint := range []string{"http://AKID:SECRET@h", "http://AKID:TOP/SECRET@h", "http://AKID%3ASECRET%40h"} {
		if _, err := Open(Config{Bucket: "b-1", Endpoint: endpoint}); err == nil || strings.Contains(err.Error(), "SECRET") {
			t.Errorf("open with endpoint %s: %v, want an error without the secret", endpoint, err)
		}
	}
}

func FuzzParseAddress(f *testing.F) {
	for _, seed := range []string{
		"s3://b-1/a/b?endpoint=http://h:9000&region=x&style=path", "s3://b-1", "s3://u:p@b?region=x", "s3://b-1/%2e%2e/?region=x", "s3://[::1]/x",
		"s3://b-1?endpoint=http://[::1]:9000", "://", "s3://b-1/%00?region=x",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, address string) {
		cfg, prefix, err := ParseAddress(address)
		if err != nil {
			if !strings.Contains(err.Error(), form) {
				t.Errorf("%q: %v does not show the right form", address, err)
			}
			return
		}
		if cfg.Bucket == "" || cfg.Region == "" || strings.HasPrefix(prefix, "/") || strings.HasSuffix(prefix, "/") || strings.Contains(prefix, "//") {
			t.Errorf("%q: got %+v, %q", address, cfg, prefix)
		}
		if _, err := Open(cfg); err != nil {
			t.Errorf("%q was parsed, and cannot be opened: %v", address, err)
		}
	})
}
