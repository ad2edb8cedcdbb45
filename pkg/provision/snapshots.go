package provision

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

// shelf remembers what was read of snapshots one by one: their contents, which RBAC for
// the incumbent does not let us watch, and, where they may not be watched either, they
// themselves. A thousand claims that are restored from one snapshot ask for it once.
type shelf struct {
	mu    sync.Mutex
	looks map[string]*reading
}

// reading is what was found under a name.
type reading struct {
	mu sync.Mutex
	// at is when it was read, for that version of the object that names it.
	at      time.Time
	version string
	found   *unstructured.Unstructured // nil if there is none
	err     error
}

// mostReadings is how many are remembered before old ones are dropped, and oldReading
// when one is that.
const (
	mostReadings = 1000
	oldReading   = 10 * time.Minute
)

// of returns what is remembered under the name; room says to make room for it if nothing is.
func (s *shelf) of(name string, room bool) *reading {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.looks[name]
	if r != nil || !room {
		return r
	}
	if len(s.looks) >= mostReadings {
		for other, r := range s.looks {
			if r.old() {
				delete(s.looks, other)
			}
		}
	}
	if s.looks == nil {
		s.looks = map[string]*reading{}
	}
	s.looks[name] = &reading{}
	return s.looks[name]
}

func (r *reading) old() bool {
	if !r.mu.TryLock() {
		return false // somebody is at it
	}
	defer r.mu.Unlock()
	return time.Since(r.at) > oldReading
}

// look reads an object, unless that was done a moment ago for the same version.
func (s *shelf) look(name, version string, read func() (*unstructured.Unstructured, error)) (*unstructured.Unstructured, error) {
	r := s.of(name, true)
	r.mu.Lock()
	defer r.mu.Unlock()
	if time.Since(r.at) < fresh && r.version == version {
		return r.found, r.err
	}
	found, err := read()
	switch {
	case apierrors.IsNotFound(err):
		found, err = nil, nil
	case err != nil:
		found = r.found // it is known as it was
	}
	r.at, r.version, r.found, r.err = time.Now(), version, found, err
	return found, err
}

// last returns what was read last under the name; nil if nothing was.
func (s *shelf) last(name string) *unstructured.Unstructured {
	r := s.of(name, false)
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.found
}

// fetchSnapshot reads what the caches do not have of the snapshot that the claim is
// restored from.
func (p *Provisioner) fetchSnapshot(ctx context.Context, claim *v1.PersistentVolumeClaim) verdict.Verdict {
	ref := source.Of(claim)
	if ref.Kind != source.Snapshot || !p.Driver.CanRestore() || !p.Granted(claim) {
		return verdict.Verdict{}
	}
	if p.Caches.Snapshots == nil {
		_, err := p.shelf.look(ref.Namespace+"/"+ref.Name, "", func() (*unstructured.Unstructured, error) {
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

// content reads what the snapshot is bound to; nil if that does not exist.
func (p *Provisioner) content(ctx context.Context, snapshot *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	name := source.SnapshotOf(snapshot).Content
	found, err := p.shelf.look(name, snapshot.GetResourceVersion(), func() (*unstructured.Unstructured, error) {
		return p.Dynamic.Resource(informers.VolumeSnapshotContents()).Get(ctx, name, metav1.GetOptions{})
	})
	if err != nil {
		return found, fmt.Errorf("reading VolumeSnapshotContent %q (get on volumesnapshotcontents must be granted): %w", name, err)
	}
	return found, nil
}

// snapshot returns the VolumeSnapshot as it is known; nil if there is none.
func (p *Provisioner) snapshot(ref source.Ref) *unstructured.Unstructured {
	if p.Caches.Snapshots != nil {
		return p.Caches.Snapshot(ref.Namespace, ref.Name)
	}
	return p.shelf.last(ref.Namespace + "/" + ref.Name)
}

// snapshotFacts gathers the facts about the snapshot that the claim is restored from.
func (p *Provisioner) snapshotFacts(facts *source.Facts, ref source.Ref, before func(waitlist.Object)) {
	before(waitlist.Snapshot(ref.Namespace, ref.Name))
	p.Caches.AskForSnapshots()
	facts.CanRestore, facts.KeepMode = p.Driver.CanRestore(), p.KeepMode
	facts.NoSnapshots = p.Caches.Snapshots != nil && !p.Caches.Snapshots.HasSynced()
	object := p.snapshot(ref)
	if object == nil {
		return
	}
	facts.Snapshot = source.SnapshotOf(object)
	if content := p.shelf.last(facts.Snapshot.Content); content != nil {
		facts.Content = source.ContentOf(content)
	}
}

// DriverOf implements protection.Contents.
func (p *Provisioner) DriverOf(ctx context.Context, snapshot *unstructured.Unstructured) (string, error) {
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
