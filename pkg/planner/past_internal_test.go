package planner

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/protobuf/proto"
	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/csidriver"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/informers"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/ledger"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/record"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/secret"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/wellknown"
)

// abroad returns a provisioner without any grant, and a clone on record of the
// claim "db" of the namespace.
func abroad(t *testing.T, namespace string) (*Planner, *v1.PersistentVolumeClaim) {
	t.Helper()
	const driver = "clone.example.com"
	client, err := kubernetes.NewForConfig(&rest.Config{Host: "https://nowhere.invalid"})
	if err != nil {
		t.Fatal(err)
	}
	none := func(*v1.PersistentVolumeClaim) string { return "" }
	caches, err := informers.New(client, driver, informers.Keys{CloneSource: none, Snapshot: none, VolumeName: none}, informers.Wanted{})
	if err != nil {
		t.Fatal(err)
	}
	db := &v1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "db", UID: "uid-db"}}
	db.Spec.VolumeName = "pv-db"
	pv := &v1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "pv-db"}}
	pv.Spec.CSI = &v1.CSIPersistentVolumeSource{Driver: driver, VolumeHandle: "vol-db"}
	class := &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "fast"}, Provisioner: driver}
	err = errors.Join(caches.Claims.GetStore().Add(db), caches.PVs.GetStore().Add(pv), caches.Classes.GetStore().Add(class))
	if err != nil {
		t.Fatal(err)
	}
	keys := wellknown.RecordOf(driver)
	clone := &v1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "copy", UID: "uid-copy", Finalizers: []string{keys.Finalizer}}}
	clone.Spec = v1.PersistentVolumeClaimSpec{
		AccessModes: []v1.PersistentVolumeAccessMode{v1.ReadWriteOnce}, StorageClassName: new("fast"),
		Resources:     v1.VolumeResourceRequirements{Requests: v1.ResourceList{v1.ResourceStorage: resource.MustParse("1Gi")}},
		DataSourceRef: &v1.TypedObjectReference{Kind: "PersistentVolumeClaim", Name: "db", Namespace: &namespace},
	}
	return New(Config{
		Client: client, Caches: caches, Keys: keys, OtherNamespaces: true,
		Driver: &csidriver.Driver{
			Name:       driver,
			Plugin:     map[csi.PluginCapability_Service_Type]bool{csi.PluginCapability_Service_CONTROLLER_SERVICE: true},
			Controller: map[csi.ControllerServiceCapability_RPC_Type]bool{csi.ControllerServiceCapability_RPC_CREATE_DELETE_VOLUME: true},
		},
		Ledger: ledger.New(time.Second, clock.RealClock{}),
		Naming: record.Naming{Prefix: "pvc", UUIDLength: -1},
	}), clone
}

// A user who can write a record must not have the driver read the volume of another
// namespace by deleting the claim, nor one that the record alone names: to clean up, the
// record is enough to get a call.
func TestCalls(t *testing.T) {
	idle := func(*Planner, *ledger.Turn, *v1.PersistentVolumeClaim) {}
	vouched := func(p *Planner, _ *ledger.Turn, c *v1.PersistentVolumeClaim) { p.Ledger.Vouch(c.UID) }
	doubted := func(p *Planner, _ *ledger.Turn, c *v1.PersistentVolumeClaim) { p.Ledger.Doubt(c.UID) }
	gone := func(p *Planner, _ *ledger.Turn, _ *v1.PersistentVolumeClaim) {
		for _, obj := range p.Caches.PVs.GetStore().List() {
			_ = p.Caches.PVs.GetStore().Delete(obj)
		}
	}
	kept := func(source string) func(*Planner, *ledger.Turn, *v1.PersistentVolumeClaim) {
		return func(p *Planner, turn *ledger.Turn, c *v1.PersistentVolumeClaim) {
			p.Ledger.Keep(c.UID, source, 5<<30)
			vouched(p, turn, c)
		}
	}
	asked := func(source string) func(*Planner, *ledger.Turn, *v1.PersistentVolumeClaim) {
		return func(p *Planner, turn *ledger.Turn, c *v1.PersistentVolumeClaim) {
			past, err := p.rebuild(c)
			if of := record.ParseSource(source); err == nil && !proto.Equal(of, past.Request.GetVolumeContentSource()) {
				past, err = p.rebuildFrom(c, nil)
				past = past.withSource(of)
			}
			if err != nil {
				t.Fatal(err)
			}
			turn.Answered(turn.Calling(past.Request), ledger.Indeterminate)
		}
	}
	type do = func(*Planner, *ledger.Turn, *v1.PersistentVolumeClaim)
	for _, c := range []struct {
		name, namespace, pin string
		do                   []do
		want                 []string
		recorded             string
	}{
		{"a source of the claim's namespace", "shop", "", []do{idle}, []string{"volume:vol-db"}, "volume:vol-db"},
		{"one of another namespace, without a grant", "vault", "", []do{idle}, []string{"", "volume:vol-db"}, "volume:vol-db"},
		{"one that the rules let this process use", "vault", "", []do{vouched}, []string{"volume:vol-db"}, "volume:vol-db"},
		{"one of the claim's namespace that the rules do not let it use", "shop", "", []do{doubted}, []string{"", "volume:vol-db"}, "volume:vol-db"},
		{"one that is gone", "shop", "", []do{gone}, []string{""}, ""},
		{"the one on record", "shop", "volume:vol-db", []do{idle}, []string{"volume:vol-db"}, "volume:vol-db"},
		{"the one on record is gone", "shop", "volume:vol-db", []do{gone}, []string{"", "volume:vol-db"}, "volume:vol-db"},
		{"another one is on record", "shop", "volume:vol-a", []do{idle}, []string{"", "volume:vol-a", "volume:vol-db"}, "volume:vol-a"},
		{"another one is on record, and neither is allowed", "vault", "volume:vol-a", []do{idle}, []string{"", "volume:vol-a", "volume:vol-db"}, "volume:vol-a"},
		{"what is on record cannot be read", "shop", "vol-a", []do{gone}, []string{""}, ""},
		{"what is on record is of another kind", "shop", "snapshot:vol-a", []do{idle}, []string{"volume:vol-db"}, "volume:vol-db"},
		{"this process has sent another one", "shop", "volume:vol-a", []do{asked("volume:vol-db")}, []string{"volume:vol-db", "volume:vol-a"}, "volume:vol-a"},
		{"this process has asked for what is on record", "shop", "volume:vol-a", []do{asked("volume:vol-a")}, []string{"volume:vol-a", "volume:vol-db"}, "volume:vol-a"},
		{"this process has asked for a blank one only", "shop", "volume:vol-a", []do{asked("")}, []string{"", "volume:vol-a", "volume:vol-db"}, "volume:vol-a"},
		{"this process has asked for a blank one only, before its source was there", "shop", "", []do{asked("")}, []string{"", "volume:vol-db"}, "volume:vol-db"},
		{"what this process has vouched for is believed before the record", "shop", "volume:vol-a", []do{kept("volume:vol-db")}, []string{"volume:vol-db"}, "volume:vol-db"},
		{"what this process has found is kept", "shop", "volume:vol-a", []do{kept("volume:vol-b")}, []string{"", "volume:vol-b", "volume:vol-db"}, "volume:vol-b"},
		{"what this process has found is kept, and was asked first", "shop", "volume:vol-a", []do{kept("volume:vol-b"), asked("volume:vol-db")}, []string{"volume:vol-db", "volume:vol-b"}, "volume:vol-b"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, clone := abroad(t, c.namespace)
			clone.Annotations = map[string]string{p.Keys.ContentSource: c.pin, p.Keys.RequiredBytes: "5368709120"}
			turn, _ := p.Ledger.Take(clone.UID)
			defer turn.Done()
			for _, do := range c.do {
				do(p, turn, clone)
			}
			calls, _, err := p.PastCalls(turn, clone)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, call := range calls {
				got = append(got, call.pins().ContentSource)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("asks for %q, want %q", got, c.want)
			}
			if pins, err := p.CleanUpPins(turn, clone); err != nil || pins.ContentSource != c.recorded {
				t.Errorf("on record is to be %+v (%v), want source %q", pins, err, c.recorded)
			}
		})
	}
}

// The volume of a source that is not today's had the size that is on record, whatever the
// source of today has.
func TestCallsForASourceOnRecordHaveItsSize(t *testing.T) {
	p, clone := abroad(t, "shop")
	clone.Annotations = map[string]string{p.Keys.ContentSource: "volume:vol-a", p.Keys.RequiredBytes: "5368709120"}
	turn, _ := p.Ledger.Take(clone.UID)
	defer turn.Done()
	calls, _, err := p.PastCalls(turn, clone)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []int64{5 << 30, 5 << 30, 1 << 30} {
		if got := calls[i].Request.GetCapacityRange().GetRequiredBytes(); got != want {
			t.Errorf("request %d is for %d bytes, want %d", i, got, want)
		}
	}
}

// Each call of a clean-up goes with the Secret that it was, or may have been, made with; and
// the record goes on saying which.
func TestCallsHaveTheirSecrets(t *testing.T) {
	const parameter = "csi.storage.k8s.io/provisioner-secret-"
	begun, today, sent := secret.Ref{Namespace: "vault", Name: "old"}, secret.Ref{Namespace: "vault", Name: "new"}, secret.Ref{Namespace: "vault", Name: "sent"}
	for _, c := range []struct {
		name     string
		pv       string // names the Secret that the class had
		asked    bool
		want     []secret.Ref
		recorded secret.Ref
	}{
		{"the Secret on record, as a PV proves", begun.Name, false, []secret.Ref{begun, begun, begun}, begun},
		{"the Secret on record, which nothing proves", "another", false, []secret.Ref{today, today, today}, today},
		{"the Secret that this process has asked with", begun.Name, true, []secret.Ref{sent, begun}, begun},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, clone := abroad(t, "shop")
			class := p.Caches.Class("fast").DeepCopy()
			class.Parameters = map[string]string{parameter + "name": today.Name, parameter + "namespace": today.Namespace}
			pv := &v1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "older", Annotations: map[string]string{
				wellknown.DeletionSecretName: c.pv, wellknown.DeletionSecretNamespace: "vault",
			}}}
			pv.Spec.StorageClassName, pv.Spec.ClaimRef = "fast", &v1.ObjectReference{Namespace: "shop", Name: "older"}
			pv.Spec.CSI = &v1.CSIPersistentVolumeSource{Driver: p.Driver.Name, VolumeHandle: "vol-older"}
			if err := errors.Join(p.Caches.Classes.GetStore().Update(class), p.Caches.PVs.GetStore().Add(pv)); err != nil {
				t.Fatal(err)
			}
			clone.Annotations = map[string]string{
				p.Keys.ContentSource: "volume:vol-a", p.Keys.RequiredBytes: "5368709120", p.Keys.Secret: begun.String(),
			}
			turn, _ := p.Ledger.Take(clone.UID)
			defer turn.Done()
			if c.asked {
				past, err := p.rebuild(clone)
				if err != nil {
					t.Fatal(err)
				}
				before := turn.CallingWith(past.Request, ledger.Beside{Secret: sent.String()})
				turn.Answered(before, ledger.Indeterminate)
			}
			calls, _, err := p.PastCalls(turn, clone)
			if err != nil {
				t.Fatal(err)
			}
			var got []secret.Ref
			for _, call := range calls {
				got = append(got, call.Secret)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("asks with %v, want %v", got, c.want)
			}
			pins, err := p.CleanUpPins(turn, clone)
			if err != nil || pins.Secret != c.recorded.String() || pins.ContentSource != "volume:vol-a" {
				t.Errorf("on record is to be %+v (%v)", pins, err)
			}
		})
	}
}
