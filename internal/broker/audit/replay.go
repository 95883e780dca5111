package audit

import "strings"

// replay follows a log and knows what the store must hold after each record. So a
// release that rested on something else shows: the host cannot open a sealed
// record, but it can put an old one back, or take one away, behind the log's back.
type replay struct {
	resources    map[string]written // by repository/type/tag
	repositories map[string]string  // policy digests by repository
	broker       string             // digest of the broker-wide policy; "": there is none
}

// written is a resource as it was last written.
type written struct {
	version int64
	policy  string // digest of its own policy; "": there is none
}

func newReplay() *replay {
	return &replay{resources: make(map[string]written), repositories: make(map[string]string)}
}

// next takes record n. It gives an AuditCorrupt refusal if that is a release by
// other policies, or of another version, than were recorded before it.
func (s *replay) next(n int64, r *Record) error {
	if !r.Allowed {
		return nil
	}
	switch r.Event {
	case EventResourcePut:
		s.resources[r.Resource] = written{r.Version, r.Policy}
	case EventResourceDelete:
		delete(s.resources, r.Resource)
	case EventPolicyPut, EventPolicyDelete:
		switch {
		case r.Resource == "":
			s.broker = r.Policy
		case strings.Contains(r.Resource, "/"):
			s.resources[r.Resource] = written{r.Version, r.Policy}
		default:
			s.repositories[r.Resource] = r.Policy
		}
	case EventRelease:
		return s.release(n, r)
	}
	return nil
}

func (s *replay) release(n int64, r *Record) error {
	resource := s.resources[r.Resource]
	policy := resource.policy
	if policy == "" {
		repository, _, _ := strings.Cut(r.Resource, "/")
		policy = s.repositories[repository]
	}
	const putBack = "record %d: %s was released %s: the broker's store was changed or an old state of it put back"
	switch {
	case r.Version != resource.version:
		return corrupt(putBack, n, r.Resource, "in a version that is not the last one recorded")
	case r.Policy != policy:
		return corrupt(putBack, n, r.Resource, "under a policy that is not the last one recorded")
	case r.BrokerPolicy != s.broker:
		return corrupt(putBack, n, r.Resource, "under a broker-wide policy that is not the last one recorded")
	}
	return nil
}
