package kit

import (
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/hack/demodriver"
)

const (
	testDriver = "Demo.example"
	testRecord = "demo.example/provisioning"
)

func testClaim(name string, phase v1.PersistentVolumeClaimPhase, finalizers ...string) v1.PersistentVolumeClaim {
	return v1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, Finalizers: finalizers},
		Status:     v1.PersistentVolumeClaimStatus{Phase: phase},
	}
}

func cloneOf(claim v1.PersistentVolumeClaim, source string) v1.PersistentVolumeClaim {
	claim.Spec.DataSourceRef = &v1.TypedObjectReference{Kind: "PersistentVolumeClaim", Name: source}
	return claim
}

func deleted(claim v1.PersistentVolumeClaim) v1.PersistentVolumeClaim {
	now := metav1.Now()
	claim.DeletionTimestamp = &now
	return claim
}

func annotated(claim v1.PersistentVolumeClaim, key string) v1.PersistentVolumeClaim {
	claim.Annotations = map[string]string{key: "x"}
	return claim
}

func testPV(name, handle string) v1.PersistentVolume {
	return v1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: v1.PersistentVolumeSpec{PersistentVolumeSource: v1.PersistentVolumeSource{
			CSI: &v1.CSIPersistentVolumeSource{Driver: testDriver, VolumeHandle: handle},
		}},
		Status: v1.PersistentVolumeStatus{Phase: v1.VolumeBound},
	}
}

func TestTheBooks(t *testing.T) {
	volume := demodriver.Volume{ID: "vol-1", Name: "pvc-1"}
	claims := func(claims ...v1.PersistentVolumeClaim) ledger { return ledger{claims: claims} }
	cases := map[string]struct {
		books ledger
		// want is what each line of the result begins with.
		want []string
	}{
		"nothing is all right":                  {},
		"a volume with its PV is all right":     {ledger{volumes: []demodriver.Volume{volume}, pvs: []v1.PersistentVolume{testPV("pv", "vol-1")}}, nil},
		"a volume without a PV is lost":         {ledger{volumes: []demodriver.Volume{volume}}, []string{`volume "vol-1" (name "pvc-1")`}},
		"a PV without a volume is empty":        {ledger{pvs: []v1.PersistentVolume{testPV("pv", "vol-2")}}, []string{`PV "pv" (Bound) has no volume`}},
		"a volume has one PV":                   {ledger{volumes: []demodriver.Volume{volume}, pvs: []v1.PersistentVolume{testPV("a", "vol-1"), testPV("b", "vol-1")}}, []string{`PVs "a" and "b" share`}},
		"a pending claim may be recorded":       {claims(testClaim("c", v1.ClaimPending, testRecord)), nil},
		"a bound claim may not":                 {claims(testClaim("c", v1.ClaimBound, testRecord)), []string{`claim "ns/c" (Bound) still carries the record ` + testRecord}},
		"a deleted claim may not":               {claims(deleted(testClaim("c", v1.ClaimPending, testRecord))), []string{`claim "ns/c" (Pending, being deleted)`}},
		"unless the test says so":               {ledger{claims: claims(testClaim("c", v1.ClaimBound, testRecord)).claims, mayBeRecorded: map[string]bool{"ns/c": true}}, nil},
		"a record of one node is a record":      {claims(testClaim("c", v1.ClaimBound, testRecord+"-abc")), []string{`claim "ns/c" (Bound)`}},
		"a pin goes with the record":            {claims(annotated(testClaim("c", v1.ClaimBound), "demo.example/volume-name")), []string{`claim "ns/c" carries annotation`}},
		"a source of a clone in work":           {claims(testClaim("s", v1.ClaimBound, cloningProtection), cloneOf(testClaim("c", v1.ClaimPending, testRecord), "s")), nil},
		"a source of a clone that waits":        {claims(testClaim("s", v1.ClaimBound, cloningProtection), cloneOf(testClaim("c", v1.ClaimPending), "s")), []string{`claim "ns/s" (Bound) still carries ` + cloningProtection}},
		"a protected claim that is no source":   {claims(testClaim("s", v1.ClaimBound, cloningProtection)), []string{`claim "ns/s" (Bound) still carries`}},
		"finalizers of others are not our book": {claims(testClaim("c", v1.ClaimBound, "kubernetes.io/pvc-protection", "other.example/provisioning")), nil},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			c.books.driver = testDriver
			got := c.books.errors()
			if len(got) != len(c.want) {
				t.Fatalf("found %q, want %d lines", got, len(c.want))
			}
			for i, want := range c.want {
				if !strings.HasPrefix(got[i], want) {
					t.Errorf("line %d is %q, want it to begin with %q", i, got[i], want)
				}
			}
		})
	}
}
