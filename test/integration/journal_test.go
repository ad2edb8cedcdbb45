package integration

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/journal"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/leases"
)

// leaseStory sends requests about Leases and returns what was answered.
func leaseStory(t *testing.T, api journal.Leases) []string {
	t.Helper()
	ctx := t.Context()
	var story []string
	note := func(what string, lease *coordinationv1.Lease, err error) {
		line := what + ": " + string(apierrors.ReasonForError(err))
		if err == nil && lease != nil {
			line += fmt.Sprintf("%s by %s, uid %t, version %t, labels %v", lease.Name, *lease.Spec.HolderIdentity, lease.UID != "", lease.ResourceVersion != "", lease.Labels)
		}
		story = append(story, line)
	}
	lease := func(name, holder string) *coordinationv1.Lease {
		return &coordinationv1.Lease{
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"driver": "d"}},
			Spec:       coordinationv1.LeaseSpec{HolderIdentity: &holder, RenewTime: new(metav1.NewMicroTime(time.Unix(1, 123456789)))},
		}
	}
	made, err := api.Create(ctx, lease("a", "h1"), metav1.CreateOptions{})
	note("create", made, err)
	if err != nil {
		t.Fatal(err)
	}
	if got := made.Spec.RenewTime.Nanosecond(); got != 123456000 {
		t.Errorf("the time has %d nanoseconds", got)
	}
	_, err = api.Create(ctx, lease("a", "h2"), metav1.CreateOptions{})
	note("create again", nil, err)
	same, err := api.Update(ctx, made.DeepCopy(), metav1.UpdateOptions{})
	note("update without a change", same, err)
	if same.ResourceVersion != made.ResourceVersion {
		t.Error("an update without a change makes a new version")
	}
	changed := made.DeepCopy()
	changed.Spec.HolderIdentity = new("h2")
	newer, err := api.Update(ctx, changed.DeepCopy(), metav1.UpdateOptions{})
	note("update", newer, err)
	if newer.ResourceVersion == made.ResourceVersion || newer.UID != made.UID {
		t.Error("an update makes no new version, or another Lease")
	}
	_, err = api.Update(ctx, changed, metav1.UpdateOptions{})
	note("update of an old version", nil, err)
	wrong := newer.DeepCopy()
	wrong.UID = "other"
	_, err = api.Update(ctx, wrong, metav1.UpdateOptions{})
	note("update of another uid", nil, err)
	got, err := api.Get(ctx, "a", metav1.GetOptions{})
	note("get", got, err)
	_, err = api.Get(ctx, "b", metav1.GetOptions{})
	note("get what does not exist", nil, err)
	for _, selector := range []string{"driver=d", "driver=e", ""} {
		list, err := api.List(ctx, metav1.ListOptions{LabelSelector: selector})
		if err != nil {
			t.Fatal(err)
		}
		for i := range list.Items {
			note("list "+selector, &list.Items[i], nil)
		}
	}
	precondition := func(lease *coordinationv1.Lease) metav1.DeleteOptions {
		return metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &lease.UID, ResourceVersion: &lease.ResourceVersion}}
	}
	note("delete an old version", nil, api.Delete(ctx, "a", precondition(made)))
	note("delete another uid", nil, api.Delete(ctx, "a", precondition(wrong)))
	note("delete", nil, api.Delete(ctx, "a", precondition(newer)))
	note("delete again", nil, api.Delete(ctx, "a", precondition(newer)))
	_, err = api.Update(ctx, newer.DeepCopy(), metav1.UpdateOptions{})
	note("update with uid of what is deleted", nil, err)
	bare := newer.DeepCopy()
	bare.UID, bare.ResourceVersion = "", ""
	created, err := api.Update(ctx, bare, metav1.UpdateOptions{})
	note("update without uid of what is deleted", created, err)
	return story
}

func TestLeasesBehaveAsTheAPIServer(t *testing.T) {
	t.Parallel()
	env := kit.New(t)
	ofFake := leaseStory(t, &leases.Server{Namespace: "any"})
	ofServer := leaseStory(t, env.Admin.CoordinationV1().Leases(env.Namespace))
	if !slices.Equal(ofFake, ofServer) {
		t.Errorf("the fake:\n  %q\nthe API server:\n  %q", ofFake, ofServer)
	}
}

// leaseEntry is an entry of a clone with that uid.
func leaseEntry(uid types.UID) journal.Entry {
	return journal.Entry{
		Claim: journal.Claim{Namespace: "shop", Name: "db", UID: uid, Created: time.Now()}, Class: journal.Class{Name: "fast", UID: "s"},
		VolumeName: "pvc-" + string(uid), RequiredBytes: 1 << 30, ReclaimPolicy: v1.PersistentVolumeReclaimDelete,
		Source: &journal.Source{Kind: "PersistentVolumeClaim", Namespace: "shop", Name: "golden", UID: "g", Handle: "vol-1"},
	}
}

func TestJournalOnTheAPIServer(t *testing.T) {
	t.Parallel()
	env := kit.New(t)
	var adopted atomic.Int32
	process := func(holder string) *journal.Journal {
		j := journal.New(journal.Config{
			Leases: env.Admin.CoordinationV1().Leases(env.Namespace), Namespace: env.Namespace, Driver: env.DriverName,
			Holder: holder, MayAct: func() error { return nil }, Adopted: func(journal.Entry) { adopted.Add(1) },
		})
		ctx, cancel := context.WithCancel(env.Ctx)
		var running sync.WaitGroup
		running.Go(func() { j.Run(ctx) })
		t.Cleanup(func() {
			cancel()
			running.Wait()
		})
		return j
	}
	first := process("first")
	if _, err := first.Adopt(env.Ctx); err != nil {
		t.Fatal(err)
	}
	const entries = 50
	var all sync.WaitGroup
	for i := range entries {
		all.Go(func() {
			if err := first.Record(env.Ctx, leaseEntry(types.UID(fmt.Sprintf("uid-%d", i)))); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	e := leaseEntry("uid-7")
	e.RequiredBytes *= 2
	if err := first.Record(env.Ctx, e); err != nil {
		t.Fatal(err)
	}
	second := process("second")
	adoption, err := second.Adopt(env.Ctx)
	if err != nil || adopted.Load() != entries || len(adoption.Unreadable) > 0 {
		t.Fatalf("%d entries adopted, %v, unreadable: %v", adopted.Load(), err, adoption.Unreadable)
	}
	if got, _, _ := second.Entry("uid-7"); got.RequiredBytes != e.RequiredBytes || got.Doubt != "" {
		t.Errorf("%+v", got)
	}
	if err := first.Settle(env.Ctx, "uid-7"); err == nil {
		t.Error("the earlier holder can delete an entry that was adopted")
	}
	if of, err := second.OfSource(env.Ctx, "g"); err != nil || len(of) != entries {
		t.Errorf("%d entries of the source, %v", len(of), err)
	}
	for i := range entries {
		second.SettleLater(types.UID(fmt.Sprintf("uid-%d", i)))
	}
	env.Eventually("no entry is left", func() error {
		list, err := env.Admin.CoordinationV1().Leases(env.Namespace).List(env.Ctx, metav1.ListOptions{LabelSelector: journal.LabelDriver})
		if err == nil && len(list.Items) > 0 {
			return fmt.Errorf("%d entries are left", len(list.Items))
		}
		return err
	})
}
