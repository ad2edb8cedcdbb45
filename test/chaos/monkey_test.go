package chaos

import (
	"context"
	"fmt"
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/faults"
)

// monkey makes the driver's calls go wrong, as they do with drivers that keep to
// the CSI specification, but for the replies without a content source. One call at
// a time works on a volume: others are told ABORTED, also while a call goes on whose
// caller has long given up; and "no room" is only said of a volume that is not there.
type monkey struct {
	seed uint64
	// exists says whether the driver has a volume of that name.
	exists func(name string) bool
	late   sync.WaitGroup

	mu    sync.Mutex
	calm  bool
	held  map[string]bool // names and handles that a call works on
	tries map[string]int  // calls for a claim, to draw from
	done  map[string]int  // what went wrong, how often
	born  map[string]birth
	// broken are the names of volumes about which a reply lacked the content source.
	broken map[string]bool
	// deleted is when a provisioner had the volume of that handle deleted.
	deleted map[string]time.Time
	// spared are handles that an administrator deletes; that does not go wrong.
	spared map[string]bool
}

// birth is how a volume came to be.
type birth struct {
	// name of the volume, source is the handle that it was copied from.
	name, source string
	// The work that made it began and ended then.
	begun, ended time.Time
}

func newMonkey(seed uint64, exists func(name string) bool) *monkey {
	return &monkey{
		seed: seed, exists: exists,
		held: map[string]bool{}, tries: map[string]int{}, done: map[string]int{}, born: map[string]birth{},
		broken: map[string]bool{}, deleted: map[string]time.Time{}, spared: map[string]bool{},
	}
}

// work is the driver's own part of a call.
type work func(context.Context) (any, error)

// sit puts the monkey in front of the driver.
func (m *monkey) sit(injector *faults.Injector) {
	injector.On("CreateVolume").Decide(func(ctx context.Context, req any, w func(context.Context) (any, error)) (any, error) {
		create := req.(*csi.CreateVolumeRequest)
		return m.call(ctx, call{
			method: "CreateVolume", volume: create.GetName(), claim: create.GetParameters()["csi.storage.k8s.io/pvc/name"],
			work: m.witness(create, w),
		})
	})
	injector.On("DeleteVolume").Decide(func(ctx context.Context, req any, w func(context.Context) (any, error)) (any, error) {
		id := req.(*csi.DeleteVolumeRequest).GetVolumeId()
		return m.call(ctx, call{method: "DeleteVolume", volume: id, claim: id, work: m.witnessDelete(id, w)})
	})
}

// call is one call of the driver. claim is what its luck depends on: the claim's
// name, which is the same when the script is played again.
type call struct {
	method, volume, claim string
	work                  work
}

// witness notes when the volume was made, and from what.
func (m *monkey) witness(req *csi.CreateVolumeRequest, w work) work {
	return func(ctx context.Context) (any, error) {
		begun := time.Now()
		resp, err := w(ctx)
		if err != nil {
			if status.Code(err) == codes.NotFound {
				m.count("source was gone")
			}
			return resp, err
		}
		handle := resp.(*csi.CreateVolumeResponse).GetVolume().GetVolumeId()
		m.mu.Lock()
		defer m.mu.Unlock()
		if _, known := m.born[handle]; !known {
			m.born[handle] = birth{req.GetName(), req.GetVolumeContentSource().GetVolume().GetVolumeId(), begun, time.Now()}
		}
		return resp, nil
	}
}

// witnessDelete notes when a provisioner had the volume deleted.
func (m *monkey) witnessDelete(handle string, w work) work {
	return func(ctx context.Context) (any, error) {
		resp, err := w(ctx)
		m.mu.Lock()
		defer m.mu.Unlock()
		if err == nil && !m.spared[handle] {
			m.deleted[handle] = time.Now()
		}
		return resp, err
	}
}

// spare lets calls for the handle succeed, for an administrator.
func (m *monkey) spare(handle string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.spared[handle] = true
}

// deletion returns when a provisioner had the volume deleted; zero if never.
func (m *monkey) deletion(handle string) time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.deleted[handle]
}

// brokeReply reports whether a reply about the volume of that name lacked the content source.
func (m *monkey) brokeReply(name string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.broken[name]
}

// births returns the names of all volumes that were made, by handle.
func (m *monkey) births() map[string]string {
	m.mu.Lock()
	defer m.mu.Unlock()
	names := map[string]string{}
	for handle, b := range m.born {
		names[handle] = b.name
	}
	return names
}

func (m *monkey) birth(handle string) (birth, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b, found := m.born[handle]
	return b, found
}

func (m *monkey) call(ctx context.Context, c call) (any, error) {
	luck, release, free := m.take(c)
	if !free {
		return nil, status.Errorf(codes.Aborted, "a call is at work on %q", c.volume)
	}
	switch {
	case hangs(luck):
		m.count(c.method + " hangs")
		return m.hang(ctx, c, release)
	case luck < 15:
		defer release()
		m.count(c.method + " unavailable")
		return nil, status.Error(codes.Unavailable, "monkey: unavailable")
	case luck < 18:
		defer release()
		m.count(c.method + " reply lost")
		_, _ = c.work(ctx)
		return nil, status.Error(codes.Unavailable, "monkey: reply lost")
	case luck < 19:
		defer release()
		m.count(c.method + " stumbles after the work")
		_, _ = c.work(ctx)
		return nil, status.Error(codes.Internal, "monkey: stumbled after the work")
	case luck < 21:
		defer release()
		m.count(c.method + " aborted")
		return nil, status.Error(codes.Aborted, "monkey: aborted")
	case luck < 23:
		defer release()
		m.count(c.method + " internal")
		return nil, status.Error(codes.Internal, "monkey: internal")
	case luck < 25 && c.method == "CreateVolume" && !m.exists(c.volume):
		defer release()
		m.count("CreateVolume no room")
		return nil, status.Error(codes.ResourceExhausted, "monkey: no room")
	case luck < 26 && c.method == "CreateVolume":
		defer release()
		return m.forgetSource(ctx, c)
	}
	defer release()
	return c.work(ctx)
}

// hangs says whether a call with this luck is one that hangs.
func hangs(luck int) bool { return luck < 5 }

// take draws the luck of the call, a number below 100, and reserves its volume.
func (m *monkey) take(c call) (luck int, release func(), free bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.held[c.volume] {
		m.done[c.method+" met another call"]++
		return 0, nil, false
	}
	m.held[c.volume] = true
	release = func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.held, c.volume)
	}
	m.tries[c.method+c.claim]++
	if m.calm || m.spared[c.volume] {
		return 100, release, true
	}
	hash := fnv.New64a()
	fmt.Fprintf(hash, "%s %s %d", c.method, c.claim, m.tries[c.method+c.claim])
	luck = rand.New(rand.NewPCG(m.seed, hash.Sum64())).IntN(100)
	if hangs(luck) {
		m.late.Add(1) // under the lock: rest comes before or waits
	}
	return luck, release, true
}

// hang answers nothing, and does the work when the caller has long gone.
func (m *monkey) hang(ctx context.Context, c call, release func()) (any, error) {
	m.mu.Lock()
	tries := m.tries[c.method+c.claim]
	m.mu.Unlock()
	longer := time.Duration(tries%5) * time.Second
	go func() {
		defer m.late.Done()
		defer release()
		<-ctx.Done()
		timer := time.NewTimer(longer)
		defer timer.Stop()
		<-timer.C
		_, _ = c.work(context.WithoutCancel(ctx))
	}()
	<-ctx.Done()
	return nil, status.FromContextError(ctx.Err()).Err()
}

// forgetSource breaks the contract: a clone that does not say of what.
func (m *monkey) forgetSource(ctx context.Context, c call) (any, error) {
	resp, err := c.work(ctx)
	created, ok := resp.(*csi.CreateVolumeResponse)
	if err != nil || !ok || created.GetVolume().GetContentSource() == nil {
		return resp, err
	}
	m.count("CreateVolume without content source")
	m.mu.Lock()
	m.broken[c.volume] = true
	m.mu.Unlock()
	volume := created.GetVolume()
	return &csi.CreateVolumeResponse{Volume: &csi.Volume{
		VolumeId: volume.GetVolumeId(), CapacityBytes: volume.GetCapacityBytes(), AccessibleTopology: volume.GetAccessibleTopology(),
	}}, nil
}

func (m *monkey) count(what string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.done[what]++
}

// rest ends the faults, and returns when late work has ended.
func (m *monkey) rest() {
	m.mu.Lock()
	m.calm = true
	m.mu.Unlock()
	m.late.Wait()
}

// faults returns what went wrong, how often.
func (m *monkey) faults() map[string]int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.done)
}
