package dynamo

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

const addressForm = "want dynamodb://table?endpoint=http://host:port&region=name, both parameters optional"

// tableName is the rule of the DynamoDB Developer Guide, "Naming rules".
var tableName = regexp.MustCompile(`^[a-zA-Z0-9_.-]{3,255}$`)

// errSecret quotes nothing.
var errSecret = errors.New("credentials do not belong into an address: put them into the environment or a shared file")

// ParseAddress reads dynamodb://table?endpoint=URL&region=NAME.
func ParseAddress(address string) (Config, error) {
	cfg, err := parseAddress(address)
	if err == nil {
		return cfg, nil
	}
	if masked(address) == address {
		return Config{}, fmt.Errorf("table address %q: %w; %s", address, err, addressForm)
	}
	if _, err := url.Parse(address); err != nil { // where a secret begins and ends, nobody knows
		return Config{}, fmt.Errorf("table address, not shown because of its @: %w; %s", errSecret, addressForm)
	}
	return Config{}, fmt.Errorf("table address %q: %w; %s", masked(address), errSecret, addressForm)
}

// at is an @ by itself or escaped, once or again: what stands before it may be credentials. No right address has one.
var at = regexp.MustCompile(`@|%(25)*40`)

// masked is an address for people. A secret may have every character, a slash and an @ too, so all goes that stands before the last one.
func masked(address string) string {
	all := at.FindAllStringIndex(address, -1)
	if len(all) == 0 {
		return address
	}
	scheme := ""
	if strings.HasPrefix(address, "dynamodb://") {
		scheme = "dynamodb://"
	}
	return scheme + "***" + address[all[len(all)-1][0]:]
}

func parseAddress(address string) (Config, error) {
	u, err := url.Parse(address)
	if err != nil {
		return Config{}, errors.New("not a URL")
	}
	switch {
	case u.Scheme != "dynamodb" || u.Opaque != "":
		return Config{}, errors.New("does not begin with dynamodb://")
	case masked(address) != address:
		return Config{}, errSecret
	case u.Path != "" && u.Path != "/" || u.Fragment != "":
		return Config{}, errors.New("something follows the table's name")
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return Config{}, fmt.Errorf("parameters: %w", err)
	}
	for name, values := range query {
		if !slices.Contains([]string{"endpoint", "region"}, name) {
			return Config{}, fmt.Errorf("unknown parameter %q", name)
		}
		if len(values) != 1 || values[0] == "" {
			return Config{}, fmt.Errorf("parameter %q is empty or given twice", name)
		}
	}
	cfg := Config{Table: u.Host, Endpoint: query.Get("endpoint"), Region: query.Get("region")}
	return cfg, cfg.validate()
}

var regionName = regexp.MustCompile(`^[a-z0-9-]{1,63}$`)

// validate reports every problem.
func (c Config) validate() error {
	var problems []error
	if !tableName.MatchString(c.Table) {
		problems = append(problems, fmt.Errorf("table name %q: a name has 3 to 255 characters of a-z, A-Z, 0-9, _, . and -", masked(c.Table)))
	}
	if c.Endpoint != "" {
		u, err := url.Parse(c.Endpoint)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
			problems = append(problems, fmt.Errorf("endpoint %q: want http://host:port or https://host:port", masked(c.Endpoint)))
		}
	}
	if c.Region != "" && !regionName.MatchString(c.Region) {
		problems = append(problems, fmt.Errorf("region %q: want a name like eu-central-1", masked(c.Region)))
	}
	return errors.Join(problems...)
}
