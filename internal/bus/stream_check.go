package bus

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"pushgate/api"
)

// StreamError says why a stream that is there cannot be relied on: each thing
// that is wrong, and how to change it.
type StreamError struct {
	Stream   string
	Failures []string
}

func (e *StreamError) Error() string {
	return fmt.Sprintf("stream %q cannot be used: %s", e.Stream, strings.Join(e.Failures, "; "))
}

// check compares the stream that is there with what is relied on. Failures
// would lose events without a sign; warnings would not.
func (s *stream) check(cfg jetstream.StreamConfig) (failures, warnings []string) {
	wrong := func(setting string, is, must any, flags string) {
		failures = append(failures, fmt.Sprintf("%s is %v and must be %v: `nats stream edit %s %s`", setting, is, must, s.Name, flags))
	}
	if !slices.ContainsFunc(cfg.Subjects, func(has string) bool { return api.Covers(has, s.stored()) }) {
		wrong("subjects", list(cfg.Subjects), "one that covers "+s.stored(), fmt.Sprintf("--subjects='%s'", s.stored()))
	}
	republish := jetstream.RePublish{Source: s.stored(), Destination: s.copies()}
	if cfg.RePublish == nil || *cfg.RePublish != republish {
		wrong("republish", showRepublish(cfg.RePublish), showRepublish(&republish),
			fmt.Sprintf("--republish-source='%s' --republish-destination='%s'", republish.Source, republish.Destination))
	}
	if cfg.SubjectTransform != nil {
		wrong("subject_transform", cfg.SubjectTransform.Source+" to "+cfg.SubjectTransform.Destination, "unset", "--no-transform")
	}
	if !cfg.AllowDirect {
		wrong("allow_direct", false, true, "--allow-direct")
	}
	if cfg.MaxMsgsPerSubject > 0 {
		wrong("max_msgs_per_subject", cfg.MaxMsgsPerSubject, "unset", "--max-msgs-per-subject=-1")
	}
	if cfg.DiscardNewPerSubject {
		wrong("discard_new_per_subject", true, false, "--discard=old --no-discard-per-subject")
	}
	if cfg.AllowRollup {
		wrong("allow_rollup_hdrs", true, false, "--no-allow-rollup")
	}
	failures = append(failures, s.checkForGood(cfg)...)

	if !cfg.DenyDelete {
		warnings = append(warnings, fmt.Sprintf("deny_delete is false: an event that is deleted is missing in a replay without a sign; `nats stream edit %s --deny-delete` forbids it", s.Name))
	}
	if cfg.MaxAge != s.MaxAge {
		warnings = append(warnings, fmt.Sprintf("max_age is %s, and durable.max_age is %s: the stream's counts; `nats stream edit %s --max-age=%s` changes it",
			showAge(cfg.MaxAge), showAge(s.MaxAge), s.Name, flagAge(s.MaxAge)))
	}
	return failures, warnings
}

// checkForGood finds what NATS does not let anybody change.
func (s *stream) checkForGood(cfg jetstream.StreamConfig) (failures []string) {
	wrong := func(setting string, is, must any) {
		failures = append(failures, fmt.Sprintf("%s is %v and must be %v, which cannot be changed: `nats stream rm %s`, which deletes what it holds, then `%s`",
			setting, is, must, s.Name, s.addCommand()))
	}
	if cfg.Retention != jetstream.LimitsPolicy {
		wrong("retention", strings.ToLower(cfg.Retention.String()), "limits")
	}
	if cfg.Sealed {
		wrong("sealed", true, false)
	}
	if cfg.Mirror != nil {
		wrong("mirror", cfg.Mirror.Name, "unset")
	}
	return failures
}

func list(subjects []string) string {
	if len(subjects) == 0 {
		return "empty"
	}
	return strings.Join(subjects, ", ")
}

func showRepublish(r *jetstream.RePublish) string {
	switch {
	case r == nil:
		return "unset"
	case r.HeadersOnly:
		return r.Source + " to " + r.Destination + " with headers only"
	}
	return r.Source + " to " + r.Destination + " with payload"
}

func showAge(d time.Duration) string {
	if d <= 0 {
		return "unlimited"
	}
	return d.String()
}

// flagAge is an age as NATS's tool takes it.
func flagAge(d time.Duration) string {
	if d <= 0 {
		return "-1"
	}
	return d.String()
}
