package main

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// parse turns what a source holds into the key's type: text from environment
// and flags, YAML's own types from the file. It checks range and enum. The
// error says what is wrong with the value, without the value.
func (k *key) parse(raw any) (any, error) {
	value, err := k.convert(raw)
	if err != nil {
		return nil, err
	}
	return value, k.inRange(value)
}

func (k *key) convert(raw any) (any, error) {
	s, isText := raw.(string)
	switch {
	case k.typ == reflect.TypeFor[time.Duration]():
		if raw == 0 {
			return time.Duration(0), nil
		}
		if d, err := time.ParseDuration(s); isText && err == nil {
			return d, nil
		}
		return nil, errors.New("is not a time like 30s, 5m or 24h")
	case k.typ == reflect.TypeFor[Size]():
		if n, ok := raw.(int); ok {
			s = strconv.Itoa(n)
		}
		size, err := ParseSize(s)
		return size, err
	case k.typ.Kind() == reflect.Bool:
		if b, ok := raw.(bool); ok {
			return b, nil
		}
		if b, err := strconv.ParseBool(s); isText && err == nil {
			return b, nil
		}
		return nil, errors.New("is neither true nor false")
	case k.typ.Kind() == reflect.Int:
		if n, ok := raw.(int); ok {
			return n, nil
		}
		if n, err := strconv.Atoi(s); isText && err == nil {
			return n, nil
		}
		return nil, errors.New("is not a whole number")
	case k.object != nil:
		return k.objects(raw)
	case k.typ.Kind() == reflect.Slice:
		return list(raw)
	case isText:
		return s, nil
	case reflect.TypeOf(raw).Kind() == reflect.Map || reflect.TypeOf(raw).Kind() == reflect.Slice:
		return nil, errors.New("must be one value")
	}
	return nil, errors.New("must be text: put it in quotes")
}

func list(raw any) (any, error) {
	all := []string{}
	switch raw := raw.(type) {
	case string:
		if raw == "" {
			return all, nil
		}
		for one := range strings.SplitSeq(raw, ",") {
			all = append(all, strings.TrimSpace(one))
		}
	case []any:
		for _, one := range raw {
			s, ok := one.(string)
			if !ok {
				return nil, errors.New("must be a list of texts: put each in quotes")
			}
			all = append(all, s)
		}
	default:
		return nil, errors.New("must be a list")
	}
	for i, one := range all {
		if one == "" {
			return nil, errors.New("has an empty element")
		}
		if slices.Contains(all[:i], one) {
			return nil, fmt.Errorf("has %q twice", one)
		}
	}
	return all, nil
}

func (k *key) inRange(value any) error {
	if enum := k.enum(); enum != nil {
		one, several := value.([]string)
		if !several {
			one = []string{value.(string)}
		}
		for _, v := range one {
			if !slices.Contains(enum, v) {
				return fmt.Errorf("must be %s", either(enum, several))
			}
		}
	}
	for _, bound := range []struct {
		tag, word string
		sign      int64
	}{{"min", "at least", 1}, {"max", "at most", -1}} {
		text, ok := k.tag.Lookup(bound.tag)
		if !ok {
			continue
		}
		if wider, ok := k.tag.Lookup(widerTag); ok && bound.tag == "max" {
			text = wider
		}
		limit, err := k.convert(text)
		if err != nil {
			return err // the table itself is wrong; a test reads all of it
		}
		v, l := reflect.ValueOf(value).Int(), reflect.ValueOf(limit).Int()
		if bound.sign > 0 && v < l || bound.sign < 0 && v > l {
			return fmt.Errorf("must be %s %s", bound.word, text)
		}
	}
	return nil
}

func either(words []string, several bool) string {
	last := len(words) - 1
	if several {
		return "a list of " + strings.Join(words[:last], ", ") + " and " + words[last]
	}
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

// text is the value as it would be written, for errors and check.
func text(value any) string {
	switch v := value.(type) {
	case time.Duration:
		if v >= time.Second && v <= 2*time.Minute && v%time.Second == 0 {
			return strconv.Itoa(int(v/time.Second)) + "s" // 60s, not 1m, as people write it
		}
		s := v.String()
		if strings.HasSuffix(s, "m0s") {
			s = strings.TrimSuffix(s, "0s")
		}
		if strings.HasSuffix(s, "h0m") {
			s = strings.TrimSuffix(s, "0m")
		}
		return s
	case []string:
		return strings.Join(v, ",")
	}
	return fmt.Sprint(value)
}
