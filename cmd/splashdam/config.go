package main

import (
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"reflect"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"
)

// Config is every setting of the program. Each field has its name in the tag "name": the flag is --name, the environment
// variable SPLASHDAM_NAME with underscores, the key in the YAML file name. Flags win over the environment, the
// environment over the file, the file over the default.
type Config struct {
	Bucket          string `name:"bucket" default:"" verbs:"agent cluster bench" doc:"address of the objects: s3://NAME/PREFIX?endpoint=URL&region=NAME&style=path, or file://FOLDER"`
	Table           string `name:"table" default:"" verbs:"agent cluster bench shard" doc:"address of the log: dynamodb://NAME?endpoint=URL&region=NAME, or bolt://FOLDER"`
	Data            string `name:"data" default:"./splashdam-data" verbs:"dev segment" doc:"folder of the embedded stores"`
	Listen          string `name:"listen" default:"127.0.0.1:4510" verbs:"dev agent" doc:"address for clients, host:port; port 0 takes a free one"`
	AdvertiseClient string `name:"advertise-client" default:"" verbs:"agent" doc:"host:port at which clients reach this agent, or a load balancer before it; empty: the listen address, with this machine's name for a wildcard"`
	PeerListen      string `name:"peer-listen" default:"127.0.0.1:4512" verbs:"agent" doc:"address for other agents, host:port; port 0 takes a free one. Their calls carry the cluster's secret, which is in the table"`
	AdvertisePeer   string `name:"advertise-peer" default:"" verbs:"agent" doc:"host:port at which other agents reach this agent, no two alike, no load balancer; empty: the peer-listen address, with this machine's name for a wildcard"`
	PeerTLSCert     string `name:"peer-tls-cert" default:"" verbs:"agent" doc:"PEM file of this agent's certificate, for other agents, valid as server and as client; with peer-tls-key and peer-tls-ca mutual TLS between agents, without all three none"`
	PeerTLSKey      string `name:"peer-tls-key" default:"" verbs:"agent" doc:"PEM file of its private key"`
	PeerTLSCA       string `name:"peer-tls-ca" default:"" verbs:"agent" doc:"PEM file of the authorities whose certificates other agents may show"`
	Zone            string `name:"zone" default:"" verbs:"agent produce consume bench" doc:"where the agent or client runs, such as an availability zone; clients prefer agents of their zone; at most 64 characters"`

	// Off when empty. The listener answers anyone who can reach it, so it is held to loopback addresses.
	MetricsListen string `name:"metrics-listen" default:"" verbs:"dev agent" doc:"loopback address for metrics and profiles, host:port; empty: off"`

	BufferBytesMax  byteSize `name:"buffer-max" default:"256MiB" verbs:"dev agent" doc:"records held in memory until they are stored, 8MiB to 64GiB"`
	MemoryBytesMax  byteSize `name:"call-memory-max" default:"256MiB" verbs:"dev agent" doc:"requests and answers held in memory by all calls together, 32MiB to 64GiB"`
	SegmentBytesMax byteSize `name:"segment-max" default:"8MiB" verbs:"dev agent" doc:"stored size at which a segment is sealed, 64KiB to 256MiB"`
	BlockCacheBytes byteSize `name:"cache-max" default:"256MiB" verbs:"dev agent" doc:"cache of what was read from segments, 1MiB to 1TiB"`

	FlushRate float64 `name:"flush-rate" default:"4" verbs:"agent" doc:"segments sealed by time per second once a burst of 4 is used, 0.1 to 1000: higher costs requests, lower latency"`

	AutoCreate     bool `name:"auto-create" default:"true" verbs:"dev agent" doc:"create an unknown topic when records are sent to it"`
	AutoPartitions int  `name:"auto-partitions" default:"1" verbs:"dev agent" doc:"partitions of topics created so, 1 to 100000"`

	GroupRetention time.Duration `name:"group-retention" default:"168h" verbs:"dev agent" doc:"how long a group without members and commits is remembered, at least, with its positions, 1m to 87600h; the same at all agents"`

	StopTimeout time.Duration `name:"stop-timeout" default:"30s" verbs:"dev agent" doc:"how long a graceful stop may take, 1s to 10m"`
	StopDelay   time.Duration `name:"stop-delay" default:"1s" verbs:"agent" doc:"how long of that the agent goes on serving while /readyz says no, so that load balancers notice, 0 to 5m, half of stop-timeout at most"`
	LogLevel    string        `name:"log-level" default:"warn" verbs:"dev agent" doc:"debug, info, warn or error"`

	Server  string        `name:"server" default:"127.0.0.1:4510" verbs:"topic produce consume offsets group lag queue dlq bench cost status" doc:"agents or a load balancer before them, host:port, several with commas"`
	Timeout time.Duration `name:"timeout" default:"30s" verbs:"topic produce consume offsets group lag queue dlq bench cost status" doc:"limit of one call to the agent, 100ms to 10m"`
	Prices  string        `name:"prices" default:"us-east-1" verbs:"cost" doc:"what stores charge for requests: us-east-1, or a YAML file (see splashdam cost --help)"`
}

// Validate reports every problem of the settings.
func (c Config) Validate() error {
	var problems []error
	bad := func(name, value, want string) {
		problems = append(problems, fmt.Errorf("setting %s: %s: want %s", name, value, want))
	}
	if c.Data == "" {
		bad("data", `""`, "a folder")
	}
	if _, err := netAddress(c.Listen); err != nil {
		bad("listen", strconv.Quote(c.Listen), "host:port, such as 127.0.0.1:4510")
	}
	for name, address := range map[string]string{"advertise-client": c.AdvertiseClient, "advertise-peer": c.AdvertisePeer} {
		if host, err := netAddress(address); address != "" && (err != nil || host == "") {
			bad(name, strconv.Quote(address), "host:port, such as broker-1.example.net:4510")
		}
	}
	if _, err := netAddress(c.PeerListen); err != nil {
		bad("peer-listen", strconv.Quote(c.PeerListen), "host:port, such as 127.0.0.1:4512")
	}
	if given := c.peerTLSFiles(); len(given) > 0 && len(given) < 3 {
		bad("peer-tls-cert, peer-tls-key, peer-tls-ca", "only "+strings.Join(given, " and "), "all three or none")
	}
	if len(c.Zone) > 64 {
		bad("zone", strconv.Quote(c.Zone), "at most 64 characters")
	}
	if c.FlushRate < 0.1 || c.FlushRate > 1000 {
		bad("flush-rate", strconv.FormatFloat(c.FlushRate, 'g', -1, 64), "0.1 to 1000")
	}
	if c.MetricsListen != "" {
		host, err := netAddress(c.MetricsListen)
		if ip := net.ParseIP(host); err != nil || host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			bad("metrics-listen", strconv.Quote(c.MetricsListen), "a loopback host:port, such as 127.0.0.1:4511")
		}
	}
	size := func(name string, v, low, high byteSize) {
		if v < low || v > high {
			bad(name, v.String(), fmt.Sprintf("%s to %s", low, high))
		}
	}
	size("buffer-max", c.BufferBytesMax, 8<<20, 64<<30)
	size("call-memory-max", c.MemoryBytesMax, 32<<20, 64<<30)
	size("segment-max", c.SegmentBytesMax, 64<<10, 256<<20)
	size("cache-max", c.BlockCacheBytes, 1<<20, 1<<40)
	if c.AutoPartitions < 1 || c.AutoPartitions > 100_000 {
		bad("auto-partitions", strconv.Itoa(c.AutoPartitions), "1 to 100000")
	}
	period := func(name string, v, low, high time.Duration) {
		if v < low || v > high {
			bad(name, v.String(), fmt.Sprintf("%s to %s", low, high))
		}
	}
	period("group-retention", c.GroupRetention, time.Minute, 87600*time.Hour)
	period("stop-timeout", c.StopTimeout, time.Second, 10*time.Minute)
	period("stop-delay", c.StopDelay, 0, 5*time.Minute)
	period("timeout", c.Timeout, 100*time.Millisecond, 10*time.Minute)
	if _, ok := logLevels[c.LogLevel]; !ok {
		bad("log-level", strconv.Quote(c.LogLevel), "debug, info, warn or error")
	}
	for _, s := range strings.Split(c.Server, ",") {
		if host, err := netAddress(s); err != nil || host == "" {
			bad("server", strconv.Quote(s), "host:port, such as 127.0.0.1:4510")
		}
	}
	return errors.Join(problems...)
}

func netAddress(s string) (host string, err error) {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return "", err
	}
	_, err = strconv.ParseUint(port, 10, 16)
	return host, err
}

// setting is one field of Config as its tags describe it.
type setting struct {
	name, fallback, doc string
	verbs               []string
	field               int
}

func (s setting) variable() string {
	return "SPLASHDAM_" + strings.ToUpper(strings.ReplaceAll(s.name, "-", "_"))
}

// settings lists the fields of Config in their order.
func settings() []setting {
	t := reflect.TypeFor[Config]()
	var all []setting
	for i := range t.NumField() {
		tag := t.Field(i).Tag
		all = append(all, setting{
			name: tag.Get("name"), fallback: tag.Get("default"), doc: tag.Get("doc"),
			verbs: strings.Fields(tag.Get("verbs")), field: i,
		})
	}
	return all
}

// addSettings gives cmd a flag for each setting that verb has. The flags are read by Config.read, which knows the
// types, so that a value is judged alike wherever it comes from.
func addSettings(cmd *cobra.Command, verb string) {
	for _, s := range settings() {
		for _, v := range s.verbs {
			if v != verb {
				continue
			}
			cmd.PersistentFlags().String(s.name, s.fallback, s.doc)
			if s.fallback == "false" || s.fallback == "true" {
				cmd.PersistentFlags().Lookup(s.name).NoOptDefVal = "true"
			}
		}
	}
}

// read fills the configuration from flags, environment and file, and reports every problem.
func (c *Config) read(cmd *cobra.Command, environ []string) error {
	var problems []error
	file := map[string]string{}
	if f := cmd.Flag("config"); f != nil && f.Value.String() != "" {
		var err error
		if file, err = readConfigFile(f.Value.String()); err != nil {
			return usage{err}
		}
	}
	variables := map[string]string{}
	for _, kv := range environ {
		if name, value, ok := strings.Cut(kv, "="); ok && strings.HasPrefix(name, "SPLASHDAM_") && !isRecordVariable(name) {
			variables[name] = value
		}
	}
	for _, s := range settings() {
		value, source := s.fallback, "default of "+s.name
		if v, ok := file[s.name]; ok {
			value, source = v, "setting "+s.name+" in the file"
		}
		if v, ok := variables[s.variable()]; ok {
			value, source = v, s.variable()
		}
		if f := cmd.Flag(s.name); f != nil && f.Changed {
			value, source = f.Value.String(), "--"+s.name
		}
		delete(file, s.name)
		delete(variables, s.variable())
		if err := setField(reflect.ValueOf(c).Elem().Field(s.field), value); err != nil {
			problems = append(problems, fmt.Errorf("%s: %q: want %w", source, value, err))
		}
	}
	for _, name := range sortedKeys(file) {
		problems = append(problems, fmt.Errorf("setting %s in the file: unknown (known: %s)", name, knownSettings()))
	}
	for _, name := range sortedKeys(variables) {
		problems = append(problems, fmt.Errorf("environment variable %s: unknown (known settings: %s)", name, knownSettings()))
	}
	if len(problems) == 0 {
		problems = append(problems, c.Validate())
	}
	if err := errors.Join(problems...); err != nil {
		return usage{err}
	}
	return nil
}

// readConfigFile reads the flat list of settings that the YAML file is.
func readConfigFile(path string) (map[string]string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read config: %w", err)
	}
	var raw map[string]yaml.Node
	if err := yaml.Unmarshal(b, &raw); err != nil {
		return nil, fmt.Errorf("read config %s: %w", path, err)
	}
	values := map[string]string{}
	for name, node := range raw {
		if node.Kind != yaml.ScalarNode {
			return nil, fmt.Errorf("read config %s: setting %s: want one plain value", path, name)
		}
		values[name] = node.Value
	}
	return values, nil
}

// setField parses value by the field's type; the error says what form is wanted.
func setField(field reflect.Value, value string) error {
	switch field.Interface().(type) {
	case string:
		field.SetString(value)
	case bool:
		v, err := strconv.ParseBool(value)
		if err != nil {
			return errors.New("true or false")
		}
		field.SetBool(v)
	case int:
		v, err := strconv.Atoi(value)
		if err != nil {
			return errors.New("a whole number without unit")
		}
		field.SetInt(int64(v))
	case float64:
		v, err := strconv.ParseFloat(value, 64)
		if err != nil || math.IsNaN(v) {
			return errors.New("a number")
		}
		field.SetFloat(v)
	case time.Duration:
		v, err := time.ParseDuration(value)
		if err != nil {
			return errors.New("a duration with unit, such as 500ms, 30s or 10m")
		}
		field.SetInt(int64(v))
	case byteSize:
		v, err := parseByteSize(value)
		if err != nil {
			return err
		}
		field.SetInt(int64(v))
	default:
		panic("no parser for a setting of type " + field.Type().String())
	}
	return nil
}

func sortedKeys(m map[string]string) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

func knownSettings() string {
	var names []string
	for _, s := range settings() {
		names = append(names, s.name)
	}
	return strings.Join(names, ", ")
}

// settingDefault is the default of one setting.
func settingDefault(name string) string {
	for _, s := range settings() {
		if s.name == name {
			return s.fallback
		}
	}
	panic("no setting is called " + name)
}
