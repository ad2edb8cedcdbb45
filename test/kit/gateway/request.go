package gateway

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Any matches every verb, or every resource and subresource.
const Any = "*"

// Request is one recorded request. The body is not to be changed.
type Request struct {
	// Verb is as in RBAC: get, list, watch, create, update, patch, delete or
	// deletecollection; for what is no resource the HTTP method in small letters.
	// Clients may list by a watch that sends the initial events (see Query).
	Verb string
	// Group is "" for the core group.
	Group       string
	Resource    string
	Subresource string
	Namespace   string
	// Name is "" for lists, watches and creations: the path does not tell.
	Name  string
	Path  string
	Query url.Values
	// Body is as it was sent; protobuf as a rule, in which words are readable.
	Body []byte

	// Forwarded says that the API server got the request.
	Forwarded bool
	// Status is the answer of the API server, or of a rule; 0 while there is none.
	Status int
	// Answered says that the caller gets the answer; a rule may have withheld it.
	Answered bool
	Start    time.Time
	// End is when the caller had the whole answer, or was cut off; zero before that.
	End time.Time
}

// Size returns how many bytes were sent.
func (r Request) Size() int { return len(r.Body) }

// Write says that the request is to change what is stored. Reviews of rights are
// created, but stored nowhere.
func (r Request) Write() bool {
	return r.Resource != "" && !strings.HasSuffix(r.Resource, "reviews") &&
		slices.Contains([]string{"create", "update", "patch", "delete", "deletecollection"}, r.Verb)
}

// Target is the resource, with the subresource if there is one, as RBAC names it;
// the path of what is no resource.
func (r Request) Target() string {
	switch {
	case r.Resource == "":
		return r.Path
	case r.Subresource != "":
		return r.Resource + "/" + r.Subresource
	}
	return r.Resource
}

// matches compares with what On was given.
func (r Request) matches(verb, resource string) bool {
	return (verb == Any || verb == r.Verb) && (resource == Any || resource == r.Target())
}

// parse takes the URL apart as the API server does.
func parse(request *http.Request) Request {
	r := Request{
		Verb: strings.ToLower(request.Method), Path: request.URL.Path,
		Query: request.URL.Query(), Start: time.Now(),
	}
	parts := strings.Split(strings.Trim(r.Path, "/"), "/")
	switch {
	case len(parts) > 2 && parts[0] == "api":
		parts = parts[2:] // api, version
	case len(parts) > 3 && parts[0] == "apis":
		r.Group, parts = parts[1], parts[3:] // apis, group, version
	default:
		return r
	}
	if parts[0] == "namespaces" && len(parts) > 2 && !ofNamespace(parts[2]) {
		r.Namespace, parts = parts[1], parts[2:]
	}
	fields := []*string{&r.Resource, &r.Name, &r.Subresource}
	for i, part := range parts[:min(len(parts), len(fields))] {
		*fields[i] = part
	}
	r.Verb = verb(request.Method, r.Name, r.Query)
	return r
}

// ofNamespace says that a word behind a namespace is a subresource of it, not a
// resource in it.
func ofNamespace(word string) bool { return word == "status" || word == "finalize" }

func verb(method, name string, query url.Values) string {
	switch method {
	case http.MethodGet, http.MethodHead:
		if watch := query.Get("watch"); watch == "true" || watch == "1" {
			return "watch"
		}
		if name == "" {
			return "list"
		}
		return "get"
	case http.MethodPost:
		return "create"
	case http.MethodPut:
		return "update"
	case http.MethodDelete:
		if name == "" {
			return "deletecollection"
		}
	}
	return strings.ToLower(method)
}
