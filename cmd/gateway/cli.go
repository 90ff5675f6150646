package main

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"github.com/alecthomas/kong"
)

const description = `Pushgate holds the WebSocket connections of your app's clients and sends them what backends publish to NATS.

  gateway dev                                      everything in one process, to try it out
  gateway tail --token TOKEN                       be a client, in a second terminal
  gateway pub push.user.alice '{"hello":"world"}'  publish, in a third

Configuration: flag, then environment, then the file of --config, then default. The key auth.hs256_secret is
the flag --auth.hs256_secret, the variable GATEWAY_AUTH_HS256_SECRET and, in the file, hs256_secret below auth.`

// commandLine is the program's grammar.
type commandLine struct {
	Dev     devCommand     `cmd:"" help:"Run everything in one process: gateway, NATS server and demo page, for development."`
	Serve   serveCommand   `cmd:"" help:"Run the gateway on an external NATS, for production."`
	Token   tokenCommand   `cmd:"" help:"Make a token for development and tests."`
	Pub     pubCommand     `cmd:"" help:"Publish one event over NATS."`
	Tail    tailCommand    `cmd:"" help:"Connect as a client and print what comes."`
	Why     whyCommand     `cmd:"" help:"Ask all gateways why a user did not get an event."`
	Ctl     ctlCommand     `cmd:"" help:"Control all gateways: sessions, disconnect, revoke, rebalance, stats, loglevel."`
	Check   checkCommand   `cmd:"" help:"Validate the configuration and print what is in force."`
	Version versionCommand `cmd:"" help:"Print version, commit and Go version."`
}

// prepare gives each command that needs configuration its flags.
func (c *commandLine) prepare() {
	c.Dev.addFlags(true)
	for _, f := range []*configFlags{
		&c.Serve.configFlags, &c.Token.configFlags, &c.Pub.configFlags, &c.Tail.configFlags, &c.Check.configFlags, &c.Why.configFlags,
	} {
		f.addFlags(false)
	}
	for _, f := range c.Ctl.flags() {
		f.addFlags(false)
	}
}

// configFlags are --config and a flag for each key of the configuration.
type configFlags struct {
	Config string `placeholder:"FILE" help:"Configuration file, YAML ($GATEWAY_CONFIG)."`
	kong.Plugins
}

// addFlags makes the flags of the table: a struct with one field for each key.
// They are all text, so that a bad value has the same error as in the file.
func (c *configFlags) addFlags(dev bool) {
	var fields []reflect.StructField
	for _, k := range keys().flags() {
		tag := fmt.Sprintf("name:%q sep:\"none\" group:\"Configuration\" placeholder:%q help:%q", k.name, k.kind(), flagHelp(k, dev))
		if a := k.aliases(); a != nil {
			tag += fmt.Sprintf(" aliases:%q", strings.Join(a, ","))
		}
		fields = append(fields, reflect.StructField{
			Name: "Key" + strconv.Itoa(len(fields)),
			Type: reflect.TypeFor[[]string](),
			Tag:  reflect.StructTag(tag),
		})
	}
	c.Plugins = kong.Plugins{reflect.New(reflect.StructOf(fields)).Interface()}
}

func flagHelp(k *key, dev bool) string {
	help := k.help()
	help = strings.ToUpper(help[:1]) + help[1:]
	if e := k.enum(); e != nil {
		help += ": " + strings.Join(e, ", ")
	}
	if k.fileOf == nil {
		if d := k.def(dev); d != "" {
			help += " [" + d + "]"
		}
	}
	return help + "."
}

// load reads the configuration that this command was given.
func (c *configFlags) load(s *invocation, dev bool) (*Config, origins, error) {
	flags := map[string][]string{}
	set := reflect.ValueOf(c.Plugins[0]).Elem()
	for i, k := range keys().flags() {
		if values := set.Field(i).Interface().([]string); len(values) > 0 {
			flags[k.name] = values
		}
	}
	return loadConfig(input{dev: dev, file: c.Config, env: s.env, flags: flags})
}

type serveCommand struct {
	configFlags
}

func (*serveCommand) Help() string {
	return `Runs until SIGTERM or SIGINT, then drains; a second signal hurries.

    GATEWAY_AUTH_HS256_SECRET_FILE=/run/secrets/jwt gateway serve --nats.url nats://nats:4222
    gateway serve --config gateway.yaml --log.level debug`
}

func (c *serveCommand) Run(s *invocation) error {
	cfg, _, err := c.load(s, false)
	if err != nil {
		return err
	}
	if err := needKey(cfg); err != nil {
		return err
	}
	return runServe(s.ctx, s.hurry, cfg, s.stdout)
}

type devCommand struct {
	configFlags
}

func (*devCommand) Help() string {
	return `Prints an address to open, a token and lines to paste into other terminals. Not for production.

    gateway dev
    gateway dev --listen 127.0.0.1:8088 --dev.nats_listen 127.0.0.1:4333`
}

func (c *devCommand) Run(s *invocation) error {
	cfg, from, err := c.load(s, true)
	if err != nil {
		return err
	}
	secret := ""
	if from["auth.hs256_secret"] == madeForThisRun {
		secret = cfg.Auth.HS256Secret
	}
	return runDev(s.ctx, s.hurry, cfg, secret, s.stdout)
}
