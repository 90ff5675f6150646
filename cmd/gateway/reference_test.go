package main

import (
	"cmp"
	stdflag "flag" // a function of this package has the name
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

var updateReference = stdflag.Bool("update-reference", false, "write docs/configuration.md anew")

const referenceFile = "../../docs/configuration.md"

const referenceHead = `# Configuration reference

Made from the program's own table of keys by ` + "`make reference`" + `; CI compares. [operations.md](operations.md) says what is worth
knowing about them, ` + "`gateway check`" + ` what is in force.

The key ` + "`auth.hs256_secret`" + ` is ` + "`hs256_secret`" + ` below ` + "`auth`" + ` in the file (` + "`--config`" + `, or ` + "`GATEWAY_CONFIG`" + `), the variable
` + "`GATEWAY_AUTH_HS256_SECRET`" + ` and the flag ` + "`--auth.hs256_secret`" + `; flag over environment over file over default. A key that ends
in ` + "`_file`" + ` beside a secret reads it from a file. TIME is written ` + "`30s`, SIZE `64KiB`" + `; a LIST is one in YAML, and separated by
commas elsewhere. Unknown keys and bad values are one error at start, exit code 2.
`

// reference is the text of docs/configuration.md.
func reference() string {
	var b strings.Builder
	b.WriteString(referenceHead)
	sections := []string{""}
	members := map[string][]*key{}
	for _, k := range keys().keys {
		section, _, nested := strings.Cut(k.name, ".")
		if !nested {
			section = ""
		}
		if !slices.Contains(sections, section) {
			sections = append(sections, section)
		}
		members[section] = append(members[section], k)
	}
	for _, section := range sections {
		fmt.Fprintf(&b, "\n## %s\n", cmp.Or(section, "At the top"))
		writeKeys(&b, members[section])
	}
	for _, k := range keys().keys {
		if k.object == nil {
			continue
		}
		fmt.Fprintf(&b, "\n## Each of %s\n\nIn the file only.\n", k.name)
		writeKeys(&b, k.object.keys)
	}
	return b.String()
}

func writeKeys(b *strings.Builder, all []*key) {
	b.WriteString("\n| key | value | default | |\n| --- | --- | --- | --- |\n")
	for _, k := range all {
		writeKey(b, k)
	}
}

func writeKey(b *strings.Builder, k *key) {
	kind := k.kind()
	if k.object != nil {
		kind = "objects, see below"
	}
	def := "–"
	if k.fileOf == nil {
		if d := k.def(false); d != "" {
			def = "`" + d + "`"
		}
		if d := k.def(true); d != k.def(false) {
			def += " (dev: `" + d + "`)"
		}
	}
	help := k.help()
	if k.object == nil {
		if e := k.enum(); e != nil {
			help += "; one of `" + strings.Join(e, "`, `") + "`"
		}
		least, most := k.tag.Get("min"), k.tag.Get("max")
		if k.fileOf == nil && least != "" {
			help += fmt.Sprintf("; %s to %s", least, most)
		}
	}
	fmt.Fprintf(b, "| `%s` | %s | %s | %s |\n", k.name, kind, def, strings.ReplaceAll(help, "|", "\\|"))
}

// TestReference wants the reference to be what the program reads.
func TestReference(t *testing.T) {
	want := reference()
	if *updateReference {
		write(t, referenceFile, want)
	}
	is, err := os.ReadFile(referenceFile)
	if err != nil {
		t.Fatal(err)
	}
	if string(is) != want {
		t.Error("docs/configuration.md is not what the program reads: make reference")
	}
	for _, k := range keys().keys {
		if k.help() == "" {
			t.Errorf("%s says nothing of itself", k.name)
		}
	}
}
