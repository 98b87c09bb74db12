package main

import (
	"errors"
	"io/fs"
	"strings"

	"github.com/splashdam/splashdam/client"
)

// connect makes the client that the settings describe. It opens no connection yet.
func (env *environment) connect() (*client.Client, error) {
	c, err := client.New(client.Config{
		Addresses:      strings.Split(env.config.Server, ","),
		UserAgent:      "splashdam-cli/" + readVersion().Version,
		RequestTimeout: env.config.Timeout,
	})
	if err != nil {
		return nil, usage{err}
	}
	return c, nil
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
