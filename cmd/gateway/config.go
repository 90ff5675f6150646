package main

import "time"

// Config is the configuration in force. Its tags are the one table of keys:
// names, defaults, flags, environment variables, ranges, help and what check
// prints are all read from them (see schema.go).
//
//	koanf    name; sections are joined by dots
//	default  as it would be written in a file
//	dev      the default of the dev command, where it differs
//	min, max range, both included
//	enum     the only values
//	secret   "true": never printed, and KEY_file reads it from a file;
//	         "url": credentials in it are never printed
//	help     one phrase
type Config struct {
	Listen        string        `koanf:"listen" default:":8080" dev:"127.0.0.1:8080" help:"public address: WebSocket, events"`
	Loops         int           `koanf:"loops" default:"0" min:"0" max:"1024" help:"event loops; 0 is one for each CPU"`
	Admin         AdminConfig   `koanf:"admin"`
	NATS          NATSConfig    `koanf:"nats"`
	Auth          AuthConfig    `koanf:"auth"`
	Subscriptions []string      `koanf:"subscriptions" default:"user.{sub},broadcast" help:"what every session gets; {name} is a claim, {a.b} a nested one, {sub:b64} its base64url"`
	Limits        LimitsConfig  `koanf:"limits"`
	Heartbeat     time.Duration `koanf:"heartbeat" default:"60s" min:"1s" max:"1h" help:"a client that is silent for twice this is closed"`
	Drain         DrainConfig   `koanf:"drain"`
	Log           LogConfig     `koanf:"log"`
	Dev           DevConfig     `koanf:"dev"`
}

// AdminConfig is where operators look.
type AdminConfig struct {
	Listen      string `koanf:"listen" default:"127.0.0.1:9090" help:"address of probes and metrics"`
	DebugListen string `koanf:"debug_listen" default:"127.0.0.1:6060" help:"address of profiles and log level; empty is none"`
}

// NATSConfig is where events come from.
type NATSConfig struct {
	URL         string        `koanf:"url" default:"nats://127.0.0.1:4222" secret:"url" help:"NATS servers, comma separated"`
	CredsFile   string        `koanf:"creds_file" help:"NATS credentials file"`
	NKeyFile    string        `koanf:"nkey_file" help:"NATS user seed file"`
	User        string        `koanf:"user" help:"NATS user"`
	Password    string        `koanf:"password" secret:"true" help:"password of nats.user"`
	Token       string        `koanf:"token" secret:"true" help:"NATS token"`
	TLS         NATSTLSConfig `koanf:"tls"`
	Prefix      string        `koanf:"prefix" default:"push" help:"root of events that a stream may store"`
	FlashPrefix string        `koanf:"flash_prefix" default:"flash" help:"root of events that are never stored"`
	Interest    string        `koanf:"interest" default:"wildcard" enum:"wildcard,exact" help:"one subscription a root, or one for each subject that a session wants"`
	ReadyGrace  time.Duration `koanf:"ready_grace" default:"0s" min:"0s" max:"24h" help:"NATS away for longer makes /readyz fail; 0s is never"`
}

// NATSTLSConfig is how the gateway and NATS know each other.
type NATSTLSConfig struct {
	CAFile   string `koanf:"ca_file" help:"authorities that NATS's certificate is checked against (PEM)"`
	CertFile string `koanf:"cert_file" help:"the gateway's certificate for NATS (PEM)"`
	KeyFile  string `koanf:"key_file" help:"the key of nats.tls.cert_file (PEM)"`
}

// AuthConfig is which tokens are taken, and from where.
type AuthConfig struct {
	HS256Secret    string        `koanf:"hs256_secret" secret:"true" help:"HMAC secret of tokens, at least 32 bytes; in dev a random one"`
	PublicKeyFiles []string      `koanf:"public_key_files" help:"public keys of tokens (PEM: RSA, ECDSA, Ed25519); read again when they change"`
	Algorithms     []string      `koanf:"algorithms" enum:"HS256,HS384,HS512,RS256,RS384,RS512,PS256,PS384,PS512,ES256,ES384,ES512,EdDSA" help:"the only algorithms that keys are used with; empty is each key's own"`
	Issuer         string        `koanf:"issuer" help:"what iss must be"`
	Audience       string        `koanf:"audience" help:"what aud must hold"`
	Leeway         time.Duration `koanf:"leeway" default:"30s" min:"0s" max:"10m" help:"by which clocks may differ"`
	MaxLifetime    time.Duration `koanf:"max_lifetime" default:"24h" min:"1s" max:"87600h" help:"exp may be at most this far away"`
	TokenBytes     Size          `koanf:"token_bytes" default:"8KiB" min:"256" max:"64KiB" help:"longest token"`
	Carriers       []string      `koanf:"carriers" default:"header,subprotocol,query" enum:"header,subprotocol,query" help:"where a token may be"`
	Origins        []string      `koanf:"origins" help:"pages that may connect, like https://app.example.com, or *; empty is the same host"`
}

// LimitsConfig bounds what clients can make the gateway hold.
type LimitsConfig struct {
	Sessions            int  `koanf:"sessions" default:"0" min:"0" max:"100000000" help:"sessions; 0 is as many as descriptors and memory allow"`
	SessionsPerUser     int  `koanf:"sessions_per_user" default:"0" min:"0" max:"65535" help:"sessions of one user; 0 is no limit"`
	HandshakesPerSecond int  `koanf:"handshakes_per_second" default:"0" min:"0" max:"1000000" help:"handshakes a second; 0 is no limit"`
	HalfOpen            int  `koanf:"half_open" default:"4096" min:"1" max:"1000000" help:"connections that are no session yet"`
	EventBytes          Size `koanf:"event_bytes" default:"64KiB" min:"1" max:"64MiB" help:"larger events are dropped"`
	OutboxBytes         Size `koanf:"outbox_bytes" default:"256KiB" min:"1" max:"1GiB" help:"what may wait for a slow client"`
	MessageBytes        Size `koanf:"message_bytes" default:"4KiB" min:"125" max:"1MiB" help:"largest message of a client"`
}

// DrainConfig is how the gateway leaves.
type DrainConfig struct {
	Delay  time.Duration `koanf:"delay" default:"5s" dev:"0s" min:"0s" max:"1h" help:"not ready, but still accepting"`
	Window time.Duration `koanf:"window" default:"30s" dev:"1s" min:"0s" max:"1h" help:"over which sessions are closed"`
}

// LogConfig is what is logged.
type LogConfig struct {
	Level string `koanf:"level" default:"info" enum:"debug,info,warn,error" help:"least severe level that is logged"`
}

// DevConfig is of the dev command only.
type DevConfig struct {
	NATSListen string `koanf:"nats_listen" default:"127.0.0.1:4222" help:"address of the embedded NATS server"`
	StoreDir   string `koanf:"store_dir" help:"its data; a temporary folder unless set"`
}
