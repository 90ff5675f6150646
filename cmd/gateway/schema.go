package main

import (
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"
)

const envPrefix = "GATEWAY_"

// key is one line of the table that Config's tags are.
type key struct {
	name   string // dotted
	index  []int  // of the field in Config
	typ    reflect.Type
	tag    reflect.StructTag
	fileOf *key    // a KEY_file: the key whose value is in the file
	object *schema // the keys of each object, where the value is a list of objects
}

// schema is the table. The order is the one in which keys are shown.
type schema struct {
	keys   []*key
	byName map[string]*key
	byEnv  map[string]*key
}

var keys = sync.OnceValue(func() *schema { return newSchema(reflect.TypeFor[Config]()) })

func newSchema(t reflect.Type) *schema {
	s := &schema{byName: map[string]*key{}, byEnv: map[string]*key{}}
	s.add("", nil, t)
	return s
}

func (s *schema) add(prefix string, index []int, t reflect.Type) {
	for i := range t.NumField() {
		f := t.Field(i)
		at := append(append([]int(nil), index...), i)
		name := prefix + f.Tag.Get("koanf")
		if f.Type.Kind() == reflect.Struct {
			s.add(name+".", at, f.Type)
			continue
		}
		k := &key{name: name, index: at, typ: f.Type, tag: f.Tag}
		if f.Type.Kind() == reflect.Slice && f.Type.Elem().Kind() == reflect.Struct {
			k.object = newSchema(f.Type.Elem())
		}
		s.put(k)
		if k.secret() {
			s.put(&key{name: name + "_file", index: at, typ: f.Type, fileOf: k})
		}
	}
}

func (s *schema) put(k *key) {
	s.keys = append(s.keys, k)
	s.byName[k.name] = k
	if k.object == nil { // lists of objects exist in the file only
		s.byEnv[k.env()] = k
	}
}

// flags are the keys that can be given on the command line.
func (s *schema) flags() []*key {
	return slices.DeleteFunc(slices.Clone(s.keys), func(k *key) bool { return k.object != nil })
}

// inFileOnly reports whether a variable would be that of a list of objects.
func (s *schema) inFileOnly(env string) bool {
	return slices.ContainsFunc(s.keys, func(k *key) bool { return k.object != nil && k.env() == env })
}

// isSection reports whether keys lie below name.
func (s *schema) isSection(name string) bool {
	for _, k := range s.keys {
		if strings.HasPrefix(k.name, name+".") {
			return true
		}
	}
	return false
}

// env is the key's environment variable.
func (k *key) env() string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(k.name, ".", "_"))
}

// aliases are the other spellings of the key's flag.
func (k *key) aliases() []string {
	var all []string
	dashes := strings.ReplaceAll(k.name, "_", "-")
	for _, a := range []string{dashes, strings.ReplaceAll(dashes, ".", "-")} {
		if a != k.name && (len(all) == 0 || all[0] != a) {
			all = append(all, a)
		}
	}
	return all
}

func (k *key) secret() bool { return k.tag.Get("secret") == "true" }

func (k *key) help() string {
	if k.fileOf != nil {
		return "file that holds " + k.fileOf.name
	}
	return k.tag.Get("help")
}

// def is the default as it would be written.
func (k *key) def(dev bool) string {
	if d, ok := k.tag.Lookup("dev"); ok && dev {
		return d
	}
	return k.tag.Get("default")
}

// enum are the only values, or nil.
func (k *key) enum() []string {
	if e, ok := k.tag.Lookup("enum"); ok {
		return strings.Split(e, ",")
	}
	return nil
}

// kind is what stands for a value in help.
func (k *key) kind() string {
	switch {
	case k.fileOf != nil || strings.HasSuffix(k.name, "_file"):
		return "FILE"
	case k.typ == reflect.TypeFor[time.Duration]():
		return "TIME"
	case k.typ == reflect.TypeFor[Size]():
		return "SIZE"
	case k.typ.Kind() == reflect.Int:
		return "N"
	case k.typ.Kind() == reflect.Bool:
		return "BOOL"
	case k.typ.Kind() == reflect.Slice:
		return "LIST"
	}
	return "TEXT"
}
