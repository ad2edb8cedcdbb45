// Package leases is an in-memory API server for Leases of one namespace, for tests of what a real
// one cannot be made to do: lost answers, refusals, and virtual time. TestLeasesBehaveAsTheAPIServer
// in test/integration compares it with a real one.
package leases

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// Request is one request, as the function of Intercept sees it.
type Request struct {
	// Verb is create, update, delete, get or list.
	Verb string
	// Name of the Lease; "" for a list.
	Name string
}

// Fault is what happens to a request.
type Fault struct {
	// Before is returned instead of carrying the request out; nil to carry it out.
	Before error
	// After is returned instead of the answer of a request that was carried out; nil for the answer.
	After error
}

// Server holds Leases. The zero value is ready for use, also by several goroutines. It implements
// the part of client-go's LeaseInterface that the journal uses.
type Server struct {
	// Namespace of the Leases.
	Namespace string

	mu        sync.Mutex
	intercept func(Request) Fault
	version   int
	leases    map[string]*coordinationv1.Lease
	log       []Request
}

// Intercept asks f about each request from now on, before anything is done, without a lock held;
// nil for no faults. Several goroutines may call f at once.
func (s *Server) Intercept(f func(Request) Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.intercept = f
}

func gr() schema.GroupResource { return coordinationv1.Resource("leases") }

// do carries out a request between its faults.
func (s *Server) do(r Request, f func() (*coordinationv1.Lease, error)) (*coordinationv1.Lease, error) {
	s.mu.Lock()
	intercept := s.intercept
	s.mu.Unlock()
	var fault Fault
	if intercept != nil {
		fault = intercept(r)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log = append(s.log, r)
	if fault.Before != nil {
		return nil, fault.Before
	}
	lease, err := f()
	if fault.After != nil {
		return nil, fault.After
	}
	return transported(lease), err
}

// transported returns a Lease as it looks after it was sent as JSON, with times of microseconds.
func transported(lease *coordinationv1.Lease) *coordinationv1.Lease {
	if lease == nil {
		return nil
	}
	data, err := json.Marshal(lease)
	if err != nil {
		panic(err) // a Lease can always be encoded
	}
	sent := &coordinationv1.Lease{}
	if err := json.Unmarshal(data, sent); err != nil {
		panic(err)
	}
	return sent
}

// Create implements LeaseInterface.
func (s *Server) Create(_ context.Context, lease *coordinationv1.Lease, _ metav1.CreateOptions) (*coordinationv1.Lease, error) {
	return s.do(Request{"create", lease.Name}, func() (*coordinationv1.Lease, error) {
		if s.leases[lease.Name] != nil {
			return nil, apierrors.NewAlreadyExists(gr(), lease.Name)
		}
		return s.store(lease), nil
	})
}

// store adds a Lease. The caller holds mu.
func (s *Server) store(lease *coordinationv1.Lease) *coordinationv1.Lease {
	s.version++
	stored := transported(lease)
	stored.Namespace = s.Namespace
	stored.UID = types.UID("uid-" + strconv.Itoa(s.version))
	stored.ResourceVersion = strconv.Itoa(s.version)
	stored.CreationTimestamp = metav1.NewTime(time.Now().Truncate(time.Second))
	if s.leases == nil {
		s.leases = map[string]*coordinationv1.Lease{}
	}
	s.leases[lease.Name] = stored
	return stored
}

// Update implements LeaseInterface. As the API server does, it creates a Lease that does not
// exist, unless the update has a uid.
func (s *Server) Update(_ context.Context, lease *coordinationv1.Lease, _ metav1.UpdateOptions) (*coordinationv1.Lease, error) {
	return s.do(Request{"update", lease.Name}, func() (*coordinationv1.Lease, error) {
		live := s.leases[lease.Name]
		switch {
		case live == nil && lease.UID != "":
			return nil, apierrors.NewConflict(gr(), lease.Name, fmt.Errorf("precondition failed: uid %q", lease.UID))
		case live == nil:
			return s.store(lease), nil
		case lease.UID != "" && lease.UID != live.UID, lease.ResourceVersion != "" && lease.ResourceVersion != live.ResourceVersion:
			return nil, apierrors.NewConflict(gr(), lease.Name, fmt.Errorf("the object has been modified"))
		}
		stored := transported(lease)
		stored.Namespace, stored.UID, stored.CreationTimestamp = s.Namespace, live.UID, live.CreationTimestamp
		stored.ResourceVersion = live.ResourceVersion
		if equality.Semantic.DeepEqual(stored, live) {
			return live, nil
		}
		s.version++
		stored.ResourceVersion = strconv.Itoa(s.version)
		s.leases[lease.Name] = stored
		return stored, nil
	})
}

// Delete implements LeaseInterface, with preconditions.
func (s *Server) Delete(_ context.Context, name string, opts metav1.DeleteOptions) error {
	_, err := s.do(Request{"delete", name}, func() (*coordinationv1.Lease, error) {
		live := s.leases[name]
		if live == nil {
			return nil, apierrors.NewNotFound(gr(), name)
		}
		if p := opts.Preconditions; p != nil {
			if p.UID != nil && *p.UID != live.UID || p.ResourceVersion != nil && *p.ResourceVersion != live.ResourceVersion {
				return nil, apierrors.NewConflict(gr(), name, fmt.Errorf("precondition failed"))
			}
		}
		delete(s.leases, name)
		return nil, nil
	})
	return err
}

// Get implements LeaseInterface.
func (s *Server) Get(_ context.Context, name string, _ metav1.GetOptions) (*coordinationv1.Lease, error) {
	return s.do(Request{"get", name}, func() (*coordinationv1.Lease, error) {
		if live := s.leases[name]; live != nil {
			return live, nil
		}
		return nil, apierrors.NewNotFound(gr(), name)
	})
}

// List implements LeaseInterface, with label selectors.
func (s *Server) List(_ context.Context, opts metav1.ListOptions) (*coordinationv1.LeaseList, error) {
	selector, err := labels.Parse(opts.LabelSelector)
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	list := &coordinationv1.LeaseList{}
	_, err = s.do(Request{Verb: "list"}, func() (*coordinationv1.Lease, error) {
		for _, name := range slices.Sorted(maps.Keys(s.leases)) {
			if l := s.leases[name]; selector.Matches(labels.Set(l.Labels)) {
				list.Items = append(list.Items, *l.DeepCopy())
			}
		}
		return nil, nil
	})
	return list, err
}

// Live returns the Lease of that name, nil if there is none. Nothing intercepts it.
func (s *Server) Live(name string) *coordinationv1.Lease {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.leases[name].DeepCopy()
}

// Names returns the names of all Leases, sorted.
func (s *Server) Names() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.leases))
}

// Edit changes a Lease as another client would; it does nothing if there is none.
func (s *Server) Edit(name string, change func(*coordinationv1.Lease)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if live := s.leases[name]; live != nil {
		change(live)
		s.version++
		live.ResourceVersion = strconv.Itoa(s.version)
	}
}

// Remove deletes a Lease as another client would.
func (s *Server) Remove(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.leases, name)
}

// Requests returns the requests since the last call, in the order in which they were carried out.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	log := s.log
	s.log = nil
	return log
}
