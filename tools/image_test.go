package tools

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"context"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/frontend/dockerfile/dockerfile2llb"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerui"
	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
	"github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

// dockerfileProblems looks at the last stage only: the others are not shipped.
func dockerfileProblems(text string) []string {
	var r report
	var user, entrypoint string
	var copied []string
	for line := range strings.Lines(text) {
		instruction, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch strings.ToUpper(instruction) {
		case "FROM":
			user, entrypoint, copied = "", "", nil
		case "USER":
			user = rest
		case "ENTRYPOINT":
			entrypoint = rest
		case "COPY":
			copied = append(copied, rest[strings.LastIndexByte(rest, ' ')+1:])
		}
	}
	// The kubelet cannot tell whether a user with a name is root.
	uid, _, _ := strings.Cut(user, ":")
	if n, err := strconv.Atoi(uid); err != nil || n <= 0 {
		r.addf("USER %q is not the number of a user other than root", user)
	}
	var command []string
	if err := json.Unmarshal([]byte(entrypoint), &command); err != nil || len(command) == 0 {
		r.addf("ENTRYPOINT %s is not a list: a shell would swallow SIGTERM", entrypoint)
	} else if path.Base(command[0]) != "gateway" || !slices.Contains(copied, command[0]) {
		r.addf("ENTRYPOINT %s is not the gateway that the stage copies: %v", entrypoint, copied)
	}
	return r
}

func TestDockerfile(t *testing.T) {
	text, err := os.ReadFile("../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range dockerfileProblems(string(text)) {
		t.Error(problem)
	}
	for _, tc := range []struct{ old, broken, want string }{
		{"USER 65532:65532", "", `USER ""`},
		{"USER 65532:65532", "USER 0:65532", `USER "0:65532"`},
		{"USER 65532:65532", "USER nonroot", `USER "nonroot"`},
		{`ENTRYPOINT ["/gateway"]`, "ENTRYPOINT /gateway", "is not a list"},
		{`ENTRYPOINT ["/gateway"]`, "", "is not a list"},
		{`ENTRYPOINT ["/gateway"]`, `ENTRYPOINT ["/loadgen"]`, "is not the gateway"},
		{"COPY --from=build /gateway /gateway", "COPY --from=build /gateway /bin/", "is not the gateway"},
		{`CMD ["serve"]`, "FROM scratch", `USER ""`},
	} {
		broken := strings.Replace(string(text), tc.old, tc.broken, 1)
		all := strings.Join(dockerfileProblems(broken), "\n")
		if broken == string(text) || !strings.Contains(all, tc.want) {
			t.Errorf("%q for %q: got %q", tc.broken, tc.old, all)
		}
	}
}

// TestDockerfileLint runs BuildKit's own linter, every rule of it.
func TestDockerfileLint(t *testing.T) {
	text, err := os.ReadFile("../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range lintDockerfile(t, text) {
		t.Error(problem)
	}
	for _, tc := range []struct{ old, broken, want string }{
		{" AS build", " as build", "FromAsCasing"},
		{"ENTRYPOINT [\"/gateway\"]", "ENTRYPOINT /gateway", "JSONArgsRecommended"},
		{"WORKDIR /src", "WORKDIR src", "WorkdirRelativePath"},
		{"ARG COMMIT=unknown", "ENV API_TOKEN=x", "SecretsUsedInArgOrEnv"},
		{"FROM $RUNTIME", "FROM $OTHER", "Other"},
		{"CMD [\"serve\"]", "CMD [\"serve\"]\nCMD [\"dev\"]", "MultipleInstructionsDisallowed"},
		{"USER 65532", "USR 65532", "unknown instruction"},
	} {
		broken := strings.Replace(string(text), tc.old, tc.broken, 1)
		all := strings.Join(lintDockerfile(t, []byte(broken)), "\n")
		if broken == string(text) || !strings.Contains(strings.ToLower(all), strings.ToLower(tc.want)) {
			t.Errorf("%q for %q: got %q", tc.broken, tc.old, all)
		}
	}
}

// noRegistry says of every image that it is an empty one for Linux: the linter
// need not ask anybody.
type noRegistry struct{}

func (noRegistry) ResolveImageConfig(_ context.Context, ref string, _ sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	config := []byte(`{"os":"linux","architecture":"amd64","rootfs":{"type":"layers"}}`)
	return ref, digest.FromBytes(config), config, nil
}

func lintDockerfile(t *testing.T, text []byte) (problems []string) {
	t.Helper()
	platform := ocispecs.Platform{OS: "linux", Architecture: "amd64"}
	results, err := dockerfile2llb.DockerfileLint(t.Context(), text, dockerfile2llb.ConvertOpt{
		SourceMap:      &llb.SourceMap{Filename: "Dockerfile", Data: text, Definition: &llb.Definition{}},
		TargetPlatform: &platform,
		MetaResolver:   noRegistry{},
		Config: dockerui.Config{
			BuildPlatforms: []ocispecs.Platform{platform},
			LinterConfig:   &linter.Config{ExperimentalAll: true},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range results.Warnings {
		problems = append(problems, w.RuleName+": "+w.Detail)
	}
	if results.Error != nil {
		problems = append(problems, results.Error.Message)
	}
	return problems
}

// TestPinned wants the Go version of go.mod, and no image whose content changes
// from day to day, but for the one that has no versions.
func TestPinned(t *testing.T) {
	text, err := os.ReadFile("../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	module, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	version := regexp.MustCompile(`(?m)^go (\S+)$`).FindSubmatch(module)
	if version == nil {
		t.Fatal("go.mod names no version of Go")
	}
	if from := fmt.Sprintf("golang:%s-", version[1]); !strings.Contains(string(text), from) {
		t.Errorf("the Dockerfile does not build from %s…, go.mod's version", from)
	}
}

func ignored(t *testing.T) []string {
	t.Helper()
	file, err := os.Open("../.dockerignore")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	patterns, err := ignorefile.ReadAll(file)
	if err != nil {
		t.Fatal(err)
	}
	return patterns
}

// TestBuildContext wants in the build's context what the program is made of, and
// nothing that is not for everybody.
func TestBuildContext(t *testing.T) {
	matcher, err := patternmatcher.New(ignored(t))
	if err != nil {
		t.Fatal(err)
	}
	ignores := func(name string) bool {
		ignored, err := matcher.MatchesOrParentMatches(name)
		if err != nil {
			t.Fatal(err)
		}
		return ignored
	}
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "-tags", "nodev", "-f",
		`{{if .Module}}{{if .Module.Main}}{{$d := .ImportPath}}{{range .GoFiles}}{{$d}}/{{.}}{{"\n"}}{{end}}{{range .EmbedFiles}}{{$d}}/{{.}}{{"\n"}}{{end}}{{end}}{{end}}`, "./cmd/gateway")
	cmd.Dir = ".."
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	files := append(strings.Fields(strings.ReplaceAll(string(out), "pushgate/", "")), "go.mod", "go.sum")
	if len(files) < 50 {
		t.Errorf("the program is made of %v only", files)
	}
	for _, name := range files {
		if ignores(name) {
			t.Errorf("the build needs %s, which .dockerignore leaves out", name)
		}
	}
	for _, name := range []string{".git/config", ".env", "bin/gateway", "gateway.yaml", "secret.pem", "tools/go.mod", "deployments/nats/nats.conf",
		"cmd/gateway/serve_test.go", "api/testdata/frames.golden", "test/clients/node_modules/ws/index.js"} {
		if !ignores(name) {
			t.Errorf("%s gets into the build", name)
		}
	}
}
