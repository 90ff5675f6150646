package tools

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
	"github.com/prometheus/prometheus/promql/parser"
	"sigs.k8s.io/yaml"
)

const monitoringFolder = "../deployments/components/monitoring"

// promtool runs Prometheus's own checker, which must be content. What it has to
// say is returned.
func promtool(t *testing.T, stdin io.Reader, args ...string) string {
	t.Helper()
	path, err := exec.LookPath("promtool")
	if err != nil {
		t.Fatal("promtool is missing: apt-get install -y --no-install-recommends prometheus")
	}
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Stdin = stdin
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// prometheusRules are the alerts as they are rendered for production.
func prometheusRules(t *testing.T) *monitoringv1.PrometheusRule {
	t.Helper()
	m, problems := decode(render(t, overlays[len(overlays)-1].folder))
	if len(m.rules) != 1 {
		t.Fatalf("there are %d PrometheusRules: %v", len(m.rules), problems)
	}
	return m.rules[0]
}

// TestRules hands promtool what the operator would hand Prometheus.
func TestRules(t *testing.T) {
	rules := prometheusRules(t)
	text, err := yaml.Marshal(rules.Spec)
	if err != nil {
		t.Fatal(err)
	}
	cases, err := os.ReadFile(filepath.Join(monitoringFolder, "rules_test.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, content := range map[string][]byte{"rules.yml": text, "rules_test.yaml": cases} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	promtool(t, nil, "check", "rules", "--lint=all", "--lint-fatal", filepath.Join(dir, "rules.yml"))
	promtool(t, nil, "test", "rules", filepath.Join(dir, "rules_test.yaml"))

	runbook, err := os.ReadFile("../docs/runbook.md")
	if err != nil {
		t.Fatal(err)
	}
	sections := map[string]bool{}
	for _, heading := range regexp.MustCompile(`(?m)^## (\w+)$`).FindAllSubmatch(runbook, -1) {
		sections[string(heading[1])] = true
	}
	for _, group := range rules.Spec.Groups {
		for _, rule := range group.Rules {
			if !bytes.Contains(cases, []byte("- name: "+rule.Alert+"\n")) || !bytes.Contains(cases, []byte(`{alertname="`+rule.Alert+`"`)) {
				t.Errorf("%s: no test has it fire", rule.Alert)
			}
			if want := "docs/runbook.md#" + strings.ToLower(rule.Alert); rule.Annotations["runbook_url"] != want {
				t.Errorf("%s: its runbook_url is %q, want %q", rule.Alert, rule.Annotations["runbook_url"], want)
			}
			if !sections[rule.Alert] {
				t.Errorf("%s: docs/runbook.md has no such section", rule.Alert)
			}
			delete(sections, rule.Alert)
			if s := rule.Labels["severity"]; s != "critical" && s != "warning" {
				t.Errorf("%s: its severity is %q", rule.Alert, s)
			}
			if rule.Annotations["summary"] == "" || rule.Annotations["description"] == "" {
				t.Errorf("%s: it does not say what is wrong", rule.Alert)
			}
		}
	}
	for name := range sections {
		t.Errorf("docs/runbook.md is about %s, and there is no such alert", name)
	}
}

// TestScrape feeds what is asked of Prometheus with what a gateway gives it.
func TestScrape(t *testing.T) {
	scrape := scrapeGateway(t)
	if out := promtool(t, bytes.NewReader(scrape), "check", "metrics"); out != "" {
		t.Errorf("promtool check metrics: %s", out)
	}

	series := parseScrape(t, scrape)
	for name, expr := range expressions(t) {
		for _, problem := range unmet(expr, series) {
			t.Errorf("%s: %s", name, problem)
		}
	}
	asked := strings.Join(slices.Collect(maps.Values(expressions(t))), "\n")
	for _, l := range series {
		name := l.Get(labels.MetricName)
		if strings.HasPrefix(name, "pushgate_") && !strings.Contains(asked, strings.TrimSuffix(strings.TrimSuffix(name, "_count"), "_sum")) {
			t.Errorf("%s is on no panel and in no alert", name)
		}
	}
	for expr, want := range map[string]string{
		"sum(pushgate_session)":                        "pushgate_session",
		`rate(pushgate_drops_total{cause="none"}[5m])`: "cause",
		"sum by (x) (pushgate_sessions)":               `label "x"`,
		"sum(pushgate_sessions":                        "unclosed",
	} {
		if all := strings.Join(unmet(expr, series), "\n"); !strings.Contains(all, want) {
			t.Errorf("%s: got %q", expr, all)
		}
	}
}

// scrapeGateway has a real gateway do some work, and scrapes it.
func scrapeGateway(t *testing.T) []byte {
	t.Helper()
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "dev")
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "GATEWAY_") })
	cmd.Env = append(cmd.Env, "GATEWAY_LISTEN=127.0.0.1:0", "GATEWAY_ADMIN_LISTEN=127.0.0.1:0", "GATEWAY_ADMIN_DEBUG_LISTEN=",
		"GATEWAY_DEV_NATS_LISTEN=127.0.0.1:0")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		late := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
		defer late.Stop()
		_ = cmd.Wait()
	})
	var metrics, tail, pub string
	lines := bufio.NewScanner(out)
	for metrics == "" || tail == "" || pub == "" {
		if !lines.Scan() {
			t.Fatal("gateway dev does not say where it is")
		}
		line := strings.TrimSpace(lines.Text())
		switch {
		case strings.HasPrefix(line, "metrics"):
			metrics = strings.TrimSpace(strings.TrimPrefix(line, "metrics"))
		case strings.Contains(line, " tail "):
			tail = line
		case strings.HasPrefix(line, path+" pub "):
			pub = line
		}
	}
	// A client that ends after one event, which is published until it has it.
	client := exec.CommandContext(t.Context(), path, append(strings.Fields(tail)[1:], "--count", "1")...)
	if err := client.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- client.Wait() }()
	deadline := time.After(2 * time.Minute)
	for done := false; !done; {
		// On a busy machine NATS may once be too slow for it.
		said, failed := exec.CommandContext(t.Context(), path, strings.Fields(pub)[1:]...).CombinedOutput()
		select {
		case err := <-ended:
			if err != nil {
				t.Fatal(err)
			}
			done = true
		case <-deadline:
			t.Fatalf("the event does not come; it was published last with %v\n%s", failed, said)
		case <-time.After(100 * time.Millisecond):
		}
	}
	response, err := http.Get(metrics)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// parseScrape reads the series as Prometheus would, with the labels that it
// adds.
func parseScrape(t *testing.T, scrape []byte) []labels.Labels {
	t.Helper()
	p, err := textparse.New(scrape, "text/plain; version=0.0.4", labels.NewSymbolTable(), textparse.ParserOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var all []labels.Labels
	for {
		entry, err := p.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		if entry != textparse.EntrySeries {
			continue
		}
		var l labels.Labels
		p.Labels(&l)
		b := labels.NewBuilder(l)
		b.Set("namespace", "push").Set("pod", "a").Set("job", "push/pushgate")
		all = append(all, b.Labels())
	}
}

// expressions are those of the alerts and of the dashboard, by where they stand.
func expressions(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, group := range prometheusRules(t).Spec.Groups {
		for _, rule := range group.Rules {
			all["alert "+rule.Alert] = rule.Expr.String()
		}
	}
	for _, p := range readDashboard(t).Panels {
		for k, target := range p.Targets {
			name := fmt.Sprintf("panel %s, query %d", p.Title, k+1)
			all[name] = strings.NewReplacer("$__rate_interval", "1m", "$namespace", ".*", "$pod", ".*").Replace(target.Expr)
		}
	}
	return all
}

// unmet says what of an expression can never match any of the series.
func unmet(expr string, series []labels.Labels) (problems []string) {
	parsed, err := parser.NewParser(parser.Options{}).ParseExpr(expr)
	if err != nil {
		return []string{err.Error()}
	}
	for _, matchers := range parser.ExtractSelectors(parsed) {
		if !slices.ContainsFunc(series, func(l labels.Labels) bool { return matchesAll(matchers, l) }) {
			problems = append(problems, fmt.Sprintf("a gateway gives nothing for %v", matchers))
		}
	}
	parser.Inspect(parsed, func(node parser.Node, _ []parser.Node) error {
		aggregate, ok := node.(*parser.AggregateExpr)
		if !ok || aggregate.Without {
			return nil
		}
		for _, label := range aggregate.Grouping {
			for _, matchers := range parser.ExtractSelectors(aggregate.Expr) {
				if !slices.ContainsFunc(series, func(l labels.Labels) bool { return matchesAll(matchers, l) && l.Has(label) }) {
					problems = append(problems, fmt.Sprintf("there is no label %q on %v", label, matchers))
				}
			}
		}
		return nil
	})
	return problems
}

func matchesAll(matchers []*labels.Matcher, l labels.Labels) bool {
	return !slices.ContainsFunc(matchers, func(m *labels.Matcher) bool { return !m.Matches(l.Get(m.Name)) })
}
