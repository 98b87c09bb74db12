package main

import (
	"errors"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/splashdam/splashdam/client"
)

// dialTimeout is how long one address may take to accept a connection.
const dialTimeout = 5 * time.Second

// connect makes the client that the settings describe. A person who has no broker running is told at once: the client by
// itself would wait for one.
func (env *environment) connect() (*client.Client, error) {
	c, err := env.dial(env.config.Zone, strings.Split(env.config.Server, ","))
	var wrong usage
	if err != nil && !errors.As(err, &wrong) {
		return nil, &terminalError{op: "connect to", object: env.config.Server, cause: err,
			hint: `start a broker with "splashdam dev", or name another with --server`}
	}
	return c, err
}

// dial makes a client of agents of which at least one accepts connections; those of the zone are preferred, and none with an empty zone.
func (env *environment) dial(zone string, addresses []string) (*client.Client, error) {
	c, err := client.New(client.Config{
		Addresses:      addresses,
		Zone:           zone,
		UserAgent:      "splashdam-cli/" + readVersion().Version,
		RequestTimeout: env.config.Timeout,
	})
	if err != nil {
		return nil, usage{err}
	}
	if err := reach(addresses, http.ProxyFromEnvironment); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// reach is nil if one of the addresses accepts a connection. Where the client goes through a proxy, only that can tell.
func reach(addresses []string, proxyOf func(*http.Request) (*url.URL, error)) error {
	var last error
	for _, a := range addresses {
		if proxy, err := proxyOf(&http.Request{URL: &url.URL{Scheme: "http", Host: a}}); err == nil && proxy != nil {
			return nil
		}
		conn, err := net.DialTimeout("tcp", a, dialTimeout)
		if err == nil {
			return conn.Close()
		}
		last = err
	}
	var cause syscall.Errno
	if errors.As(last, &cause) {
		return cause // the address is named already
	}
	return last
}

// unwrapPath is the cause inside an error that repeats the file's name, which the caller shows already.
func unwrapPath(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}

// withClient runs f with a client that is closed afterwards.
func (env *environment) withClient(f func(*client.Client) error) error {
	c, err := env.connect()
	if err != nil {
		return err
	}
	defer c.Close()
	return f(c)
}
