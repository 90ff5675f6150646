package tools

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "write the dashboard anew")

// dashboard is as much of Grafana's format as ours needs.
type dashboard struct {
	UID           string         `json:"uid"`
	Title         string         `json:"title"`
	Tags          []string       `json:"tags"`
	SchemaVersion int            `json:"schemaVersion"`
	Refresh       string         `json:"refresh"`
	Time          map[string]any `json:"time"`
	GraphTooltip  int            `json:"graphTooltip"`
	Templating    struct {
		List []map[string]any `json:"list"`
	} `json:"templating"`
	Panels []panel `json:"panels"`
}

type panel struct {
	ID          int            `json:"id"`
	Type        string         `json:"type"`
	Title       string         `json:"title"`
	GridPos     gridPos        `json:"gridPos"`
	Datasource  map[string]any `json:"datasource,omitempty"`
	FieldConfig map[string]any `json:"fieldConfig,omitempty"`
	Options     map[string]any `json:"options,omitempty"`
	Targets     []target       `json:"targets,omitempty"`
}

type gridPos struct {
	H int `json:"h"`
	W int `json:"w"`
	X int `json:"x"`
	Y int `json:"y"`
}

type target struct {
	RefID  string `json:"refId"`
	Expr   string `json:"expr"`
	Legend string `json:"legendFormat"`
}

// row is a line of panels.yaml.
type row struct {
	Row    string
	Panels []struct {
		Title, Unit, Show string
		Queries           []string
	}
}

// TestDashboard wants dashboard.json to be what panels.yaml says.
func TestDashboard(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(monitoringFolder, "panels.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var rows []row
	if err := yaml.UnmarshalStrict(text, &rows); err != nil {
		t.Fatal(err)
	}
	made, err := json.MarshalIndent(draw(t, rows), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	made = append(made, '\n')
	file := filepath.Join(monitoringFolder, "dashboard.json")
	if *update {
		if err := os.WriteFile(file, made, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if is, err := os.ReadFile(file); err != nil || !bytes.Equal(is, made) {
		t.Errorf("dashboard.json is not what panels.yaml says (%v): go -C tools test -run TestDashboard -update", err)
	}
}

func readDashboard(t *testing.T) *dashboard {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(monitoringFolder, "dashboard.json"))
	if err != nil {
		t.Fatal(err)
	}
	var d dashboard
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	if len(d.Panels) < 20 {
		t.Errorf("the dashboard has %d panels", len(d.Panels))
	}
	return &d
}

// The screen is 24 wide.
const (
	screen      = 24
	graphWidth  = screen / 3
	graphHeight = 8
	statWidth   = screen / 6
	statHeight  = 4
)

var datasource = map[string]any{"type": "prometheus", "uid": "${datasource}"}

// draw lays the panels out, from left to right and from top to bottom.
func draw(t *testing.T, rows []row) *dashboard {
	t.Helper()
	d := &dashboard{
		UID: "pushgate", Title: "Pushgate", Tags: []string{"pushgate"}, SchemaVersion: 39, Refresh: "15s",
		Time: map[string]any{"from": "now-1h", "to": "now"}, GraphTooltip: 1,
	}
	d.Templating.List = []map[string]any{
		{"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"},
		choice("namespace", "Namespace", "label_values(pushgate_nats_connected, namespace)"),
		choice("pod", "Pods", `label_values(pushgate_nats_connected{namespace=~"$namespace"}, pod)`),
	}
	y := 0
	for _, r := range rows {
		d.Panels = append(d.Panels, panel{ID: len(d.Panels) + 1, Type: "row", Title: r.Row, GridPos: gridPos{H: 1, W: screen, Y: y}})
		y++
		x, high := 0, 0
		for _, p := range r.Panels {
			made := panel{
				ID: len(d.Panels) + 1, Type: "timeseries", Title: p.Title, Datasource: datasource,
				FieldConfig: map[string]any{"defaults": map[string]any{"unit": p.Unit, "min": 0}, "overrides": []any{}},
				GridPos:     gridPos{H: graphHeight, W: graphWidth},
			}
			if p.Show == "stat" {
				made.Type, made.GridPos = "stat", gridPos{H: statHeight, W: statWidth}
				made.Options = map[string]any{"graphMode": "area", "reduceOptions": map[string]any{"calcs": []string{"lastNotNull"}}}
			}
			if x+made.GridPos.W > screen {
				x, y, high = 0, y+high, 0
			}
			made.GridPos.X, made.GridPos.Y = x, y
			x, high = x+made.GridPos.W, max(high, made.GridPos.H)
			for k, q := range p.Queries {
				legend, expr, ok := strings.Cut(q, ": ")
				if !ok {
					t.Errorf("panel %s: %q has no colon", p.Title, q)
				}
				made.Targets = append(made.Targets, target{string(rune('A' + k)), withPods(expr), legend})
			}
			if len(made.Targets) == 0 || p.Title == "" || p.Unit == "" {
				t.Errorf("panel %q has no queries, no title or no unit", p.Title)
			}
			d.Panels = append(d.Panels, made)
		}
		y += high
	}
	return d
}

// choice is a list above the panels.
func choice(name, label, query string) map[string]any {
	return map[string]any{
		"name": name, "label": label, "type": "query", "datasource": datasource, "query": query, "refresh": 2,
		"includeAll": true, "multi": true, "allValue": ".*", "current": map[string]any{"text": "All", "value": "$__all"},
	}
}

// withPods writes the matchers of what was chosen.
func withPods(expr string) string {
	return regexp.MustCompile(`\{pods\b`).ReplaceAllString(expr, `{namespace=~"$$namespace", pod=~"$$pod"`)
}
