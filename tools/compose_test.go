package tools

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
	"sigs.k8s.io/yaml"
)

const composeFolder = "../deployments/compose"

func loadCompose(t *testing.T, text []byte) (*types.Project, error) {
	t.Helper()
	dir, err := filepath.Abs(composeFolder)
	if err != nil {
		t.Fatal(err)
	}
	return loader.LoadWithContext(t.Context(), types.ConfigDetails{
		WorkingDir:  dir,
		ConfigFiles: []types.ConfigFile{{Filename: filepath.Join(dir, "compose.yaml"), Content: text}},
		Environment: types.Mapping{"PUSHGATE_SECRET": strings.Repeat("s", 32)},
	})
}

// TestCompose decodes the file as Docker Compose does, against its schema.
func TestCompose(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(composeFolder, "compose.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	project, err := loadCompose(t, text)
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range composeProblems(project) {
		t.Error(problem)
	}
	for _, tc := range []struct{ old, broken, want string }{
		{"read_only: true", "readonly: true", "readonly"},
		{"read_only: true", "read_only: false", "can write to its own disk"},
		{"cap_drop: [ALL]", "cap_drop: []", "has capabilities"},
		{"prom/prometheus:v3.16.0", "prom/prometheus:latest", "is not pinned"},
		{"prom/prometheus:v3.16.0", "prom/prometheus", "is not pinned"},
		{"./gateway.yaml:", "./other.yaml:", "there is no"},
		{`"127.0.0.1:8081:8080"`, `"8081:8080"`, "reached from outside"},
		{"stop_grace_period: 20s", "stop_grace_period: 5s", "a drain may take"},
		{"[nats-1, nats-2, nats-3]", "[nats-1, nats-2, nats-4]", "nats-4"},
		{"  gateway-2:\n    <<: *gateway", "  gateway-2:\n    image: gateway:1.0.0", "1 gateways"},
	} {
		broken := strings.Replace(string(text), tc.old, tc.broken, 1)
		project, err := loadCompose(t, []byte(broken))
		all := fmt.Sprint(err)
		if err == nil {
			all = strings.Join(composeProblems(project), "\n")
		}
		if broken == string(text) || !strings.Contains(all, tc.want) {
			t.Errorf("%q for %q: got %q", tc.broken, tc.old, all)
		}
	}
}

func composeProblems(p *types.Project) []string {
	var r report
	count := map[string]int{}
	for name, s := range p.Services {
		if s.Build == nil && !regexp.MustCompile(`^[^:@]+:v?\d+\.\d+\.\d+(-[a-z]+)?$`).MatchString(s.Image) {
			r.addf("%s: image %q is not pinned", name, s.Image)
		}
		for _, port := range s.Ports {
			if port.HostIP != "127.0.0.1" {
				r.addf("%s: port %s is reached from outside the laptop", name, port.Published)
			}
		}
		for _, v := range s.Volumes {
			if _, err := os.Stat(v.Source); v.Type == types.VolumeTypeBind && err != nil {
				r.addf("%s: there is no %s", name, v.Source)
			}
		}
		if s.Build != nil {
			count["gateways"]++
			checkComposed(&r, name, s)
		}
		if strings.HasPrefix(s.Image, "nats:") {
			count["NATS servers"]++
		}
	}
	for what, n := range map[string]int{"gateways": 2, "NATS servers": 3} {
		if count[what] != n {
			r.addf("there are %d %s", count[what], what)
		}
	}
	return r
}

// checkComposed looks at a gateway.
func checkComposed(r *report, name string, s types.ServiceConfig) {
	if !s.ReadOnly {
		r.addf("%s: it can write to its own disk", name)
	}
	if !slices.Contains(s.CapDrop, "ALL") || !slices.Contains(s.SecurityOpt, "no-new-privileges:true") {
		r.addf("%s: it has capabilities, or can get them", name)
	}
	var set settings
	config, err := os.ReadFile(filepath.Join(composeFolder, "gateway.yaml"))
	if err == nil {
		err = yaml.Unmarshal(config, &set)
	}
	delay, err1 := time.ParseDuration(set.Drain.Delay)
	window, err2 := time.ParseDuration(set.Drain.Window)
	if err := errors.Join(err, err1, err2); err != nil {
		r.addf("gateway.yaml: %v", err)
		return
	}
	if need := delay + window + drainSlack; s.StopGracePeriod == nil || time.Duration(*s.StopGracePeriod) < need {
		r.addf("%s: it is killed after %v, but a drain may take %s", name, s.StopGracePeriod, need)
	}
}

// TestComposeConfig lets the programs judge their files. That three servers of
// NATS and a gateway work with them is proved in test/natsperms.
func TestComposeConfig(t *testing.T) {
	config, err := os.ReadFile(filepath.Join(composeFolder, "gateway.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if out, err := check(t, string(config), "GATEWAY_AUTH_HS256_SECRET="+strings.Repeat("s", 32)); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	promtool(t, nil, "check", "config", filepath.Join(composeFolder, "prometheus.yml"))
}
