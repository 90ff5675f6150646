package tools

import (
	"fmt"
	"net"
	"path"
	"slices"
	"strconv"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"
)

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
	NATS   struct {
		NKeyFile string `json:"nkey_file"`
		TLS      struct {
			CAFile string `json:"ca_file"`
		}
	}
	Auth struct {
		HS256SecretFile string   `json:"hs256_secret_file"`
		PublicKeyFiles  []string `json:"public_key_files"`
	}
	Limits struct{ Sessions int64 }
	Drain  struct{ Delay, Window string }
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
	}{
		{"startupProbe", "/livez", g.StartupProbe},
		{"livenessProbe", "/livez", g.LivenessProbe},
		{"readinessProbe", "/readyz", g.ReadinessProbe},
	} {
		switch {
		case want.probe == nil || want.probe.HTTPGet == nil:
			r.addf("the %s asks nothing over HTTP", want.name)
		case want.probe.HTTPGet.Path != want.path:
			r.addf("the %s asks %q, not %s", want.name, want.probe.HTTPGet.Path, want.path)
		case want.probe.HTTPGet.Port != intstr.FromString("admin"):
			r.addf("the %s asks port %s, not admin", want.name, want.probe.HTTPGet.Port.String())
		}
	}
}

// files are what the configuration reads from Secrets.
func (s *settings) files() []string {
	all := append([]string{s.Auth.HS256SecretFile, s.NATS.NKeyFile, s.NATS.TLS.CAFile}, s.Auth.PublicKeyFiles...)
	return slices.DeleteFunc(all, func(f string) bool { return f == "" })
}

// checkSecretFiles wants each file to come from a Secret that holds it, in a
// folder whose files change with the Secret's.
func checkSecretFiles(r *report, g *gateway) {
	for _, file := range g.set.files() {
		folder, key := path.Split(file)
		at := slices.IndexFunc(g.VolumeMounts, func(mount corev1.VolumeMount) bool {
			source := volume(g.pod, mount.Name)
			return source != nil && source.Secret != nil && path.Clean(folder) == path.Clean(mount.MountPath)
		})
		switch {
		case at < 0:
			r.addf("%q is in no mounted Secret", file)
		case g.VolumeMounts[at].SubPath != "":
			r.addf("%q is mounted alone: it would never change", file)
		default:
			secret := volume(g.pod, g.VolumeMounts[at].Name).Secret.SecretName
			if !slices.Contains(externalSecrets[secret], key) {
				r.addf("Secret %s has no key %s", secret, key)
			}
		}
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
	if l := g.Lifecycle; l != nil && l.PreStop != nil {
		r.addf("there is a preStop hook: the image has no shell, and the gateway drains by itself")
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

// socketBytes is what the kernel takes for a connection. It counts against the
// container's limit, and Go knows nothing of it.
const socketBytes = 4300

// checkRoom wants half of the memory for what is no socket.
func checkRoom(r *report, g *gateway) {
	limit := g.Resources.Limits.Memory().Value()
	if n := g.set.Limits.Sessions; n == 0 || n*socketBytes > limit/2 {
		r.addf("limits.sessions %d: the sockets of so many do not fit into half of %d bytes", n, limit)
	}
}

// checkMemory wants a limit, which the gateway takes its GOMEMLIMIT from, and
// all of it reserved: what sessions hold is never given back in a pinch.
func checkMemory(r *report, d *appsv1.Deployment) {
	for _, c := range containers(d) {
		limit, request := c.Resources.Limits.Memory(), c.Resources.Requests.Memory()
		if limit.IsZero() || limit.Cmp(*request) != 0 {
			r.addf("container %s: its memory limit %s is none, or not what it requests, %s", c.Name, limit, request)
		}
		if c.Resources.Requests.Cpu().IsZero() {
			r.addf("container %s: it requests no CPU", c.Name)
		}
		if !c.Resources.Limits.Cpu().IsZero() {
			r.addf("container %s: its CPU is limited, and every event waits when it is throttled", c.Name)
		}
		for _, env := range c.Env {
			if env.Name == "GOMEMLIMIT" {
				r.addf("container %s: GOMEMLIMIT is set by hand, and forgotten when the limit changes", c.Name)
			}
		}
	}
}
