package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

// advertised is the address that others are told: as it is set, else that of the listener.
func advertised(set string, listening net.Addr) string {
	if set != "" {
		return set
	}
	host, port, _ := net.SplitHostPort(listening.String())
	if ip := net.ParseIP(host); ip != nil && !ip.IsUnspecified() {
		return listening.String()
	}
	if name, err := os.Hostname(); err == nil {
		host = name
	}
	return net.JoinHostPort(host, port)
}

// askTimeout bounds one question at an advertised address: a start should not wait for a network that swallows packets.
const askTimeout = 3 * time.Second

// checkClientAddress asks at the address that clients are told which cluster is there. One that leads elsewhere is refused, since clients would
// write there; one that can't be reached is only told: a load balancer may not be up yet, or not be reachable from behind.
func (env *environment) checkClientAddress(ctx context.Context, address, cluster string) error {
	found, plainErr := askCluster(ctx, "http", address)
	if plainErr != nil {
		var err error
		found, err = askCluster(ctx, "https", address)
		if errors.Is(plainErr, errBadRequest) && errors.Is(err, http.ErrSchemeMismatch) {
			plainErr = &strangeAnswer{plainErr.Error()} // it is what HTTP gets where HTTPS is wanted, but that is not so here
		}
	}
	switch strange := (*strangeAnswer)(nil); {
	case found == cluster:
		return nil
	case found != "":
		return &terminalError{op: "start agent", cause: fmt.Errorf("--advertise-client %s leads to cluster %s, this is cluster %s", address, found, cluster),
			hint: "correct the address, or what forwards it"}
	case errors.As(plainErr, &strange):
		return &terminalError{op: "start agent", cause: fmt.Errorf("--advertise-client %s leads to something else: %w", address, strange),
			hint: "correct the address, or what forwards it"}
	}
	fmt.Fprintf(env.err, "splashdam: warning: --advertise-client %s can't be tried from here: %v\n", address, plainErr)
	return nil
}

// strangeAnswer is one that no agent gives.
type strangeAnswer struct{ got string }

func (e *strangeAnswer) Error() string { return "got " + e.got }

var errBadRequest = errors.New("HTTP 400 Bad Request")

// askCluster answers the id of the cluster at an address.
func askCluster(ctx context.Context, scheme, address string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	asker := http.Client{
		// Clients verify certificates; here nothing secret is sent, and nothing but the cluster's id is read.
		Transport:     &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+address+"/splashdam.v1.ClusterService/GetCluster?encoding=json&message=%7B%7D", nil)
	if err != nil {
		return "", err
	}
	res, err := asker.Do(r)
	if err != nil {
		err = errors.Unwrap(err) // a *url.Error repeats the address
		if strings.Contains(err.Error(), "malformed HTTP") {
			return "", &strangeAnswer{"no HTTP"}
		}
		return "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 1<<24))
	if err != nil {
		return "", err
	}
	return clusterOf(res, body)
}

// clusterOf reads the cluster's id out of an answer.
func clusterOf(res *http.Response, body []byte) (string, error) {
	switch res.StatusCode {
	case http.StatusOK:
	case http.StatusMethodNotAllowed, http.StatusGone, http.StatusNotImplemented:
		return "", &strangeAnswer{"HTTP " + res.Status}
	case http.StatusBadRequest:
		return "", errBadRequest
	default: // of a load balancer without an agent (some say 404 then), which gets none unless this one starts; or one that wants to know who asks
		return "", fmt.Errorf("got HTTP %s", res.Status)
	}
	var c struct {
		ClusterID string `json:"clusterId"`
	}
	if err := json.Unmarshal(body, &c); err != nil || c.ClusterID == "" {
		return "", &strangeAnswer{"HTTP 200 and " + res.Header.Get("Content-Type") + ", not a description of a cluster"}
	}
	return c.ClusterID, nil
}
