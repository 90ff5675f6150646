// Package tools holds what the build needs beside the gateway: linters, and
// these tests of the manifests and the image.
package tools

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// externalSecrets are made by the operator, with these keys.
var externalSecrets = map[string][]string{
	"pushgate":      {"hs256"},
	"pushgate-nats": {"gateway.nk", "ca.crt"},
	"pushgate-keys": {"tokens.pem"},
}

// overlay is a folder that operators render, and what is in it beside what is
// in each.
type overlay struct {
	folder                    string
	scaled, monitored, routed bool
}

var overlays = []overlay{
	{folder: "base"},
	{folder: "overlays/dev"},
	{folder: "overlays/production", scaled: true, monitored: true, routed: true},
}

const (
	// drainSlack is what a gateway may take on top of drain.delay and
	// drain.window, until the last client has answered.
	drainSlack = 10 * time.Second
)

// manifests are the decoded objects of one render.
type manifests struct {
	deployments     []*appsv1.Deployment
	services        []*corev1.Service
	configMaps      []*corev1.ConfigMap
	secrets         []*corev1.Secret
	serviceAccounts []*corev1.ServiceAccount
	namespaces      []*corev1.Namespace
	budgets         []*policyv1.PodDisruptionBudget
	policies        []*networkingv1.NetworkPolicy
	scalers         []*autoscalingv2.HorizontalPodAutoscaler
	routes          []*gatewayv1.HTTPRoute
	monitors        []*monitoringv1.PodMonitor
	rules           []*monitoringv1.PrometheusRule
}

// render does what kubectl kustomize does, without kubectl.
func render(t *testing.T, folder string) [][]byte {
	t.Helper()
	all, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), "../deployments/"+folder)
	if err != nil {
		t.Fatal(err)
	}
	var objects [][]byte
	for _, r := range all.Resources() {
		object, err := r.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		objects = append(objects, object)
	}
	return objects
}

// decode is as strict as the API server: it knows each field, in its case.
func decode(objects [][]byte) (*manifests, []string) {
	m := &manifests{}
	var problems []string
	for _, object := range objects {
		if err := m.add(object); err != nil {
			problems = append(problems, err.Error())
		}
	}
	return m, problems
}

func (m *manifests) add(object []byte) error {
	var head struct {
		metav1.TypeMeta `json:",inline"`
		Metadata        struct{ Name string }
	}
	if err := json.Unmarshal(object, &head); err != nil {
		return err
	}
	name := head.Kind + " " + head.Metadata.Name
	switch kind := head.APIVersion + " " + head.Kind; kind {
	case "apps/v1 Deployment":
		return addTo(&m.deployments, name, object)
	case "v1 Service":
		return addTo(&m.services, name, object)
	case "v1 ConfigMap":
		return addTo(&m.configMaps, name, object)
	case "v1 Secret":
		return addTo(&m.secrets, name, object)
	case "v1 ServiceAccount":
		return addTo(&m.serviceAccounts, name, object)
	case "v1 Namespace":
		return addTo(&m.namespaces, name, object)
	case "policy/v1 PodDisruptionBudget":
		return addTo(&m.budgets, name, object)
	case "networking.k8s.io/v1 NetworkPolicy":
		return addTo(&m.policies, name, object)
	case "autoscaling/v2 HorizontalPodAutoscaler":
		return addTo(&m.scalers, name, object)
	case "gateway.networking.k8s.io/v1 HTTPRoute":
		return addTo(&m.routes, name, object)
	case "monitoring.coreos.com/v1 PodMonitor":
		return addTo(&m.monitors, name, object)
	case "monitoring.coreos.com/v1 PrometheusRule":
		return addTo(&m.rules, name, object)
	default:
		return fmt.Errorf("%s: kind %q is not known to this test: add it, and what must hold for it", name, kind)
	}
}

func addTo[T any](list *[]*T, name string, object []byte) error {
	one := new(T)
	strict, err := kjson.UnmarshalStrict(object, one)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if len(strict) > 0 {
		return fmt.Errorf("%s: %w", name, strict[0])
	}
	*list = append(*list, one)
	return nil
}

// report collects problems.
type report []string

func (r *report) addf(format string, a ...any) { *r = append(*r, fmt.Sprintf(format, a...)) }

// problems runs every check.
func (m *manifests) problems(o overlay) []string {
	var r report
	m.checkCluster(&r, o)
	if len(m.deployments) == 0 || len(m.services) == 0 {
		r.addf("there is no Deployment or no Service")
	}
	for _, s := range m.services {
		m.checkService(&r, s)
	}
	for _, d := range m.deployments {
		checkSelector(&r, d)
		checkSecurity(&r, d)
		checkMemory(&r, d)
		m.checkReferences(&r, d)
		g, err := m.gatewayOf(d)
		if err != nil {
			r.addf("Deployment %s: %v", d.Name, err)
			continue
		}
		checkListen(&r, g)
		checkProbes(&r, g)
		checkSecretFiles(&r, g)
		checkGrace(&r, g)
		checkRoom(&r, g)
		m.checkAround(&r, d, g)
	}
	return r
}

func TestManifests(t *testing.T) {
	for _, o := range overlays {
		m, problems := decode(render(t, o.folder))
		for _, problem := range append(problems, m.problems(o)...) {
			t.Errorf("%s: %s", o.folder, problem)
		}
	}
}

// TestDecodeFinds breaks the rendered text.
func TestDecodeFinds(t *testing.T) {
	objects := render(t, "base")
	for _, tc := range []struct{ old, broken, want string }{
		{`"replicas":`, `"replica":`, `unknown field "spec.replica"`},
		{`"replicas":`, `"Replicas":`, `unknown field "spec.Replicas"`},
		{`"replicas":2`, `"replicas":"two"`, "Deployment pushgate: "},
		{`"targetPort":`, `"target":`, `unknown field "spec.ports[0].target"`},
		{`"kind":"Service"`, `"kind":"Servise"`, `kind "v1 Servise" is not known`},
		{`"apps/v1"`, `"apps/v1beta1"`, `kind "apps/v1beta1 Deployment" is not known`},
	} {
		found := false
		var broken [][]byte
		for _, object := range objects {
			found = found || strings.Contains(string(object), tc.old)
			broken = append(broken, []byte(strings.Replace(string(object), tc.old, tc.broken, 1)))
		}
		_, problems := decode(broken)
		if !found || len(problems) != 1 || !strings.Contains(problems[0], tc.want) {
			t.Errorf("%s for %s: found %t, problems %q", tc.broken, tc.old, found, problems)
		}
	}
}
