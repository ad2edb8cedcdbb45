package intake

import (
	"errors"
	"testing"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/wellknown"
)

const driver = "clone.example.com"

func intake(t *testing.T) *Intake {
	t.Helper()
	return forTest(t, Config{Driver: driver, Keys: wellknown.RecordOf(driver)})
}

// forTest is New for an Intake that is not run, and whose queues are ended with the
// test.
func forTest(t *testing.T, c Config) *Intake {
	t.Helper()
	i := New(c)
	t.Cleanup(i.queue.ShutDown)
	t.Cleanup(i.dirty.ShutDown)
	return i
}

func claim(version string) *v1.PersistentVolumeClaim {
	return &v1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{
		Namespace: "shop", Name: "copy", UID: "uid-copy", ResourceVersion: version,
	}}
}

func TestMine(t *testing.T) {
	const newer, older = wellknown.StorageProvisioner, wellknown.BetaStorageProvisioner
	ours := wellknown.RecordOf(driver).Finalizer
	for _, c := range []struct {
		name        string
		annotations map[string]string
		finalizers  []string
		given, mine bool
	}{
		{"a claim that nobody was given", nil, nil, false, false},
		{"a claim that we were given", map[string]string{newer: driver}, nil, true, true},
		{"a claim that another driver was given", map[string]string{newer: "other"}, nil, false, false},
		{"the older annotation counts alone", map[string]string{older: driver}, nil, true, true},
		{"the newer annotation wins", map[string]string{newer: "other", older: driver}, nil, false, false},
		{"so it does when it is empty", map[string]string{newer: "", older: driver}, nil, false, false},
		{"our record makes it ours, whatever it says now", map[string]string{newer: "other"}, []string{ours}, false, true},
		{"another's record does not", nil, []string{"other.example.com/provisioning"}, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			pvc := claim("1")
			pvc.Annotations, pvc.Finalizers = c.annotations, c.finalizers
			if got := intake(t).given(pvc); got != c.given {
				t.Errorf("given: %t", got)
			}
			if got := intake(t).mine(pvc); got != c.mine {
				t.Errorf("mine: %t", got)
			}
		})
	}
}

// A decision from a copy that is older than our last write would be one about
// the past.
func TestBehind(t *testing.T) {
	for _, c := range []struct {
		name, wrote, cached string
		want                bool
	}{
		{"we wrote nothing", "", "5", false},
		{"the cache is older", "6", "5", true},
		{"versions are numbers, not words", "10", "9", true},
		{"the cache has our write", "6", "6", false},
		{"the cache is newer", "6", "7", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			i := intake(t)
			if c.wrote != "" {
				i.wrote(claim(c.wrote))
			}
			if got := i.behind(claim(c.cached)); got != c.want {
				t.Errorf("got %t", got)
			}
			if !c.want && len(i.written) != 0 {
				t.Errorf("a write is remembered that the cache has: %v", i.written)
			}
		})
	}
}

func TestJudgedIsClosedAfterTheLastOfTheFirstList(t *testing.T) {
	judged := func(i *Intake) bool {
		select {
		case <-i.Judged():
			return true
		default:
			return false
		}
	}
	i := intake(t)
	a, b := key{"shop", "a", "uid-a"}, key{"shop", "b", "uid-b"}
	i.unseen[a], i.unseen[b] = struct{}{}, struct{}{}
	for _, step := range []struct {
		seen key
		want bool
	}{
		{key{"shop", "later", "uid-c"}, false},
		{a, false},
		{a, false},
		{key{"shop", "b", "uid-of-an-earlier-b"}, false},
		{b, true},
		{b, true},
	} {
		i.seen(step.seen)
		if got := judged(i); got != step.want {
			t.Errorf("after %v: %t, want %t", step.seen, got, step.want)
		}
	}
}

func TestErrorsOfWrites(t *testing.T) {
	claims := v1.Resource("persistentvolumeclaims")
	gone := apierrors.NewNotFound(claims, "copy")
	conflict := apierrors.NewConflict(claims, "copy", errors.New("changed"))
	other := errors.New("no route to host")
	for _, c := range []struct {
		name    string
		err     error
		quietly bool
		want    string
	}{
		{"the claim is gone", gone, true, ""},
		{"the claim changed", conflict, true, "taking the record off claim shop/copy: " + conflict.Error()},
		{"anything else", other, false, "taking the record off claim shop/copy: no route to host"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := retryQuietly(c.err); got != c.quietly {
				t.Errorf("retryQuietly is %t", got)
			}
			err := ignoreNotFound(c.err, claim("1"))
			text := ""
			if err != nil {
				text = err.Error()
			}
			if text != c.want {
				t.Errorf("got  %q\nwant %q", text, c.want)
			}
		})
	}
	if err := ignoreNotFound(nil, claim("1")); err != nil {
		t.Errorf("no error became %v", err)
	}
}
