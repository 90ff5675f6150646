package main

import "time"

// Config is the configuration in force. Its tags are the one table of keys:
// names, defaults, flags, environment variables, ranges, help and what check
// prints are all read from them (see schema.go).
//
//	koanf    name; sections are joined by dots
//	default  as it would be written in a file
//	dev      the default of the dev command, where it differs
//	min, max range, both included; echotest is the max of binaries that echo
//	enum     the only values
//	secret   "true": never printed, and KEY_file reads it from a file;
//	         "url": credentials in it are never printed
//	help     one phrase
type Config struct {
	Listen        string        `koanf:"listen" default:":8080" dev:"127.0.0.1:8080" help:"public address: WebSocket, events"`
	Loops         int           `koanf:"loops" default:"0" min:"0" max:"1024" help:"event loops; 0 is one for each CPU"`
	Admin         AdminConfig   `koanf:"admin"`
	TLS           TLSConfig     `koanf:"tls"`
	NATS          NATSConfig    `koanf:"nats"`
	Auth          AuthConfig    `koanf:"auth"`
	Proxy         ProxyConfig   `koanf:"proxy"`
	Subscriptions []string      `koanf:"subscriptions" default:"user.{sub},broadcast" help:"what every session gets; {name} is a claim, {a.b} a nested one, {sub:b64} its base64url"`
	Durable       DurableConfig `koanf:"durable"`
	Limits        LimitsConfig  `koanf:"limits"`
	SlowConsumers []SlowConfig  `koanf:"slow_consumers" help:"what becomes of events that wait for a client that reads too slowly, by subject; the first that fits counts"`
	Heartbeat     time.Duration `koanf:"heartbeat" default:"60s" min:"1s" max:"1h" help:"a client that is silent for twice this is closed"`
	Compression   bool          `koanf:"compression" default:"true" help:"permessage-deflate for WebSocket clients that offer it"`
	Presence      bool          `koanf:"presence" default:"false" help:"tell backends, on pushgate.presence.>, who comes and goes"`
	Flight        FlightConfig  `koanf:"flight"`
	Drain         DrainConfig   `koanf:"drain"`
	Log           LogConfig     `koanf:"log"`
	Dev           DevConfig     `koanf:"dev"`
}

// AdminConfig is where operators look.
type AdminConfig struct {
	Listen      string `koanf:"listen" default:"127.0.0.1:9090" help:"address of probes, metrics and the status page"`
	DebugListen string `koanf:"debug_listen" default:"127.0.0.1:6060" help:"address of profiles and log level; empty is none"`
}

// TLSConfig is native TLS on the public listener.
type TLSConfig struct {
	CertFile string `koanf:"cert_file" help:"the certificate of listen, with its chain (PEM); read again when it changes. Empty is no TLS"`
	KeyFile  string `koanf:"key_file" help:"the key of tls.cert_file (PEM)"`
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
	HS256Secret    string         `koanf:"hs256_secret" secret:"true" help:"HMAC secret of tokens, at least 32 bytes; in dev a random one"`
	PublicKeyFiles []string       `koanf:"public_key_files" help:"public keys of tokens (PEM: RSA, ECDSA, Ed25519); read again when they change"`
	JWKSURL        string         `koanf:"jwks_url" secret:"url" help:"where the issuer publishes its keys, instead of a secret or files"`
	Algorithms     []string       `koanf:"algorithms" enum:"HS256,HS384,HS512,RS256,RS384,RS512,PS256,PS384,PS512,ES256,ES384,ES512,EdDSA" help:"the only algorithms that keys are used with; empty is each key's own"`
	Issuer         string         `koanf:"issuer" help:"what iss must be"`
	Audience       string         `koanf:"audience" help:"what aud must hold"`
	Issuers        []IssuerConfig `koanf:"issuers" help:"several issuers, each with its own keys, instead of the keys above"`
	JWKSInterval   time.Duration  `koanf:"jwks_interval" default:"10s" min:"100ms" max:"1h" help:"an unknown kid causes at most one fetch in it"`
	JWKSRefresh    time.Duration  `koanf:"jwks_refresh" default:"5m" min:"1s" max:"24h" help:"how often key sets are fetched anyhow"`
	Leeway         time.Duration  `koanf:"leeway" default:"30s" min:"0s" max:"10m" help:"by which clocks may differ"`
	MaxLifetime    time.Duration  `koanf:"max_lifetime" default:"24h" min:"1s" max:"87600h" help:"exp may be at most this far away, and this far behind iat"`
	TokenBytes     Size           `koanf:"token_bytes" default:"8KiB" min:"256" max:"64KiB" help:"longest token"`
	CacheBytes     Size           `koanf:"cache_bytes" default:"16MiB" min:"0" max:"4GiB" help:"memory for hashes of tokens whose public-key signature was verified, 80 bytes each; 0 is none"`
	Carriers       []string       `koanf:"carriers" default:"header,subprotocol,query" enum:"header,subprotocol,query,cookie" help:"where a token may be"`
	CookieName     string         `koanf:"cookie_name" help:"the cookie of the carrier cookie"`
	Origins        []string       `koanf:"origins" help:"pages that may connect, like https://app.example.com, or *; empty is the same host"`
}

// IssuerConfig is one of several issuers. It stands in the file only.
type IssuerConfig struct {
	Name           string   `koanf:"name" help:"its users are name/sub; templates call it {issuer}"`
	Issuer         string   `koanf:"issuer" help:"what iss must be"`
	Audience       string   `koanf:"audience" help:"what aud must hold"`
	HS256Secret    string   `koanf:"hs256_secret" secret:"true" help:"HMAC secret, at least 32 bytes"`
	PublicKeyFiles []string `koanf:"public_key_files" help:"public keys (PEM)"`
	JWKSURL        string   `koanf:"jwks_url" secret:"url" help:"where it publishes its keys"`
	Algorithms     []string `koanf:"algorithms" enum:"HS256,HS384,HS512,RS256,RS384,RS512,PS256,PS384,PS512,ES256,ES384,ES512,EdDSA" help:"the only algorithms that its keys are used with"`
	Subscriptions  []string `koanf:"subscriptions" help:"what its sessions get, instead of subscriptions"`
	GrantCeiling   []string `koanf:"grant_ceiling" help:"patterns that its tokens' claim subscribe cannot go beyond"`
}

// ProxyConfig is who may speak for clients.
type ProxyConfig struct {
	Trusted []string `koanf:"trusted" help:"networks, like 10.0.0.0/8, whose X-Forwarded-For or PROXY header is believed"`
}

// DurableConfig is the stored stream.
type DurableConfig struct {
	Stream          string        `koanf:"stream" dev:"PUSH" help:"JetStream stream over nats.prefix; empty is none: events reach who is connected now"`
	Create          bool          `koanf:"create" default:"false" dev:"true" help:"make the stream where it is missing"`
	MaxAge          time.Duration `koanf:"max_age" default:"24h" min:"1s" max:"8760h" help:"how long a stream that the gateway makes keeps events, and the ring"`
	RingBytes       Size          `koanf:"ring_bytes" default:"64MiB" min:"1KiB" max:"64GiB" help:"memory for the newest stored events"`
	RepublishPrefix string        `koanf:"republish_prefix" default:"pushed" help:"root under which the stream republishes; only the server may publish there"`
}

// LimitsConfig bounds what clients can make the gateway hold.
type LimitsConfig struct {
	Sessions              int           `koanf:"sessions" default:"0" min:"0" max:"100000000" help:"sessions; 0 is as many as descriptors and memory allow"`
	SessionsPerUser       int           `koanf:"sessions_per_user" default:"0" min:"0" max:"65535" help:"sessions of one user; 0 is no limit"`
	SessionsPerUserPolicy string        `koanf:"sessions_per_user_policy" default:"replace_oldest" enum:"replace_oldest,refuse" help:"who has to go when a user has as many: the oldest, with 4001, or the new one, with 429"`
	HandshakesPerSecond   int           `koanf:"handshakes_per_second" default:"0" min:"0" max:"1000000" help:"handshakes a second; 0 is no limit"`
	PerAddress            int           `koanf:"per_address" default:"0" min:"0" max:"1000000" help:"sessions of one client address (IPv6: /64); 0 is no limit"`
	AddressHandshakes     int           `koanf:"handshakes_per_address" default:"0" min:"0" max:"1000000" help:"handshakes a second of one client address; 0 is no limit"`
	UserHandshakes        int           `koanf:"handshakes_per_user" default:"0" min:"0" max:"1000000" help:"handshakes a second of one user; 0 is no limit"`
	Subjects              int           `koanf:"subjects" default:"64" min:"1" max:"255" help:"subjects of one session"`
	HalfOpen              int           `koanf:"half_open" default:"4096" min:"1" max:"1000000" help:"connections that are no session yet"`
	EventBytes            Size          `koanf:"event_bytes" default:"64KiB" min:"1" max:"64MiB" help:"larger events are dropped"`
	OutboxBytes           Size          `koanf:"outbox_bytes" default:"256KiB" min:"1" max:"1GiB" help:"what may wait for a slow client"`
	OutboxesBytes         Size          `koanf:"outboxes_bytes" default:"0" min:"0" max:"64GiB" help:"what may wait for all clients together, the kernel's buffers included; 0 is a quarter of the memory limit"`
	PollBytes             Size          `koanf:"poll_bytes" default:"1MiB" min:"1" max:"64MiB" help:"events in one answer to a poll; one always fits"`
	Heartbeat             time.Duration `koanf:"heartbeat" default:"15m" min:"1s" max:"1h" help:"longest heartbeat that a client may ask for with ?heartbeat="`
	MessageBytes          Size          `koanf:"message_bytes" default:"4KiB" min:"125" max:"1MiB" echotest:"32MiB" help:"largest message of a client"`
}

// SlowConfig is what becomes of the events of some subjects when a client reads
// too slowly. It stands in the file only.
type SlowConfig struct {
	Subject string `koanf:"subject" help:"a subject or pattern, without its root"`
	Policy  string `koanf:"policy" enum:"disconnect,drop_oldest,latest" help:"disconnect: it comes back with its cursor; drop_oldest, and says so; latest: of each subject and collapse key only the newest"`
}

// FlightConfig is what is remembered for who asks why.
type FlightConfig struct {
	Events int `koanf:"events" default:"8192" min:"0" max:"10000000" help:"what happened lately, kept for gateway why: entries of 100 bytes; 0 is none"`
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
