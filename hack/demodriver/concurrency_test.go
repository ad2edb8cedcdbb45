package demodriver_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/hack/demodriver"
)

func TestManyClonesOfOneSourceAtOnce(t *testing.T) {
	const clones = 100
	s := serve(t, demodriver.Config{Capacity: (clones + 1) * mib})
	source := s.create(t, request("source")).GetVolumeId()
	s.write(t, source, "file", "golden")
	var wg sync.WaitGroup
	for i := range clones {
		wg.Go(func() {
			if _, err := s.CreateVolume(t.Context(), request(fmt.Sprint("clone-", i), cloneOf(source))); err != nil {
				t.Errorf("clone %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	volumes := s.Driver.Volumes()
	if len(volumes) != clones+1 {
		t.Fatalf("%d volumes, want %d", len(volumes), clones+1)
	}
	for _, v := range volumes {
		if got := s.read(t, v.ID, "file"); got != "golden" {
			t.Errorf("volume %q has %q, want golden", v.Name, got)
		}
	}
}

func TestTheSameCallManyTimesAtOnceMakesOneVolume(t *testing.T) {
	s := serve(t, demodriver.Config{})
	source := s.create(t, request("source")).GetVolumeId()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ids := make(chan string, 20)
	var wg sync.WaitGroup
	for range cap(ids) {
		wg.Go(func() {
			err := untilAnswered(ctx, func() error {
				resp, err := s.CreateVolume(ctx, request("clone", cloneOf(source)))
				if err == nil {
					ids <- resp.GetVolume().GetVolumeId()
				}
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	close(ids)
	first := <-ids
	for id := range ids {
		if id != first {
			t.Errorf("ids %q and %q for one name", id, first)
		}
	}
	if n := len(s.Driver.Volumes()); n != 2 {
		t.Errorf("%d volumes, want source and clone", n)
	}
}

func TestMakingAndDeletingTheSameNameAtOnceKeepsTheBooks(t *testing.T) {
	// Enough for all that are being made, and deleted, at any moment.
	const capacity = 32 * mib
	s := serve(t, demodriver.Config{Capacity: capacity})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				resp, err := s.CreateVolume(ctx, request("a"))
				if status.Code(err) == codes.Aborted {
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				_, err = s.DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: resp.GetVolume().GetVolumeId()})
				if err != nil && status.Code(err) != codes.Aborted {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	for _, v := range s.Driver.Volumes() {
		if _, err := s.DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: v.ID}); err != nil {
			t.Error(err)
		}
	}
	resp, err := s.GetCapacity(ctx, &csi.GetCapacityRequest{})
	if err != nil || resp.GetAvailableCapacity() != capacity {
		t.Fatalf("%d bytes are available (%v), want all of them", resp.GetAvailableCapacity(), err)
	}
}
