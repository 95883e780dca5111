package server

import (
	"encoding/json"
	"net/http"
	"strconv"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/adyton-dev/adyton/internal/broker"
	"github.com/adyton-dev/adyton/internal/broker/api"
	"github.com/adyton-dev/adyton/internal/broker/owner"
	"github.com/adyton-dev/adyton/refusal"
)

// maxAdminBody bounds an administrative request, in bytes: the largest resource
// in base64 and the largest policy, escaped.
const maxAdminBody = 2 << 20

// adminHandler is a handler that knows who asks and has read the body.
type adminHandler func(w http.ResponseWriter, r *http.Request, p *broker.Principal, body []byte) error

// admin authenticates the request of an owner or the administrator. The token is
// bound to the request: see package owner.
func (s *Server) admin(next adminHandler) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		token, ok := bearer(r)
		if !ok {
			return refusal.New(refusal.Unauthorized, "there is no bearer token of an owner")
		}
		body, err := readBody(w, r, maxAdminBody)
		if err != nil {
			return err
		}
		p, err := s.broker.Authenticate(r.Context(), token,
			owner.Request{Audience: s.audience, Method: r.Method, Path: r.RequestURI, Body: body}, client(r))
		if err != nil {
			return err
		}
		return next(w, r, p, body)
	}
}

// postResource stores the raw body: POST /kbs/v0/resource/….
func (s *Server) postResource(w http.ResponseWriter, r *http.Request, p *broker.Principal, body []byte) error {
	return s.put(w, r, p, api.PutResource{Value: body})
}

// putResource stores a resource with its policy: PUT /adyton/v1/resource/….
func (s *Server) putResource(w http.ResponseWriter, r *http.Request, p *broker.Principal, body []byte) error {
	var put api.PutResource
	if err := unmarshal(body, &put); err != nil {
		return err
	}
	return s.put(w, r, p, put)
}

func (s *Server) put(w http.ResponseWriter, r *http.Request, p *broker.Principal, put api.PutResource) error {
	uri, err := resource(r)
	if err != nil {
		return err
	}
	condition := r.Header.Get("If-None-Match")
	if condition != "" && condition != "*" {
		return badRequest("If-None-Match %.32q: only * is supported", condition)
	}
	if err := s.broker.PutResource(r.Context(), p, uri, put.Value, put.Policy, condition == "*"); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (s *Server) deleteResource(w http.ResponseWriter, r *http.Request, p *broker.Principal, _ []byte) error {
	uri, err := resource(r)
	if err != nil {
		return err
	}
	if err := s.broker.DeleteResource(r.Context(), p, uri); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (s *Server) metadata(w http.ResponseWriter, r *http.Request, p *broker.Principal, _ []byte) error {
	uri, err := resource(r)
	if err != nil {
		return err
	}
	m, err := s.broker.Metadata(r.Context(), p, uri)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, m)
	return nil
}

func (s *Server) resources(w http.ResponseWriter, r *http.Request, p *broker.Principal, _ []byte) error {
	list, err := s.broker.Resources(r.Context(), p)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, list)
	return nil
}

// postBrokerPolicy sets the broker-wide policy in the KBS's form: POST
// /kbs/v0/resource-policy.
func (s *Server) postBrokerPolicy(w http.ResponseWriter, r *http.Request, p *broker.Principal, body []byte) error {
	var m api.ResourcePolicy
	if err := unmarshal(body, &m); err != nil {
		return err
	}
	return s.putPolicy(w, r, p, m.Policy)
}

// putPolicy sets the policy that the path names: the resource's, the repository's
// or, without either, the broker's. The body is YAML.
func (s *Server) putPolicy(w http.ResponseWriter, r *http.Request, p *broker.Principal, body []byte) error {
	if len(body) == 0 {
		return badRequest("the policy is empty; DELETE removes one")
	}
	return s.setPolicy(w, r, p, string(body))
}

func (s *Server) deletePolicy(w http.ResponseWriter, r *http.Request, p *broker.Principal, _ []byte) error {
	return s.setPolicy(w, r, p, "")
}

func (s *Server) setPolicy(w http.ResponseWriter, r *http.Request, p *broker.Principal, text string) error {
	if r.PathValue("tag") != "" {
		uri, err := resource(r)
		if err != nil {
			return err
		}
		if err := s.broker.SetResourcePolicy(r.Context(), p, uri, text); err != nil {
			return err
		}
	} else if err := s.broker.SetPolicy(r.Context(), p, r.PathValue("repository"), text); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (s *Server) getPolicy(w http.ResponseWriter, r *http.Request, p *broker.Principal, _ []byte) error {
	var text string
	if r.PathValue("tag") != "" {
		uri, err := resource(r)
		if err != nil {
			return err
		}
		if text, err = s.broker.ResourcePolicy(r.Context(), p, uri); err != nil {
			return err
		}
	} else {
		var err error
		if text, err = s.broker.Policy(r.Context(), p, r.PathValue("repository")); err != nil {
			return err
		}
	}
	w.Header().Set("Content-Type", "application/yaml")
	_, _ = w.Write([]byte(text))
	return nil
}

func (s *Server) owners(w http.ResponseWriter, r *http.Request, p *broker.Principal, _ []byte) error {
	list, err := s.broker.Owners(r.Context(), p)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, list)
	return nil
}

func (s *Server) putOwner(w http.ResponseWriter, r *http.Request, p *broker.Principal, body []byte) error {
	var o api.Owner
	if err := unmarshal(body, &o); err != nil {
		return err
	}
	if o.Name != r.PathValue("name") {
		return badRequest("the owner's name is not that of the path")
	}
	if err := s.broker.AddOwner(r.Context(), p, o); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (s *Server) deleteOwner(w http.ResponseWriter, r *http.Request, p *broker.Principal, _ []byte) error {
	if err := s.broker.RemoveOwner(r.Context(), p, r.PathValue("name"), r.URL.Query().Get("shred") == "true"); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// checkpoint gives the audit log's newest signed checkpoint to anyone: it tells
// the log's size and nothing of what is in it, and witnesses need it.
func (s *Server) checkpoint(w http.ResponseWriter, _ *http.Request) error {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write(s.broker.Audit().Checkpoint())
	return nil
}

// maxRecords is how many audit records one answer holds.
const maxRecords = 1000

func (s *Server) records(w http.ResponseWriter, r *http.Request, p *broker.Principal, _ []byte) error {
	if !p.IsAdmin() {
		return refusal.New(refusal.Forbidden, "only the administrator reads the audit log")
	}
	from, err := number(r, "from")
	if err != nil {
		return err
	}
	limit, err := number(r, "limit")
	if err != nil {
		return err
	}
	records, err := s.broker.Audit().Records(r.Context(), from, int(min(limit, maxRecords)))
	if err != nil {
		return err
	}
	raw := make([]json.RawMessage, len(records))
	for i := range records {
		raw[i] = records[i]
	}
	writeJSON(w, http.StatusOK, raw)
	return nil
}

// proofs are hashes and size only, so anyone may have them.
func (s *Server) inclusion(w http.ResponseWriter, r *http.Request) error {
	n, err := number(r, "record")
	if err != nil {
		return err
	}
	size, err := number(r, "size")
	if err != nil {
		return err
	}
	proof, err := s.broker.Audit().ProveRecord(r.Context(), size, n)
	if err != nil {
		return badRequest("%w", err)
	}
	writeJSON(w, http.StatusOK, []tlog.Hash(proof))
	return nil
}

func (s *Server) consistency(w http.ResponseWriter, r *http.Request) error {
	from, err := number(r, "from")
	if err != nil {
		return err
	}
	size, err := number(r, "size")
	if err != nil {
		return err
	}
	proof, err := s.broker.Audit().ProveTree(r.Context(), size, from)
	if err != nil {
		return badRequest("%w", err)
	}
	writeJSON(w, http.StatusOK, []tlog.Hash(proof))
	return nil
}

func number(r *http.Request, name string) (int64, error) {
	n, err := strconv.ParseInt(r.URL.Query().Get(name), 10, 64)
	if err != nil || n < 0 {
		return 0, badRequest("query parameter %s: want a number", name)
	}
	return n, nil
}
