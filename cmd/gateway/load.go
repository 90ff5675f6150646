package main

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"reflect"

	"github.com/knadh/koanf/providers/confmap"
	"github.com/knadh/koanf/v2"

	"pushgate/internal/bus"
)

// configError is a mistake in the configuration or on the command line, in one
// sentence. The program exits with 2.
type configError struct{ text string }

func (e *configError) Error() string { return e.text }

func configErrorf(format string, a ...any) error {
	return &configError{fmt.Sprintf(format, a...)}
}

// input is where a configuration comes from.
type input struct {
	dev   bool                // the defaults of the dev command
	file  string              // from --config; GATEWAY_CONFIG is looked up in env
	env   []string            // KEY=value
	flags map[string][]string // by key, as given
}

// madeForThisRun is where dev's secret comes from, unless it was given one.
const madeForThisRun = "made for this run"

// origins say where each key that is not a default came from.
type origins map[string]string

// loadConfig merges default < file < environment < flags, and validates. Each
// error is a *configError that names key, value and source.
func loadConfig(in input) (*Config, origins, error) {
	l := &loader{merged: koanf.New("."), from: origins{}, raw: map[string]any{}}
	if err := l.load(in); err != nil {
		return nil, nil, err
	}
	cfg := &Config{}
	if err := l.merged.UnmarshalWithConf("", cfg, koanf.UnmarshalConf{Tag: "koanf"}); err != nil {
		return nil, nil, configErrorf("the configuration cannot be read: %v", err)
	}
	if a := &cfg.Auth; in.dev && a.HS256Secret == "" && a.JWKSURL == "" && len(a.Issuers) == 0 {
		secret := make([]byte, 32)
		_, _ = rand.Read(secret) // never fails
		cfg.Auth.HS256Secret = hex.EncodeToString(secret)
		l.from["auth.hs256_secret"] = madeForThisRun
	}
	if err := validate(cfg); err != nil {
		var bad *keyError
		if errors.As(err, &bad) {
			return nil, nil, l.fail(keys().byName[bad.key], bad.value, l.from[bad.key], bad)
		}
		return nil, nil, configErrorf("%v", err)
	}
	return cfg, l.from, nil
}

// loader holds the layers merged so far.
type loader struct {
	merged *koanf.Koanf
	raw    map[string]any // *_file keys
	from   origins
}

func (l *loader) load(in input) error {
	defaults := layer{}
	for _, k := range keys().keys {
		if k.fileOf == nil && k.object == nil {
			defaults[k] = given{value: k.def(in.dev)}
		}
	}
	env, file, err := readEnv(in.env)
	if err != nil {
		return err
	}
	if in.file != "" {
		file = in.file
	}
	fromFile, err := readFile(file)
	if err != nil {
		return err
	}
	flags, err := readFlags(in.flags)
	if err != nil {
		return err
	}
	for _, one := range []layer{defaults, fromFile, env, flags} {
		if err := l.merge(one); err != nil {
			return err
		}
	}
	return l.secretFiles()
}

// merge lays one source over those before it. A key and its *_file in the same
// source are an error; else the later source's counts, as with any key.
func (l *loader) merge(from layer) error {
	typed := map[string]any{}
	for _, k := range keys().keys { // in the table's order, so that errors do not change
		g, ok := from[k]
		if !ok {
			continue
		}
		value, err := k.parse(g.value)
		if err != nil {
			return l.fail(k, g.value, g.source, err)
		}
		if g.source != "" {
			l.from[k.name] = g.source
		}
		if k.fileOf != nil {
			l.raw[k.name] = value
			continue
		}
		typed[k.name] = value
	}
	for _, k := range keys().keys {
		if k.fileOf == nil {
			continue
		}
		file, direct := from[k], from[k.fileOf]
		hasFile, hasDirect := file.source != "" && l.raw[k.name] != "", direct.source != "" && typed[k.fileOf.name] != ""
		switch {
		case hasFile && hasDirect:
			return configErrorf("%s (%s) and %s (%s) are both set: keep one", k.fileOf.name, direct.source, k.name, file.source)
		case hasFile:
			delete(l.from, k.fileOf.name) // what stood in a layer below
		case hasDirect:
			delete(l.raw, k.name)
			delete(l.from, k.name)
		}
	}
	return l.merged.Load(confmap.Provider(typed, "."), nil)
}

// secretFiles reads what the *_file keys point to.
func (l *loader) secretFiles() error {
	for _, k := range keys().keys {
		path, _ := l.raw[k.name].(string)
		if k.fileOf == nil || path == "" {
			continue
		}
		source := l.from[k.name]
		value, err := secretFile(path)
		if err != nil {
			return l.fail(k, path, source, err)
		}
		if err := l.merged.Set(k.fileOf.name, value); err != nil {
			return l.fail(k, path, source, err)
		}
		l.from[k.fileOf.name] = source
	}
	return nil
}

// fail is the one form of an error about a value: key, value, what is wrong,
// source. A secret's value is left out.
func (l *loader) fail(k *key, value any, source string, cause error) error {
	shown := ""
	switch {
	case k.secret():
	case k.tag.Get("secret") == "url":
		shown = fmt.Sprintf(" %q", bus.Redact(text(value)))
	case isCollection(value):
	default:
		shown = fmt.Sprintf(" %q", text(value))
	}
	where := ""
	if source != "" {
		where = " (" + source + ")"
	}
	return configErrorf("%s%s %v%s", k.name, shown, cause, where)
}

func isCollection(value any) bool {
	if _, ok := value.([]string); ok || value == nil {
		return false
	}
	kind := reflect.TypeOf(value).Kind()
	return kind == reflect.Map || kind == reflect.Slice
}

// pathless takes the path out of a file error whose sentence has it already.
func pathless(err error) error {
	var path *os.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}
