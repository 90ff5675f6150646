package bus

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

// Options say where NATS is and how to log in. At most one way of logging in
// may be set: CredsFile, NKeyFile, User with Password, or Token.
type Options struct {
	URL                                string // one or several, comma separated
	CredsFile, NKeyFile                string
	User, Password, Token              string
	TLSCAFile, TLSCertFile, TLSKeyFile string // PEM; read again on each connect
	Name                               string // shown by the server's monitoring
}

// Validate reports the first thing that is wrong with the options, files that
// cannot be used included, in one sentence that names the configuration key. It
// connects to nothing.
func (o Options) Validate() error {
	_, err := o.nats()
	return err
}

// nats turns the options into those of nats.go. Errors are Validate's.
func (o Options) nats() ([]nats.Option, error) {
	if err := checkURLs(o.URL); err != nil {
		return nil, err
	}
	opts := []nats.Option{nats.Name(o.Name)}
	login, err := o.login()
	if err != nil {
		return nil, err
	}
	if login != nil {
		opts = append(opts, login)
	}
	if o.TLSCAFile != "" {
		pem, err := read("nats.tls.ca_file", o.TLSCAFile)
		if err != nil {
			return nil, err
		}
		if !x509.NewCertPool().AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("nats.tls.ca_file %q holds no PEM certificate", o.TLSCAFile)
		}
		opts = append(opts, nats.RootCAs(o.TLSCAFile))
	}
	if o.TLSCertFile == "" && o.TLSKeyFile == "" {
		return opts, nil
	}
	if o.TLSCertFile == "" || o.TLSKeyFile == "" {
		return nil, errors.New("nats.tls.cert_file and nats.tls.key_file must be set together")
	}
	if _, err := read("nats.tls.cert_file", o.TLSCertFile); err != nil {
		return nil, err
	}
	if _, err := read("nats.tls.key_file", o.TLSKeyFile); err != nil {
		return nil, err
	}
	if _, err := tls.LoadX509KeyPair(o.TLSCertFile, o.TLSKeyFile); err != nil {
		return nil, fmt.Errorf("nats.tls.cert_file %q and nats.tls.key_file %q are no pair: %w", o.TLSCertFile, o.TLSKeyFile, err)
	}
	return append(opts, nats.ClientCert(o.TLSCertFile, o.TLSKeyFile)), nil
}

// login is nil where nothing is set: the credentials may stand in the URL.
func (o Options) login() (nats.Option, error) {
	var ways []string
	for _, way := range []struct{ key, value string }{
		{"nats.creds_file", o.CredsFile},
		{"nats.nkey_file", o.NKeyFile},
		{"nats.user", o.User},
		{"nats.token", o.Token},
	} {
		if way.value != "" {
			ways = append(ways, way.key)
		}
	}
	switch {
	case len(ways) > 1:
		return nil, fmt.Errorf("%s are set, but there is one way to log in to NATS: keep one", strings.Join(ways, " and "))
	case o.Password != "" && o.User == "":
		return nil, errors.New("nats.password is set, but nats.user is not")
	case o.CredsFile != "":
		content, err := read("nats.creds_file", o.CredsFile)
		if err != nil {
			return nil, err
		}
		if _, err := nkeys.ParseDecoratedUserNKey(content); err != nil {
			// The cause could quote the seed.
			return nil, fmt.Errorf("nats.creds_file %q holds no user's JWT and seed, as `nsc generate creds` writes them", o.CredsFile)
		}
		return nats.UserCredentials(o.CredsFile), nil
	case o.NKeyFile != "":
		if _, err := read("nats.nkey_file", o.NKeyFile); err != nil {
			return nil, err
		}
		key, err := nats.NkeyOptionFromSeed(o.NKeyFile)
		if err != nil {
			// The cause could quote the seed.
			return nil, fmt.Errorf("nats.nkey_file %q holds no user seed", o.NKeyFile)
		}
		return key, nil
	case o.User != "":
		return nats.UserInfo(o.User, o.Password), nil
	case o.Token != "":
		return nats.Token(o.Token), nil
	}
	return nil, nil
}

// read names the key and the file once; os.ReadFile's error has the file too.
func read(key, file string) ([]byte, error) {
	content, err := os.ReadFile(file)
	if err == nil {
		return content, nil
	}
	var path *os.PathError
	if errors.As(err, &path) {
		err = path.Err
	}
	return nil, fmt.Errorf("%s %q cannot be read: %w", key, file, err)
}

// checkURLs parses what nats.go would, because its errors and net/url's quote
// the URL with its password.
func checkURLs(urls string) error {
	if strings.TrimSpace(urls) == "" {
		return errors.New("nats.url is empty")
	}
	webSocket := 0
	all := strings.Split(urls, ",")
	for _, one := range all {
		one = strings.TrimSpace(one)
		full := one
		if !strings.Contains(one, "://") {
			full = "nats://" + one
		}
		u, err := url.Parse(full)
		if err != nil || u.Hostname() == "" {
			return fmt.Errorf("nats.url %q is not a URL like nats://host:4222", Redact(one))
		}
		if port := u.Port(); port != "" {
			if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
				return fmt.Errorf("nats.url %q has the port %s: it must be 1 to 65535", Redact(one), port)
			}
		}
		switch u.Scheme {
		case "nats", "tls":
		case "ws", "wss":
			webSocket++
		default:
			return fmt.Errorf("nats.url %q has the scheme %q: it must be nats, tls, ws or wss", Redact(one), u.Scheme)
		}
	}
	if webSocket != 0 && webSocket != len(all) {
		return errors.New("nats.url mixes ws and other schemes, which the NATS client cannot do")
	}
	return nil
}

// Redact blanks the credentials of each URL, for logs and errors. It takes one
// URL, several with commas between them, or a sentence that quotes them.
func Redact(text string) string {
	parts := strings.Split(text, ",")
	for i, part := range parts {
		at := strings.LastIndexByte(part, '@')
		if at < 0 {
			continue
		}
		start := strings.LastIndexAny(part[:at], " \t\n\"'") + 1
		if scheme := strings.Index(part[:at], "://"); scheme >= 0 {
			start = scheme + len("://")
		}
		parts[i] = part[:start] + "[redacted]" + part[at:]
	}
	return strings.Join(parts, ",")
}

// loginName says how the gateway logs in, without any secret.
func (o *Options) loginName() string {
	switch {
	case o.CredsFile != "":
		return "nats.creds_file " + o.CredsFile
	case o.NKeyFile != "":
		return "nats.nkey_file " + o.NKeyFile
	case o.User != "":
		return "nats.user " + o.User
	case o.Token != "":
		return "nats.token"
	case strings.Contains(o.URL, "@"):
		return "the credentials in nats.url"
	case o.TLSCertFile != "":
		return "nats.tls.cert_file " + o.TLSCertFile
	}
	return "none is configured"
}
