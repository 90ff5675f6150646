package main

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
)

// objects turns a list of objects, as the file has it, into the key's type.
// Each object is as strict as the file itself. The error says which object and
// which of its keys.
func (k *key) objects(raw any) (any, error) {
	all, ok := raw.([]any)
	if !ok {
		return nil, errors.New("must be a list of objects, each behind a dash")
	}
	made := reflect.MakeSlice(k.typ, len(all), len(all))
	for i, one := range all {
		members, ok := one.(map[string]any)
		if !ok {
			return nil, fmt.Errorf("[%d] must be an object with keys and values", i)
		}
		if err := k.object.fill(made.Index(i), members); err != nil {
			return nil, fmt.Errorf("[%d]: %w", i, err)
		}
	}
	return made.Interface(), nil
}

// fill sets an object's fields from its members.
func (s *schema) fill(into reflect.Value, members map[string]any) error {
	given := layer{}
	if err := given.addSection(s, "", members, "in this object"); err != nil {
		return err
	}
	for _, k := range s.keys {
		g, ok := given[k]
		if !ok {
			if def := k.tag.Get("default"); k.fileOf == nil && def != "" {
				g.value = def
			} else {
				continue
			}
		}
		value, err := k.parse(g.value)
		if err != nil {
			return objectError(k, g.value, err)
		}
		if k.fileOf != nil {
			if !into.FieldByIndex(k.fileOf.index).IsZero() {
				return fmt.Errorf("%s and %s are both set: keep one", k.fileOf.name, k.name)
			}
			if value, err = secretFile(value.(string)); err != nil {
				return objectError(k, g.value, err)
			}
		}
		into.FieldByIndex(k.index).Set(reflect.ValueOf(value))
	}
	return nil
}

func objectError(k *key, value any, cause error) error {
	if k.secret() || isCollection(value) {
		return fmt.Errorf("%s %w", k.name, cause)
	}
	return fmt.Errorf("%s %q %w", k.name, text(value), cause)
}

// secretFile reads what a KEY_file points to.
func secretFile(path string) (string, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("cannot be read: %w", pathless(err))
	}
	value := strings.TrimRight(string(content), "\r\n")
	if value == "" {
		return "", errors.New("is an empty file")
	}
	return value, nil
}
