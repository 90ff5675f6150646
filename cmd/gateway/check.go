package main

import (
	"fmt"
	"io"
	"reflect"
	"strings"
	"time"
	"unicode"

	"go.yaml.in/yaml/v3"

	"pushgate/internal/bus"
)

type checkCommand struct {
	configFlags
	Dev bool `help:"Check for dev instead of serve."`
}

func (*checkCommand) Help() string {
	return `Connects to nothing. Says where each value that is no default came from. Secrets are not shown.

    gateway check --config gateway.yaml`
}

func (c *checkCommand) Run(s *invocation) error {
	cfg, from, err := c.load(s, c.Dev)
	if err != nil {
		return err
	}
	if err := printConfig(s.stdout, cfg, from); err != nil {
		return err
	}
	return needKey(cfg)
}

// printConfig writes the configuration as YAML, in the table's order.
func printConfig(w io.Writer, cfg *Config, from origins) error {
	root := &yaml.Node{Kind: yaml.MappingNode}
	sections := map[string]*yaml.Node{"": root}
	for _, k := range keys().keys {
		if k.fileOf != nil {
			continue
		}
		value := valueNode(k, reflect.ValueOf(cfg).Elem().FieldByIndex(k.index).Interface())
		path := strings.Split(k.name, ".")
		name := &yaml.Node{Kind: yaml.ScalarNode, Value: path[len(path)-1]}
		if source := from[k.name]; source != "" {
			commented := value
			if value.Kind == yaml.SequenceNode && value.Style != yaml.FlowStyle {
				commented = name // behind the list it would stand at the next key
			}
			commented.LineComment = "# " + oneLine(source)
		}
		parent := section(sections, path[:len(path)-1])
		parent.Content = append(parent.Content, name, value)
	}
	e := yaml.NewEncoder(w)
	e.SetIndent(2)
	if err := e.Encode(root); err != nil {
		return fmt.Errorf("the configuration cannot be printed: %w", err)
	}
	return e.Close()
}

// section finds the mapping at path, and makes it where it is new.
func section(sections map[string]*yaml.Node, path []string) *yaml.Node {
	name := strings.Join(path, ".")
	if node, ok := sections[name]; ok {
		return node
	}
	node := &yaml.Node{Kind: yaml.MappingNode}
	sections[name] = node
	last := len(path) - 1
	parent := section(sections, path[:last])
	parent.Content = append(parent.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: path[last]}, node)
	return node
}

func valueNode(k *key, value any) *yaml.Node {
	if k.object != nil {
		return objectsNode(k, reflect.ValueOf(value))
	}
	switch v := value.(type) {
	case []string:
		list := &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle}
		for _, s := range v {
			list.Content = append(list.Content, textNode(s))
		}
		return list
	case int, bool:
		return &yaml.Node{Kind: yaml.ScalarNode, Value: text(v)}
	case Size, time.Duration:
		return &yaml.Node{Kind: yaml.ScalarNode, Value: text(v)}
	}
	s := text(value)
	switch {
	case k.secret() && s != "":
		s = "[redacted]"
	case k.tag.Get("secret") == "url":
		s = bus.Redact(s)
	}
	return textNode(s)
}

// objectsNode is a list of objects, without what is not set in them.
func objectsNode(k *key, list reflect.Value) *yaml.Node {
	all := &yaml.Node{Kind: yaml.SequenceNode}
	if list.Len() == 0 {
		all.Style = yaml.FlowStyle
	}
	for i := range list.Len() {
		one := &yaml.Node{Kind: yaml.MappingNode}
		for _, member := range k.object.keys {
			field := list.Index(i).FieldByIndex(member.index)
			if member.fileOf == nil && !field.IsZero() {
				one.Content = append(one.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: member.name}, valueNode(member, field.Interface()))
			}
		}
		all.Content = append(all.Content, one)
	}
	return all
}

// textNode lets the encoder decide about quotes.
func textNode(s string) *yaml.Node {
	node := &yaml.Node{}
	node.SetString(s)
	return node
}

// oneLine blanks what would leave the line or talk to the terminal.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == 0x2028 || r == 0x2029 {
			return '?'
		}
		return r
	}, s)
}
