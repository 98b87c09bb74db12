package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"strings"

	"go.yaml.in/yaml/v3"
)

// prices are what stores charge for requests, in US dollars. A file of prices has all of these fields, under the names of their tags.
type prices struct {
	// Table is the name of the built-in table, or the path of the file.
	Table string `yaml:"-" json:"table"`
	// BucketWrite is for 1,000 requests that write or list: PUT, COPY, POST, LIST, each part of a large object by itself.
	BucketWrite float64 `yaml:"bucket_write_per_1000" json:"bucket_write_per_1000"`
	// BucketRead is for 1,000 of all other requests that are charged: GET, HEAD. DELETE is free.
	BucketRead float64 `yaml:"bucket_read_per_1000" json:"bucket_read_per_1000"`
	// TableWrite is for 1,000,000 write units; one is a write of up to 1 KiB.
	TableWrite float64 `yaml:"table_write_per_1000000" json:"table_write_per_1000000"`
	// TableRead is for 1,000,000 read units; one is a consistent read of up to 4 KiB.
	TableRead float64 `yaml:"table_read_per_1000000" json:"table_read_per_1000000"`
}

// pricesOf answers the built-in table of that name: S3 Standard and DynamoDB on demand, as AWS lists them on
// https://aws.amazon.com/s3/pricing/ and https://aws.amazon.com/dynamodb/pricing/on-demand/ since November 2024.
func pricesOf(region string) (prices, bool) {
	switch region {
	case "us-east-1":
		return prices{Table: region, BucketWrite: 0.005, BucketRead: 0.0004, TableWrite: 0.625, TableRead: 0.125}, true
	}
	return prices{}, false
}

// readPrices answers what the setting prices names.
func readPrices(setting string) (prices, error) {
	if p, ok := pricesOf(setting); ok {
		return p, nil
	}
	fail := func(err error) (prices, error) {
		return prices{}, usageError("read prices %s: %w (want us-east-1, or a YAML file of prices: see splashdam cost --help)", setting, err)
	}
	b, err := os.ReadFile(setting)
	if errors.Is(err, fs.ErrNotExist) {
		return fail(errors.New("neither a built-in table nor a file"))
	}
	if err != nil {
		return fail(unwrapPath(err))
	}
	p, err := parsePrices(b)
	if err != nil {
		return fail(err)
	}
	p.Table = setting
	return p, nil
}

// parsePrices wants every field once and no other: a price that was left out would make its requests look free.
func parsePrices(b []byte) (prices, error) {
	p := prices{BucketWrite: math.NaN(), BucketRead: math.NaN(), TableWrite: math.NaN(), TableRead: math.NaN()}
	d := yaml.NewDecoder(bytes.NewReader(b))
	d.KnownFields(true)
	if err := d.Decode(&p); err != nil {
		return prices{}, err
	}
	var problems []error
	for _, f := range []struct {
		name  string
		value float64
	}{
		{"bucket_write_per_1000", p.BucketWrite}, {"bucket_read_per_1000", p.BucketRead},
		{"table_write_per_1000000", p.TableWrite}, {"table_read_per_1000000", p.TableRead},
	} {
		switch {
		case math.IsNaN(f.value):
			problems = append(problems, fmt.Errorf("%s: missing", f.name))
		case f.value < 0 || math.IsInf(f.value, 0):
			problems = append(problems, fmt.Errorf("%s: %g: want dollars, 0 or more", f.name, f.value))
		}
	}
	return p, errors.Join(problems...)
}

// dollars is the price of so many units of a store, charged for requests of a kind.
func (p prices) dollars(store, kind string, units float64) float64 {
	switch reads := readsOnly(kind); {
	case store == "table" && reads:
		return units * p.TableRead / 1e6
	case store == "table":
		return units * p.TableWrite / 1e6
	case reads:
		return units * p.BucketRead / 1e3
	}
	return units * p.BucketWrite / 1e3
}

// readsOnly says whether requests of the kind are charged as reads. A listing of a bucket is not.
func readsOnly(kind string) bool {
	for _, verb := range []string{"get", "head", "query", "scan", "batch_get"} {
		if kind == verb || strings.HasPrefix(kind, verb+"_") {
			return true
		}
	}
	return false
}
