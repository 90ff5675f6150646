package tools

import (
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// TestChecksFind breaks one thing at a time.
func TestChecksFind(t *testing.T) {
	type (
		deployment = appsv1.Deployment
		podSpec    = corev1.PodSpec
		container  = corev1.Container
	)
	inDeployment := func(f func(*deployment)) func(*manifests) {
		return func(m *manifests) { f(m.deployments[0]) }
	}
	inPod := func(f func(*podSpec)) func(*manifests) {
		return func(m *manifests) { f(&m.deployments[0].Spec.Template.Spec) }
	}
	inContainer := func(f func(*container)) func(*manifests) {
		return inPod(func(p *podSpec) { f(&p.Containers[0]) })
	}
	inService := func(f func(*corev1.ServiceSpec)) func(*manifests) {
		return func(m *manifests) { f(&m.services[0].Spec) }
	}
	inConfig := func(old, replacement string) func(*manifests) {
		return func(m *manifests) {
			data := m.configMaps[0].Data
			if !strings.Contains(data["config.yaml"], old) {
				t.Errorf("config.yaml does not hold %q", old)
			}
			data["config.yaml"] = strings.Replace(data["config.yaml"], old, replacement, 1)
		}
	}
	env := func(from corev1.EnvVarSource) func(*manifests) {
		return inContainer(func(c *container) { c.Env = []corev1.EnvVar{{Name: "X", ValueFrom: &from}} })
	}
	other := corev1.LocalObjectReference{Name: "other"}
	objects := render(t, "base")
	for _, tc := range []struct {
		name  string
		spoil func(*manifests)
		want  string
	}{
		{"no Deployment", func(m *manifests) { m.deployments = nil }, "there is no Deployment"},
		{"no Service", func(m *manifests) { m.services = nil }, "no Service"},

		{"pod labels", inDeployment(func(d *deployment) { d.Spec.Template.Labels = nil }), "its selector does not match its pods"},
		{"no selector", inDeployment(func(d *deployment) { d.Spec.Selector = nil }), "its selector does not match its pods"},
		{"Service selector", inService(func(s *corev1.ServiceSpec) { s.Selector["x"] = "y" }), "matches 0 Deployments"},
		{"no Service selector", inService(func(s *corev1.ServiceSpec) { s.Selector = nil }), "matches 0 Deployments"},
		{"two Deployments", func(m *manifests) { m.deployments = append(m.deployments, m.deployments[0]) }, "matches 2 Deployments"},

		{"no port", inService(func(s *corev1.ServiceSpec) { s.Ports = nil }), "it has no port"},
		{"target number", inService(func(s *corev1.ServiceSpec) { s.Ports[0].TargetPort = intstr.FromInt32(8080) }), `targetPort "8080" is no named`},
		{"no target", inService(func(s *corev1.ServiceSpec) { s.Ports[0].TargetPort = intstr.IntOrString{} }), `targetPort "0" is no named`},
		{"container port's name", inContainer(func(c *container) { c.Ports[0].Name = "web" }), `targetPort "http" is no named`},
		{"container port's number", inContainer(func(c *container) { c.Ports[1].ContainerPort++ }), "is not the container's port admin"},
		{"listen", inConfig(`":8080"`, `":8081"`), `listen ":8081" is not the container's port http`},
		{"admin on loopback", inConfig(`":9090"`, `"127.0.0.1:9090"`), "cannot be reached from outside"},
		{"admin by default", inConfig(`listen: ":9090"`, ""), "cannot be reached from outside"},

		{"no liveness", inContainer(func(c *container) { c.LivenessProbe = nil }), "the livenessProbe asks nothing"},
		{"no readiness", inContainer(func(c *container) { c.ReadinessProbe.HTTPGet = nil }), "the readinessProbe asks nothing"},
		{"readiness path", inContainer(func(c *container) { c.ReadinessProbe.HTTPGet.Path = "/livez" }), `the readinessProbe asks "/livez"`},
		{"liveness path", inContainer(func(c *container) { c.LivenessProbe.HTTPGet.Path = "/readyz" }), `the livenessProbe asks "/readyz"`},
		{"startup path", inContainer(func(c *container) { c.StartupProbe.HTTPGet.Path = "/" }), `the startupProbe asks "/"`},
		{"public probe", inContainer(func(c *container) { c.LivenessProbe.HTTPGet.Port = intstr.FromString("http") }), "asks port http"},
		{"probe by number", inContainer(func(c *container) { c.LivenessProbe.HTTPGet.Port = intstr.FromInt32(9090) }), "asks port 9090"},

		{"root", inPod(func(p *podSpec) { p.SecurityContext.RunAsNonRoot = nil }), "runAsNonRoot"},
		{"container's word", inContainer(func(c *container) { c.SecurityContext.RunAsNonRoot = new(false) }), "runAsNonRoot"},
		{"user 0", inPod(func(p *podSpec) { p.SecurityContext.RunAsUser = new(int64(0)) }), "a runAsUser other than 0"},
		{"no pod context", inPod(func(p *podSpec) { p.SecurityContext = nil }), "seccompProfile"},
		{"seccomp", inPod(func(p *podSpec) { p.SecurityContext.SeccompProfile.Type = "Unconfined" }), "seccompProfile"},
		{"no container context", inContainer(func(c *container) { c.SecurityContext = nil }), "readOnlyRootFilesystem"},
		{"file system", inContainer(func(c *container) { c.SecurityContext.ReadOnlyRootFilesystem = new(false) }), "readOnlyRootFilesystem"},
		{"escalation", inContainer(func(c *container) { c.SecurityContext.AllowPrivilegeEscalation = nil }), "allowPrivilegeEscalation"},
		{"privileged", inContainer(func(c *container) { c.SecurityContext.Privileged = new(true) }), "privileged"},
		{"capabilities kept", inContainer(func(c *container) { c.SecurityContext.Capabilities.Drop = nil }), "drop ALL"},
		{"capability added", inContainer(func(c *container) { c.SecurityContext.Capabilities.Add = []corev1.Capability{"NET_RAW"} }), "add none"},
		{"init container", inPod(func(p *podSpec) { p.InitContainers = []container{{Name: "init"}} }), "container init: its securityContext"},
		{"host network", inPod(func(p *podSpec) { p.HostNetwork = true }), "shares a namespace"},
		{"less requested", inContainer(func(c *container) { c.Resources.Requests[corev1.ResourceMemory] = resource.MustParse("1Mi") }), "not what it requests"},
		{"CPU not requested", inContainer(func(c *container) { delete(c.Resources.Requests, corev1.ResourceCPU) }), "it requests no CPU"},
		{"CPU limited", inContainer(func(c *container) { c.Resources.Limits[corev1.ResourceCPU] = resource.MustParse("1") }), "its CPU is limited"},
		{"GOMEMLIMIT", inContainer(func(c *container) { c.Env = []corev1.EnvVar{{Name: "GOMEMLIMIT", Value: "1GiB"}} }), "GOMEMLIMIT is set by hand"},
		{"preStop", inContainer(func(c *container) { c.Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{}} }), "there is a preStop hook"},
		{"no startup", inContainer(func(c *container) { c.StartupProbe = nil }), "the startupProbe asks nothing"},
		{"no spread", inPod(func(p *podSpec) { p.TopologySpreadConstraints = nil }), "pods are not spread over topology.kubernetes.io/zone"},
		{"spread of others", inPod(func(p *podSpec) { p.TopologySpreadConstraints[0].LabelSelector.MatchLabels["x"] = "y" }), "pods are not spread over topology.kubernetes.io/zone"},
		{"no budget", func(m *manifests) { m.budgets = nil }, "0 PodDisruptionBudgets"},
		{"budget of others", func(m *manifests) { m.budgets[0].Spec.Selector.MatchLabels["x"] = "y" }, "0 PodDisruptionBudgets"},
		{"budget that stops", func(m *manifests) { m.budgets[0].Spec.MaxUnavailable = new(intstr.FromInt32(0)) }, "lets no pod go"},
		{"no policy", func(m *manifests) { m.policies = nil }, "0 NetworkPolicies"},
		{"admin for all", func(m *manifests) { m.policies[0].Spec.Ingress[1].From = nil }, "the admin port is open to everybody"},
		{"admin with all", func(m *manifests) { m.policies[0].Spec.Ingress[0].Ports = nil }, "the admin port is open to everybody"},
		{"admin for nobody", func(m *manifests) { m.policies[0].Spec.Ingress = m.policies[0].Spec.Ingress[:1] }, "Prometheus cannot reach"},
		{"public for some", func(m *manifests) { m.policies[0].Spec.Ingress = m.policies[0].Spec.Ingress[1:] }, "clients cannot reach"},
		{"no egress", func(m *manifests) { m.policies[0].Spec.PolicyTypes = m.policies[0].Spec.PolicyTypes[:1] }, "says nothing of what goes out"},
		{"NATS cut off", func(m *manifests) { m.policies[0].Spec.Egress = m.policies[0].Spec.Egress[:1] }, "NATS cannot be reached"},
		{"sessions by default", inConfig("sessions: 50000", ""), "limits.sessions 0"},
		{"too many sessions", inConfig("sessions: 50000", "sessions: 100000"), "limits.sessions 100000"},
		{"another NATS", func(m *manifests) { m.policies[0].Spec.Egress[1].To[0].PodSelector.MatchLabels["x"] = "y" }, "NATS cannot be reached"},
		{"alone secret", inContainer(func(c *container) { c.VolumeMounts[1].SubPath = "hs256" }), "it would never change"},
		{"secret's key", inConfig("secret/hs256", "secret/other"), "Secret pushgate has no key other"},
		{"memory", inContainer(func(c *container) { c.Resources = corev1.ResourceRequirements{} }), "its memory limit 0 is none"},

		{"grace", inPod(func(p *podSpec) { p.TerminationGracePeriodSeconds = new(int64(44)) }), "is 44s, but a drain may take 45s"},
		{"grace by default", inPod(func(p *podSpec) { p.TerminationGracePeriodSeconds = nil }), "is 30s, but"},
		{"longer delay", inConfig("delay: 5s", "delay: 11s"), "a drain may take 51s"},
		{"longer window", inConfig("window: 30s", "window: 1m"), "a drain may take 1m15s"},
		{"drain by default", func(m *manifests) {
			inConfig("delay: 5s", "")(m)
			inConfig("window: 30s", "")(m)
			inPod(func(p *podSpec) { p.TerminationGracePeriodSeconds = new(int64(44)) })(m)
		}, "a drain may take 45s"},
		{"no duration", inConfig("delay: 5s", "delay: soon"), "is no two durations"},

		{"service account", func(m *manifests) { m.serviceAccounts = nil }, "ServiceAccount pushgate does not exist"},
		{"ConfigMap", inPod(func(p *podSpec) { p.Volumes[0].ConfigMap.Name = "other" }), "ConfigMap other does not exist"},
		{"ConfigMap's key", inContainer(func(c *container) { c.VolumeMounts[0].SubPath = "other.yaml" }), "has no key other.yaml"},
		{"Secret", inPod(func(p *podSpec) { p.Volumes[1].Secret.SecretName = "other" }), "Secret other does not exist"},
		{"image pull Secret", inPod(func(p *podSpec) { p.ImagePullSecrets = []corev1.LocalObjectReference{other} }), "Secret other does not exist"},
		{"environment's ConfigMap", env(corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: other}}), "ConfigMap other does not exist"},
		{"environment's Secret", env(corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: other}}), "Secret other does not exist"},
		{"all variables", inContainer(func(c *container) {
			c.EnvFrom = []corev1.EnvFromSource{{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: other}}}
		}), "Secret other does not exist"},
		{"projected", inPod(func(p *podSpec) {
			p.Volumes = append(p.Volumes, corev1.Volume{Name: "all", VolumeSource: corev1.VolumeSource{
				Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
					{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: other}},
				}},
			}})
		}), "ConfigMap other does not exist"},
		{"volume", inPod(func(p *podSpec) { p.Volumes = p.Volumes[:1] }), "there is no volume secret"},
		{"secret's file", inConfig("/etc/pushgate/secret/", "/etc/pushgate/secrets/"), "is in no mounted Secret"},

		{"container's name", inContainer(func(c *container) { c.Name = "main" }), "no container is named gateway"},
		{"dev", inContainer(func(c *container) { c.Args[0] = "dev" }), "its command is not"},
		{"config path", inContainer(func(c *container) { c.Args[2] = "/etc/config.yaml" }), "no ConfigMap is mounted that holds /etc/config.yaml"},
		{"no YAML", inConfig("drain:", "{"), "yaml"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m, _ := decode(objects)
			tc.spoil(m)
			all := strings.Join(m.problems(overlays[0]), "\n")
			if !strings.Contains(all, tc.want) {
				t.Errorf("want a problem with %q, got:\n%s", tc.want, all)
			}
		})
	}
}
