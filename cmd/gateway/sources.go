package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/knadh/koanf/providers/file"
	"github.com/knadh/koanf/v2"
	"go.yaml.in/yaml/v3"
)

// layer is what one source says.
type layer map[*key]given

// given is a value as its source has it.
type given struct {
	value  any
	source string // for errors and check: "environment variable GATEWAY_LISTEN"
}

const (
	envConfig = envPrefix + "CONFIG" // the configuration file
	envToken  = envPrefix + "TOKEN"  // the token of tail
)

// serviceLink matches the variables that Kubernetes sets in every pod for a
// service named gateway, or gateway-something. Nobody typed them.
var serviceLink = regexp.MustCompile(`^GATEWAY_(.*_)?(SERVICE_HOST|SERVICE_PORT(_.*)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)=|^GATEWAY_(.*_)?PORT=(tcp|udp|sctp)://`)

// readEnv takes the GATEWAY_ variables, and the configuration file's path.
func readEnv(env []string) (l layer, configFile string, err error) {
	l = layer{}
	for _, variable := range env {
		name, value, _ := strings.Cut(variable, "=")
		if !strings.HasPrefix(name, envPrefix) || name == envToken {
			continue
		}
		if name == envConfig {
			configFile = value
			continue
		}
		k, ok := keys().byEnv[name]
		switch {
		case ok:
			l[k] = given{value, "environment variable " + name}
		case keys().inFileOnly(name):
			return nil, "", configErrorf("environment variable %s: lists of objects exist in the configuration file only", name)
		case !serviceLink.MatchString(variable):
			known := append(slices.Sorted(maps.Keys(keys().byEnv)), envConfig, envToken)
			return nil, "", configErrorf("unknown environment variable %s%s", name, didYouMean(name, known))
		}
	}
	return l, configFile, nil
}

// readFlags takes the flags that were given, by key. Several of one list are
// one list.
func readFlags(flags map[string][]string) (layer, error) {
	l := layer{}
	for name, values := range flags {
		k := keys().byName[name]
		if len(values) > 1 && k.kind() != "LIST" {
			return nil, configErrorf("flag --%s is given %d times", name, len(values))
		}
		if len(values) > 0 {
			l[k] = given{strings.Join(values, ","), "flag --" + name}
		}
	}
	return l, nil
}

// readFile takes a YAML file; no path is no file.
func readFile(path string) (layer, error) {
	l := layer{}
	if path == "" {
		return l, nil
	}
	content := koanf.New(".")
	if err := content.Load(file.Provider(path), oneDocument{}); err != nil {
		return nil, configErrorf("the configuration file %q cannot be read: %v", path, pathless(err))
	}
	return l, l.addSection(keys(), "", content.Raw(), "file "+path)
}

func (l layer) addSection(s *schema, prefix string, section map[string]any, source string) error {
	for _, part := range slices.Sorted(maps.Keys(section)) {
		name, value := prefix+part, section[part]
		k, ok := s.byName[name]
		switch {
		case strings.Contains(part, "."):
			return configErrorf("unknown key %q: write each part of a name on a line of its own, indented below the one before it (%s)", name, source)
		case ok && value == nil: // "issuer:" and nothing behind it
		case ok:
			l[k] = given{value, source}
		case !s.isSection(name):
			return configErrorf("unknown key %q%s (%s)", name, didYouMean(name, slices.Sorted(maps.Keys(s.byName))), source)
		case value == nil:
		default:
			below, ok := value.(map[string]any)
			if !ok {
				return configErrorf("%s must be a section with keys below it (%s)", name, source)
			}
			if err := l.addSection(s, name+".", below, source); err != nil {
				return err
			}
		}
	}
	return nil
}

// oneDocument reads YAML for koanf. It refuses a second document, which would
// otherwise be ignored without a word.
type oneDocument struct{}

func (oneDocument) Unmarshal(content []byte) (map[string]any, error) {
	d := yaml.NewDecoder(bytes.NewReader(content))
	var root yaml.Node
	switch err := d.Decode(&root); {
	case errors.Is(err, io.EOF):
		return map[string]any{}, nil
	case err != nil && strings.Contains(err.Error(), "unknown anchor"):
		// The error quotes the value, which may be a secret.
		return nil, errors.New("a value that begins with * must stand in quotes")
	case err != nil:
		return nil, err
	case len(root.Content) != 1 || root.Content[0].Kind != yaml.MappingNode:
		// Not left to Decode below: its error quotes the content, and somebody
		// may have given the file of a secret.
		return nil, errors.New("it must hold keys and values, like \"listen: :8080\"")
	}
	if err := d.Decode(new(any)); !errors.Is(err, io.EOF) {
		return nil, errors.New("it holds more than one YAML document")
	}
	var all map[string]any
	err := root.Decode(&all)
	var wrong *yaml.TypeError
	if errors.As(err, &wrong) && len(wrong.Errors) > 0 {
		return nil, errors.New(wrong.Errors[0]) // a key that stands twice
	}
	return all, err
}

func (oneDocument) Marshal(all map[string]any) ([]byte, error) {
	content, err := yaml.Marshal(all)
	if err != nil {
		return nil, fmt.Errorf("the configuration cannot be written as YAML: %w", err)
	}
	return content, nil
}
