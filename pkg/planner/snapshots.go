package planner

import (
	"context"
	"fmt"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/informers"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/source"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/verdict"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/waitlist"
)

// snapshotReads remembers VolumeSnapshotContents and VolumeSnapshots that were read one by one,
// because RBAC does not allow to watch them: the manifests of csi-provisioner grant no watch of
// contents. A thousand claims that are restored from one snapshot read it once.
type snapshotReads struct {
	mu    sync.Mutex
	reads map[string]*snapshotRead
}

// snapshotRead is the result of reading one object.
type snapshotRead struct {
	mu sync.Mutex
	// at is when the object was read, version that of the object that refers to it.
	at      time.Time
	version string
	found   *unstructured.Unstructured // nil if there is none
	err     error
}

// maxReads is how many results are remembered before those older than maxReadAge are dropped.
const (
	maxReads   = 1000
	maxReadAge = 10 * time.Minute
)

// get returns the result that is remembered under the name. If there is none, it returns nil, or
// a new one if create is true.
func (s *snapshotReads) get(name string, create bool) *snapshotRead {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.reads[name]
	if r != nil || !create {
		return r
	}
	if len(s.reads) >= maxReads {
		for other, r := range s.reads {
			if r.isOld() {
				delete(s.reads, other)
			}
		}
	}
	if s.reads == nil {
		s.reads = map[string]*snapshotRead{}
	}
	s.reads[name] = &snapshotRead{}
	return s.reads[name]
}

func (r *snapshotRead) isOld() bool {
	if !r.mu.TryLock() {
		return false // it is in use
	}
	defer r.mu.Unlock()
	return time.Since(r.at) > maxReadAge
}

// read returns the object that read reads, or the remembered one if that was read less than
// checkInterval ago for the same version.
func (s *snapshotReads) read(name, version string, read func() (*unstructured.Unstructured, error)) (*unstructured.Unstructured, error) {
	r := s.get(name, true)
	r.mu.Lock()
	defer r.mu.Unlock()
	if time.Since(r.at) < checkInterval && r.version == version {
		return r.found, r.err
	}
	found, err := read()
	switch {
	case apierrors.IsNotFound(err):
		found, err = nil, nil
	case err != nil:
		found = r.found // the last one that could be read
	}
	r.at, r.version, r.found, r.err = time.Now(), version, found, err
	return found, err
}

// last returns the object that was read last under the name; nil if there is none.
func (s *snapshotReads) last(name string) *unstructured.Unstructured {
	r := s.get(name, false)
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.found
}

// fetchSnapshot reads the claim's VolumeSnapshot, unless it is cached, and its content.
func (p *Planner) fetchSnapshot(ctx context.Context, claim *v1.PersistentVolumeClaim) verdict.Verdict {
	ref := source.Of(claim)
	if ref.Kind != source.Snapshot || !p.Driver.CanRestore() || !p.sourceGranted(claim) {
		return verdict.Verdict{}
	}
	if p.Caches.Snapshots == nil {
		_, err := p.reads.read(ref.Namespace+"/"+ref.Name, "", func() (*unstructured.Unstructured, error) {
			return p.Dynamic.Resource(informers.VolumeSnapshots()).Namespace(ref.Namespace).Get(ctx, ref.Name, metav1.GetOptions{})
		})
		if err != nil {
			return notReadable(fmt.Errorf("reading VolumeSnapshot %q (get, list and watch on volumesnapshots must be granted): %w", ref.Shown, err))
		}
	}
	object := p.snapshot(ref)
	if object == nil {
		return verdict.Verdict{}
	}
	if snapshot := source.SnapshotOf(object); !snapshot.Ready || snapshot.Content == "" {
		return verdict.Verdict{}
	}
	if _, err := p.content(ctx, object); err != nil {
		return notReadable(err)
	}
	return verdict.Verdict{}
}

func notReadable(err error) verdict.Verdict {
	return verdict.Refused(verdict.SnapshotNotReadable, "the restore was not started (tried again by itself): %v", err)
}

// content reads the VolumeSnapshotContent that the snapshot is bound to; nil if it does not exist.
func (p *Planner) content(ctx context.Context, snapshot *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	name := source.SnapshotOf(snapshot).Content
	found, err := p.reads.read(name, snapshot.GetResourceVersion(), func() (*unstructured.Unstructured, error) {
		return p.Dynamic.Resource(informers.VolumeSnapshotContents()).Get(ctx, name, metav1.GetOptions{})
	})
	if err != nil {
		return found, fmt.Errorf("reading VolumeSnapshotContent %q (get on volumesnapshotcontents must be granted): %w", name, err)
	}
	return found, nil
}

// snapshot returns the VolumeSnapshot from the cache, or as it was read last; nil if there is none.
func (p *Planner) snapshot(ref source.Ref) *unstructured.Unstructured {
	if p.Caches.Snapshots != nil {
		return p.Caches.Snapshot(ref.Namespace, ref.Name)
	}
	return p.reads.last(ref.Namespace + "/" + ref.Name)
}

// snapshotFacts gathers the facts about the claim's VolumeSnapshot.
func (p *Planner) snapshotFacts(facts *source.Facts, ref source.Ref, before func(waitlist.Object)) {
	before(waitlist.Snapshot(ref.Namespace, ref.Name))
	p.Caches.AskForSnapshots()
	facts.CanRestore, facts.KeepMode = p.Driver.CanRestore(), p.KeepMode
	facts.NoSnapshots = p.Caches.Snapshots != nil && !p.Caches.Snapshots.HasSynced()
	object := p.snapshot(ref)
	if object == nil {
		return
	}
	facts.Snapshot = source.SnapshotOf(object)
	if content := p.reads.last(facts.Snapshot.Content); content != nil {
		facts.Content = source.ContentOf(content)
	}
}

// DriverOf implements protection.Contents.
func (p *Planner) DriverOf(ctx context.Context, snapshot *unstructured.Unstructured) (string, error) {
	s := source.SnapshotOf(snapshot)
	if s.Content == "" {
		return "", nil
	}
	object, err := p.content(ctx, snapshot)
	if object == nil || err != nil {
		return "", err
	}
	if content := source.ContentOf(object); content.Of.UID == s.UID {
		return content.Driver, nil
	}
	return "", nil
}
