package tools

import (
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// checkCluster holds the objects against what the overlay is for.
func (m *manifests) checkCluster(r *report, o overlay) {
	for _, want := range []struct {
		what string
		has  int
		is   bool
	}{
		{"HorizontalPodAutoscaler", len(m.scalers), o.scaled},
		{"HTTPRoute", len(m.routes), o.routed},
		{"PodMonitor", len(m.monitors), o.monitored},
		{"PrometheusRule", len(m.rules), o.monitored},
	} {
		if (want.has == 1) != want.is {
			r.addf("there are %d objects of kind %s", want.has, want.what)
		}
	}
	for _, n := range m.namespaces {
		if n.Labels["pod-security.kubernetes.io/enforce"] != "restricted" {
			r.addf("Namespace %s: it takes pods that are not restricted", n.Name)
		}
	}
	m.checkRoutes(r)
}

// checkAround looks at what stands around a Deployment.
func (m *manifests) checkAround(r *report, d *appsv1.Deployment, g *gateway) {
	checkSpread(r, d)
	m.checkBudget(r, d)
	m.checkPolicy(r, d, g)
	m.checkScaler(r, d, g)
	m.checkMonitor(r, d, g)
}

// selects reports whether a selector means a Deployment's pods.
func selects(s *metav1.LabelSelector, d *appsv1.Deployment) bool {
	selector, err := metav1.LabelSelectorAsSelector(s)
	return err == nil && !selector.Empty() && selector.Matches(labels.Set(d.Spec.Template.Labels))
}

// checkSpread wants pods apart, those of one rollout among themselves.
func checkSpread(r *report, d *appsv1.Deployment) {
	for _, key := range []string{corev1.LabelTopologyZone, corev1.LabelHostname} {
		if !slices.ContainsFunc(d.Spec.Template.Spec.TopologySpreadConstraints, func(c corev1.TopologySpreadConstraint) bool {
			return c.TopologyKey == key && c.MaxSkew == 1 && selects(c.LabelSelector, d) && slices.Contains(c.MatchLabelKeys, "pod-template-hash")
		}) {
			r.addf("Deployment %s: its pods are not spread over %s", d.Name, key)
		}
	}
}

// checkBudget wants nodes to be emptied a pod at a time, and to be emptied.
func (m *manifests) checkBudget(r *report, d *appsv1.Deployment) {
	var all []*policyv1.PodDisruptionBudget
	for _, b := range m.budgets {
		if selects(b.Spec.Selector, d) {
			all = append(all, b)
		}
	}
	if len(all) != 1 {
		r.addf("Deployment %s: it has %d PodDisruptionBudgets", d.Name, len(all))
		return
	}
	if n := all[0].Spec.MaxUnavailable; n == nil || n.IntValue() < 1 {
		r.addf("PodDisruptionBudget %s: it lets no pod go", all[0].Name)
	}
}

// checkPolicy wants the public port open, the admin port not, and NATS in reach.
func (m *manifests) checkPolicy(r *report, d *appsv1.Deployment, g *gateway) {
	var all []*networkingv1.NetworkPolicy
	for _, p := range m.policies {
		if selects(&p.Spec.PodSelector, d) {
			all = append(all, p)
		}
	}
	if len(all) != 1 {
		r.addf("Deployment %s: it has %d NetworkPolicies", d.Name, len(all))
		return
	}
	spec := all[0].Spec
	public, scraped := false, false
	for _, rule := range spec.Ingress {
		admin, http := opens(rule.Ports, "admin", g), opens(rule.Ports, "http", g)
		public = public || http && len(rule.From) == 0
		scraped = scraped || admin && len(rule.From) > 0
		if admin && len(rule.From) == 0 {
			r.addf("NetworkPolicy %s: the admin port is open to everybody", all[0].Name)
		}
	}
	if !public {
		r.addf("NetworkPolicy %s: clients cannot reach the public port", all[0].Name)
	}
	if !scraped {
		r.addf("NetworkPolicy %s: Prometheus cannot reach the admin port", all[0].Name)
	}
	if !slices.Contains(spec.PolicyTypes, networkingv1.PolicyTypeEgress) {
		r.addf("NetworkPolicy %s: it says nothing of what goes out", all[0].Name)
	}
	for _, to := range []struct {
		what, label, value string
		port               int
	}{{"NATS", "app.kubernetes.io/name", "nats", 4222}, {"DNS", "k8s-app", "kube-dns", 53}, {"an issuer", "anything", "else", 443}} {
		if !slices.ContainsFunc(spec.Egress, func(rule networkingv1.NetworkPolicyEgressRule) bool {
			return slices.ContainsFunc(rule.Ports, func(p networkingv1.NetworkPolicyPort) bool { return p.Port != nil && p.Port.IntValue() == to.port }) &&
				leadsTo(rule.To, labels.Set{to.label: to.value})
		}) {
			r.addf("NetworkPolicy %s: %s cannot be reached", all[0].Name, to.what)
		}
	}
}

// leadsTo reports whether peers, of which none are all, are pods with just these
// labels, in any namespace.
func leadsTo(peers []networkingv1.NetworkPolicyPeer, pod labels.Set) bool {
	return len(peers) == 0 || slices.ContainsFunc(peers, func(p networkingv1.NetworkPolicyPeer) bool {
		selector, err := metav1.LabelSelectorAsSelector(p.PodSelector)
		return err == nil && p.NamespaceSelector != nil && len(p.NamespaceSelector.MatchLabels) == 0 && selector.Matches(pod)
	})
}

// opens reports whether ports, of which none are all, hold a container's port.
func opens(ports []networkingv1.NetworkPolicyPort, name string, g *gateway) bool {
	number, _ := namedPort(g.Container, intstr.FromString(name))
	return len(ports) == 0 || slices.ContainsFunc(ports, func(p networkingv1.NetworkPolicyPort) bool {
		return p.Port == nil || p.Port.StrVal == name || p.Port.IntVal == number && number != 0
	})
}

// checkScaler wants sessions to decide, and nothing else to set the number.
func (m *manifests) checkScaler(r *report, d *appsv1.Deployment, g *gateway) {
	for _, s := range m.scalers {
		ref := s.Spec.ScaleTargetRef
		if ref.APIVersion != "apps/v1" || ref.Kind != "Deployment" || ref.Name != d.Name {
			r.addf("HorizontalPodAutoscaler %s: it scales %s %s", s.Name, ref.Kind, ref.Name)
		}
		if d.Spec.Replicas != nil {
			r.addf("Deployment %s: each apply sets its replicas back to %d", d.Name, *d.Spec.Replicas)
		}
		if s.Spec.MinReplicas == nil || *s.Spec.MinReplicas < 2 || s.Spec.MaxReplicas <= *s.Spec.MinReplicas {
			r.addf("HorizontalPodAutoscaler %s: it goes from %v to %d", s.Name, s.Spec.MinReplicas, s.Spec.MaxReplicas)
		}
		at := slices.IndexFunc(s.Spec.Metrics, func(x autoscalingv2.MetricSpec) bool {
			return x.Type == autoscalingv2.PodsMetricSourceType && x.Pods != nil && x.Pods.Metric.Name == "pushgate_sessions"
		})
		if at < 0 {
			r.addf("HorizontalPodAutoscaler %s: sessions do not count", s.Name)
			continue
		}
		limit, target := g.set.Limits.Sessions, s.Spec.Metrics[at].Pods.Target.AverageValue
		if target == nil || target.Value()*3/2 > limit {
			r.addf("HorizontalPodAutoscaler %s: with %v sessions a pod, two thirds of the pods cannot hold all: their limit is %d", s.Name, target, limit)
		}
	}
}

func (m *manifests) checkMonitor(r *report, d *appsv1.Deployment, g *gateway) {
	for _, p := range m.monitors {
		if !selects(&p.Spec.Selector, d) {
			r.addf("PodMonitor %s: it does not select the pods", p.Name)
		}
		for _, e := range p.Spec.PodMetricsEndpoints {
			if e.Port == nil || *e.Port != "admin" || e.Path != "/metrics" {
				r.addf("PodMonitor %s: it asks %v %s", p.Name, e.Port, e.Path)
			}
		}
		if len(p.Spec.PodMetricsEndpoints) != 1 {
			r.addf("PodMonitor %s: it has %d endpoints", p.Name, len(p.Spec.PodMetricsEndpoints))
		}
	}
}

// checkRoutes wants each route to lead to a port of a Service, for as long as a
// session lasts.
func (m *manifests) checkRoutes(r *report) {
	for _, route := range m.routes {
		for _, rule := range route.Spec.Rules {
			if t := rule.Timeouts; t == nil || t.Request == nil || *t.Request != "0s" || t.BackendRequest == nil || *t.BackendRequest != "0s" {
				r.addf("HTTPRoute %s: sessions end with its timeouts", route.Name)
			}
			for _, b := range rule.BackendRefs {
				s := byName(m.services, string(b.Name))
				if s == nil || b.Port == nil || !slices.ContainsFunc(s.Spec.Ports, func(p corev1.ServicePort) bool { return p.Port == *b.Port }) {
					r.addf("HTTPRoute %s: it leads to no port of Service %s", route.Name, b.Name)
				}
			}
			if len(rule.BackendRefs) == 0 {
				r.addf("HTTPRoute %s: it leads nowhere", route.Name)
			}
		}
	}
}

// TestComponentChecksFind breaks what only production has.
func TestComponentChecksFind(t *testing.T) {
	production := overlays[len(overlays)-1]
	objects := render(t, production.folder)
	for _, tc := range []struct {
		name  string
		spoil func(*manifests)
		want  string
	}{
		{"no scaler", func(m *manifests) { m.scalers = nil }, "0 objects of kind HorizontalPodAutoscaler"},
		{"no monitor", func(m *manifests) { m.monitors = nil }, "0 objects of kind PodMonitor"},
		{"no rules", func(m *manifests) { m.rules = nil }, "0 objects of kind PrometheusRule"},
		{"no route", func(m *manifests) { m.routes = nil }, "0 objects of kind HTTPRoute"},
		{"namespace", func(m *manifests) { m.namespaces[0].Labels = nil }, "takes pods that are not restricted"},
		{"scales another", func(m *manifests) { m.scalers[0].Spec.ScaleTargetRef.Name = "other" }, "it scales Deployment other"},
		{"replicas", func(m *manifests) { m.deployments[0].Spec.Replicas = new(int32(3)) }, "sets its replicas back to 3"},
		{"one pod", func(m *manifests) { m.scalers[0].Spec.MinReplicas = new(int32(1)) }, "HorizontalPodAutoscaler pushgate: it goes from"},
		{"no sessions", func(m *manifests) { m.scalers[0].Spec.Metrics = m.scalers[0].Spec.Metrics[1:] }, "sessions do not count"},
		{"too many", func(m *manifests) {
			m.scalers[0].Spec.Metrics[0].Pods.Target.AverageValue = new(resource.MustParse("90k"))
		}, "cannot hold all"},
		{"monitors others", func(m *manifests) { m.monitors[0].Spec.Selector.MatchLabels["x"] = "y" }, "does not select the pods"},
		{"monitors the public port", func(m *manifests) { m.monitors[0].Spec.PodMetricsEndpoints[0].Port = new("http") }, "PodMonitor pushgate: it asks"},
		{"monitors nothing", func(m *manifests) { m.monitors[0].Spec.PodMetricsEndpoints = nil }, "it has 0 endpoints"},
		{"route's time", func(m *manifests) { m.routes[0].Spec.Rules[0].Timeouts = nil }, "sessions end with its timeouts"},
		{"route's port", func(m *manifests) { m.routes[0].Spec.Rules[0].BackendRefs[0].Port = new(gatewayv1.PortNumber(8080)) }, "leads to no port"},
		{"route's service", func(m *manifests) { m.routes[0].Spec.Rules[0].BackendRefs[0].Name = "other" }, "leads to no port of Service other"},
		{"no service", func(m *manifests) { m.routes[0].Spec.Rules[0].BackendRefs = nil }, "it leads nowhere"},
		{"keys", func(m *manifests) {
			for i, mount := range m.deployments[0].Spec.Template.Spec.Containers[0].VolumeMounts {
				if mount.Name == "keys" {
					m.deployments[0].Spec.Template.Spec.Containers[0].VolumeMounts[i].MountPath = "/x"
				}
			}
		}, "is in no mounted Secret"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m, _ := decode(objects)
			tc.spoil(m)
			all := strings.Join(m.problems(production), "\n")
			if !strings.Contains(all, tc.want) {
				t.Errorf("want a problem with %q, got:\n%s", tc.want, all)
			}
		})
	}
}
