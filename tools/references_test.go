package tools

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

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
	if _, external := externalSecrets[name]; !external && byName(m.secrets, name) == nil {
		r.addf("Secret %s does not exist, and is not the one that operators make", name)
	}
}
