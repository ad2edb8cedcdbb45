package demodriver

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// slow is a driver whose copying waits in the middle of a file until let go.
type slow struct {
	controller
	reached chan struct{} // one value per file being copied
	letGo   chan struct{} // closed by release
	source  string
}

// newSlow returns a slow driver with one volume that has one file.
func newSlow(t *testing.T, dir string) *slow {
	t.Helper()
	d, err := New(Config{Dir: dir, NoSync: true, Capacity: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	s := &slow{controller: controller{driver: d}, reached: make(chan struct{}, 100), letGo: make(chan struct{})}
	d.copy.CloneFile = func(*os.File, *os.File) error {
		s.reached <- struct{}{}
		select {
		case <-s.letGo:
		case <-d.closing.Done():
		}
		return errors.ErrUnsupported // go on by copying, which looks at the context
	}
	resp, err := s.CreateVolume(t.Context(), volumeRequest("source", ""))
	if err != nil {
		t.Fatal(err)
	}
	s.source = resp.GetVolume().GetVolumeId()
	if err := os.WriteFile(filepath.Join(d.VolumePath(s.source), "file"), []byte("data"), 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

// clone starts a clone of the source and returns where its outcome goes.
func (s *slow) clone(ctx context.Context, name string) <-chan error {
	done := make(chan error, 1)
	go func() {
		_, err := s.CreateVolume(ctx, volumeRequest(name, s.source))
		done <- err
	}()
	return done
}

func volumeRequest(name, source string) *csi.CreateVolumeRequest {
	req := &csi.CreateVolumeRequest{
		Name: name,
		VolumeCapabilities: []*csi.VolumeCapability{{
			AccessType: &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{}},
			AccessMode: &csi.VolumeCapability_AccessMode{Mode: csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER},
		}},
	}
	if source != "" {
		req.VolumeContentSource = &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Volume{
			Volume: &csi.VolumeContentSource_VolumeSource{VolumeId: source},
		}}
	}
	return req
}

// checkNothingLeft fails when there is more than the source.
func (s *slow) checkNothingLeft(t *testing.T) {
	t.Helper()
	if v := s.driver.Volumes(); len(v) != 1 {
		t.Errorf("volumes are %v, want the source only", v)
	}
	if used := s.driver.quota.used; used != minGranularity {
		t.Errorf("%d bytes are accounted for, want the source's", used)
	}
	checkEmptyDir(t, filepath.Join(s.driver.store.Dir(), "tmp"))
	if held := len(s.driver.locks.holders); held != 0 {
		t.Errorf("%d locks are held, want none", held)
	}
}

func checkEmptyDir(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) > 0 {
		t.Errorf("%s has %v (%v), want nothing", dir, entries, err)
	}
}

func TestWhileAVolumeIsCloned(t *testing.T) {
	s := newSlow(t, t.TempDir())
	first := s.clone(t.Context(), "first")
	<-s.reached
	_, err := s.DeleteVolume(t.Context(), &csi.DeleteVolumeRequest{VolumeId: s.source})
	if status.Code(err) != codes.Aborted {
		t.Errorf("deleting the source got %v, want Aborted", err)
	}
	if err := <-s.clone(t.Context(), "first"); status.Code(err) != codes.Aborted {
		t.Errorf("the same call again got %v, want Aborted", err)
	}
	second := s.clone(t.Context(), "second")
	<-s.reached // it reads the source at the same time
	if _, err := s.CreateSnapshot(t.Context(), &csi.CreateSnapshotRequest{Name: "x", SourceVolumeId: "vol-0"}); status.Code(err) != codes.NotFound {
		t.Errorf("a call for another object got %v, want its own answer", err)
	}
	close(s.letGo)
	if err := errors.Join(<-first, <-second); err != nil {
		t.Fatal(err)
	}
	if _, err := s.DeleteVolume(t.Context(), &csi.DeleteVolumeRequest{VolumeId: s.source}); err != nil {
		t.Errorf("deleting the source afterwards: %v", err)
	}
}

func TestAnAbandonedCloneLeavesNothing(t *testing.T) {
	s := newSlow(t, t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	done := s.clone(ctx, "clone")
	<-s.reached
	cancel()
	close(s.letGo)
	if err := <-done; status.Code(err) != codes.Canceled {
		t.Errorf("got %v, want Canceled", err)
	}
	s.checkNothingLeft(t)
	if err := <-s.clone(t.Context(), "clone"); err != nil {
		t.Errorf("the same call again: %v", err)
	}
}

func TestCloseGivesUpWorkInProgress(t *testing.T) {
	dir := t.TempDir()
	s := newSlow(t, dir)
	done := s.clone(t.Context(), "clone")
	<-s.reached
	if err := s.driver.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; status.Code(err) != codes.Unavailable {
		t.Errorf("the clone got %v, want Unavailable", err)
	}
	s.checkNothingLeft(t)
	if err := <-s.clone(t.Context(), "late"); status.Code(err) != codes.Unavailable {
		t.Errorf("a call after Close got %v, want Unavailable", err)
	}
	if err := s.driver.Close(); err != nil {
		t.Errorf("closing again: %v", err)
	}
	next, err := New(Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer next.Close()
	if v := next.Volumes(); len(v) != 1 || v[0].ID != s.source {
		t.Errorf("the next driver has %v, want the source", v)
	}
}

func TestADirectoryBelongsToOneDriver(t *testing.T) {
	dir := t.TempDir()
	s := newSlow(t, dir)
	if _, err := New(Config{Dir: dir}); err == nil {
		t.Fatal("a second driver was made for the directory of the first")
	}
	if v := s.driver.Volumes(); len(v) != 1 {
		t.Fatalf("the first driver has %v, want its volume", v)
	}
}
