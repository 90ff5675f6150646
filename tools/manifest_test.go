// Package tools holds what the build needs beside the gateway: linters, and
// these tests of the manifests and the image.
package tools

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

const (
	// externalSecret is made by the operator, with the key hs256.
	externalSecret = "pushgate"
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
}

// render does what kubectl kustomize does, without kubectl.
func render(t *testing.T) [][]byte {
	t.Helper()
	all, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), "../deployments/base")
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
func (m *manifests) problems() []string {
	var r report
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
		checkSecretFile(&r, g)
		checkGrace(&r, g)
	}
	return r
}

// gateway is the container that runs the gateway, and what it will read.
type gateway struct {
	*corev1.Container
	pod    *corev1.PodSpec
	config string // the text of its configuration file
	set    settings
}

// settings are the keys of the configuration that manifests must agree with.
type settings struct {
	Listen string
	Admin  struct{ Listen string }
	Auth   struct {
		HS256SecretFile string `json:"hs256_secret_file"`
	}
	Drain struct{ Delay, Window string }
}

func (m *manifests) gatewayOf(d *appsv1.Deployment) (*gateway, error) {
	pod := &d.Spec.Template.Spec
	at := slices.IndexFunc(pod.Containers, func(c corev1.Container) bool { return c.Name == "gateway" })
	if at < 0 {
		return nil, fmt.Errorf("no container is named gateway")
	}
	g := &gateway{Container: &pod.Containers[at], pod: pod}
	if len(g.Command) > 0 || len(g.Args) != 3 || g.Args[0] != "serve" || g.Args[1] != "--config" {
		return nil, fmt.Errorf("its command is not the image's own with serve --config FILE: %q %q", g.Command, g.Args)
	}
	var err error
	if g.config, err = m.mounted(g, g.Args[2]); err != nil {
		return nil, err
	}
	// The gateway's own defaults.
	g.set.Listen, g.set.Admin.Listen = ":8080", "127.0.0.1:9090"
	g.set.Drain.Delay, g.set.Drain.Window = "5s", "30s"
	if err := yaml.Unmarshal([]byte(g.config), &g.set); err != nil {
		return nil, fmt.Errorf("%s: %w", g.Args[2], err)
	}
	return g, nil
}

// mounted finds the text of a file that a ConfigMap puts into the container.
func (m *manifests) mounted(g *gateway, file string) (string, error) {
	for _, mount := range g.VolumeMounts {
		where, key := file, mount.SubPath
		if key == "" {
			where, key = path.Split(file)
		}
		source := volume(g.pod, mount.Name)
		if path.Clean(mount.MountPath) != path.Clean(where) || source == nil || source.ConfigMap == nil {
			continue
		}
		if c := byName(m.configMaps, source.ConfigMap.Name); c != nil && c.Data[key] != "" {
			return c.Data[key], nil
		}
	}
	return "", fmt.Errorf("no ConfigMap is mounted that holds %s", file)
}

func volume(pod *corev1.PodSpec, name string) *corev1.Volume {
	at := slices.IndexFunc(pod.Volumes, func(v corev1.Volume) bool { return v.Name == name })
	if at < 0 {
		return nil
	}
	return &pod.Volumes[at]
}

func byName[T interface{ GetName() string }](all []T, name string) T {
	var none T
	for _, one := range all {
		if one.GetName() == name {
			return one
		}
	}
	return none
}

func checkSelector(r *report, d *appsv1.Deployment) {
	selector, err := metav1.LabelSelectorAsSelector(d.Spec.Selector)
	if err != nil || selector.Empty() || !selector.Matches(labels.Set(d.Spec.Template.Labels)) {
		r.addf("Deployment %s: its selector does not match its pods' labels %v", d.Name, d.Spec.Template.Labels)
	}
}

// checkService wants exactly one Deployment behind the Service, and each
// target to be a named port there.
func (m *manifests) checkService(r *report, s *corev1.Service) {
	var behind []*appsv1.Deployment
	for _, d := range m.deployments {
		if len(s.Spec.Selector) > 0 && labels.SelectorFromSet(s.Spec.Selector).Matches(labels.Set(d.Spec.Template.Labels)) {
			behind = append(behind, d)
		}
	}
	if len(behind) != 1 {
		r.addf("Service %s: its selector %v matches %d Deployments", s.Name, s.Spec.Selector, len(behind))
		return
	}
	if len(s.Spec.Ports) == 0 {
		r.addf("Service %s: it has no port", s.Name)
	}
	for _, port := range s.Spec.Ports {
		found := false
		for i := range behind[0].Spec.Template.Spec.Containers {
			_, ok := namedPort(&behind[0].Spec.Template.Spec.Containers[i], port.TargetPort)
			found = found || ok
		}
		if !found {
			r.addf("Service %s: targetPort %q is no named port of a container", s.Name, port.TargetPort.String())
		}
	}
}

func namedPort(c *corev1.Container, port intstr.IntOrString) (number int32, ok bool) {
	for _, p := range c.Ports {
		if port.Type == intstr.String && p.Name == port.StrVal && p.Name != "" {
			return p.ContainerPort, true
		}
	}
	return 0, false
}

// checkListen holds the named ports against the addresses that the gateway
// listens on.
func checkListen(r *report, g *gateway) {
	for _, want := range []struct{ key, address, port string }{
		{"listen", g.set.Listen, "http"},
		{"admin.listen", g.set.Admin.Listen, "admin"},
	} {
		host, text, err := net.SplitHostPort(want.address)
		if ip := net.ParseIP(host); err != nil || host == "localhost" || ip.IsLoopback() {
			r.addf("%s %q cannot be reached from outside the pod", want.key, want.address)
		}
		number, ok := namedPort(g.Container, intstr.FromString(want.port))
		if !ok || strconv.Itoa(int(number)) != text {
			r.addf("%s %q is not the container's port %s, %d", want.key, want.address, want.port, number)
		}
	}
}

func checkProbes(r *report, g *gateway) {
	for _, want := range []struct {
		name, path string
		probe      *corev1.Probe
		optional   bool
	}{
		{"startupProbe", "/livez", g.StartupProbe, true},
		{"livenessProbe", "/livez", g.LivenessProbe, false},
		{"readinessProbe", "/readyz", g.ReadinessProbe, false},
	} {
		switch {
		case want.probe == nil && want.optional:
		case want.probe == nil || want.probe.HTTPGet == nil:
			r.addf("the %s asks nothing over HTTP", want.name)
		case want.probe.HTTPGet.Path != want.path:
			r.addf("the %s asks %q, not %s", want.name, want.probe.HTTPGet.Path, want.path)
		case want.probe.HTTPGet.Port != intstr.FromString("admin"):
			r.addf("the %s asks port %s, not admin", want.name, want.probe.HTTPGet.Port.String())
		}
	}
}

// checkSecretFile wants the file of the secret to come from a Secret.
func checkSecretFile(r *report, g *gateway) {
	file := g.set.Auth.HS256SecretFile
	from := slices.ContainsFunc(g.VolumeMounts, func(mount corev1.VolumeMount) bool {
		source := volume(g.pod, mount.Name)
		return source != nil && source.Secret != nil && strings.HasPrefix(file, mount.MountPath+"/")
	})
	if file != "" && !from {
		r.addf("auth.hs256_secret_file %q is in no mounted Secret", file)
	}
}

// checkGrace wants the kubelet to wait until a drain is through.
func checkGrace(r *report, g *gateway) {
	delay, err1 := time.ParseDuration(g.set.Drain.Delay)
	window, err2 := time.ParseDuration(g.set.Drain.Window)
	if err1 != nil || err2 != nil {
		r.addf("drain %+v is no two durations", g.set.Drain)
		return
	}
	grace := corev1.DefaultTerminationGracePeriodSeconds * time.Second
	if s := g.pod.TerminationGracePeriodSeconds; s != nil {
		grace = time.Duration(*s) * time.Second
	}
	if need := delay + window + drainSlack; grace < need {
		r.addf("terminationGracePeriodSeconds is %s, but a drain may take %s", grace, need)
	}
}

func containers(d *appsv1.Deployment) []corev1.Container {
	return slices.Concat(d.Spec.Template.Spec.InitContainers, d.Spec.Template.Spec.Containers)
}

func checkSecurity(r *report, d *appsv1.Deployment) {
	spec := &d.Spec.Template.Spec
	if spec.HostNetwork || spec.HostPID || spec.HostIPC {
		r.addf("Deployment %s: it shares a namespace with its host", d.Name)
	}
	pod := spec.SecurityContext
	if pod == nil {
		pod = &corev1.PodSecurityContext{}
	}
	for _, c := range containers(d) {
		s := c.SecurityContext
		if s == nil {
			s = &corev1.SecurityContext{}
		}
		caps := s.Capabilities
		if caps == nil {
			caps = &corev1.Capabilities{}
		}
		// The container's own word wins over the pod's.
		seccomp := s.SeccompProfile
		if seccomp == nil {
			seccomp = pod.SeccompProfile
		}
		user := first(s.RunAsUser, pod.RunAsUser)
		for _, rule := range []struct {
			ok   bool
			want string
		}{
			{is(first(s.RunAsNonRoot, pod.RunAsNonRoot), true), "runAsNonRoot: true"},
			{user == nil || *user != 0, "a runAsUser other than 0"},
			{is(s.ReadOnlyRootFilesystem, true), "readOnlyRootFilesystem: true"},
			{is(s.AllowPrivilegeEscalation, false), "allowPrivilegeEscalation: false"},
			{!is(s.Privileged, true), "privileged: false"},
			{slices.Contains(caps.Drop, "ALL") && len(caps.Add) == 0, "capabilities that drop ALL and add none"},
			{seccomp != nil && seccomp.Type == corev1.SeccompProfileTypeRuntimeDefault, "seccompProfile RuntimeDefault"},
		} {
			if !rule.ok {
				r.addf("container %s: its securityContext has not %s", c.Name, rule.want)
			}
		}
	}
}

func first[T any](values ...*T) *T {
	for _, v := range values {
		if v != nil {
			return v
		}
	}
	return nil
}

func is(value *bool, want bool) bool { return value != nil && *value == want }

func checkMemory(r *report, d *appsv1.Deployment) {
	for _, c := range containers(d) {
		if c.Resources.Limits.Memory().IsZero() && c.Resources.Requests.Memory().IsZero() {
			r.addf("container %s: it has neither a memory limit nor a request", c.Name)
		}
	}
}

// checkReferences wants everything that a pod names to exist.
func (m *manifests) checkReferences(r *report, d *appsv1.Deployment) {
	pod := &d.Spec.Template.Spec
	if s := pod.ServiceAccountName; s != "" && byName(m.serviceAccounts, s) == nil {
		r.addf("ServiceAccount %s does not exist", s)
	}
	for _, s := range pod.ImagePullSecrets {
		m.needSecret(r, s.Name)
	}
	for _, v := range pod.Volumes {
		if c := v.ConfigMap; c != nil {
			m.needConfigMap(r, c.Name, keysOf(c.Items)...)
		}
		if s := v.Secret; s != nil {
			m.needSecret(r, s.SecretName)
		}
		if v.Projected == nil {
			continue
		}
		for _, source := range v.Projected.Sources {
			if c := source.ConfigMap; c != nil {
				m.needConfigMap(r, c.Name, keysOf(c.Items)...)
			}
			if s := source.Secret; s != nil {
				m.needSecret(r, s.Name)
			}
		}
	}
	for _, c := range containers(d) {
		for _, from := range c.EnvFrom {
			if ref := from.ConfigMapRef; ref != nil {
				m.needConfigMap(r, ref.Name)
			}
			if ref := from.SecretRef; ref != nil {
				m.needSecret(r, ref.Name)
			}
		}
		for _, env := range c.Env {
			if env.ValueFrom == nil {
				continue
			}
			if ref := env.ValueFrom.ConfigMapKeyRef; ref != nil {
				m.needConfigMap(r, ref.Name, ref.Key)
			}
			if ref := env.ValueFrom.SecretKeyRef; ref != nil {
				m.needSecret(r, ref.Name)
			}
		}
		for _, mount := range c.VolumeMounts {
			source := volume(pod, mount.Name)
			if source == nil {
				r.addf("container %s: there is no volume %s", c.Name, mount.Name)
			} else if source.ConfigMap != nil && mount.SubPath != "" && len(source.ConfigMap.Items) == 0 {
				m.needConfigMap(r, source.ConfigMap.Name, mount.SubPath)
			}
		}
	}
}

func keysOf(items []corev1.KeyToPath) []string {
	var keys []string
	for _, item := range items {
		keys = append(keys, item.Key)
	}
	return keys
}

func (m *manifests) needConfigMap(r *report, name string, keys ...string) {
	c := byName(m.configMaps, name)
	if c == nil {
		r.addf("ConfigMap %s does not exist", name)
		return
	}
	for _, key := range keys {
		if _, ok := c.Data[key]; !ok {
			r.addf("ConfigMap %s has no key %s", name, key)
		}
	}
}

func (m *manifests) needSecret(r *report, name string) {
	if name != externalSecret && byName(m.secrets, name) == nil {
		r.addf("Secret %s does not exist, and is not the one that operators make", name)
	}
}

func TestManifests(t *testing.T) {
	m, problems := decode(render(t))
	for _, problem := range append(problems, m.problems()...) {
		t.Error(problem)
	}
}

// TestDecodeFinds breaks the rendered text.
func TestDecodeFinds(t *testing.T) {
	objects := render(t)
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
	objects := render(t)
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
		{"memory", inContainer(func(c *container) { c.Resources = corev1.ResourceRequirements{} }), "neither a memory limit"},

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
			all := strings.Join(m.problems(), "\n")
			if !strings.Contains(all, tc.want) {
				t.Errorf("want a problem with %q, got:\n%s", tc.want, all)
			}
		})
	}
}

// TestGatewayTakesItsConfig lets the gateway itself judge the file.
func TestGatewayTakesItsConfig(t *testing.T) {
	m, _ := decode(render(t))
	for _, d := range m.deployments {
		g, err := m.gatewayOf(d)
		if err != nil {
			t.Fatal(err)
		}
		if out, err := g.check(t, g.config); err != nil {
			t.Errorf("Deployment %s: %v\n%s", d.Name, err, out)
		}
		if out, err := g.check(t, g.config+"\nnonsense: 1\n"); err == nil || !strings.Contains(out, "nonsense") {
			t.Errorf("an unknown key passes: %v\n%s", err, out)
		}
	}
}

// check runs gateway check, as the image has it, in the container's
// environment.
func (g *gateway) check(t *testing.T, config string) (string, error) {
	t.Helper()
	dir := t.TempDir()
	file, secret := filepath.Join(dir, "config.yaml"), filepath.Join(dir, "hs256")
	for name, content := range map[string]string{file: config, secret: strings.Repeat("s", 32)} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "go", "run", "-tags", "nodev", "./cmd/gateway", "check", "--config", file)
	cmd.Dir = ".."
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "GATEWAY_") })
	for _, v := range g.Env {
		cmd.Env = append(cmd.Env, v.Name+"="+v.Value)
	}
	// The Secret is mounted elsewhere here.
	if g.set.Auth.HS256SecretFile != "" {
		cmd.Env = append(cmd.Env, "GATEWAY_AUTH_HS256_SECRET_FILE="+secret)
	}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

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
