package inuse_test

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/inuse"
)

func names(pods []*v1.Pod) string {
	var list []string
	for _, pod := range pods {
		list = append(list, pod.Name)
	}
	return strings.Join(list, " ")
}

func TestLookFindsPodsByClaim(t *testing.T) {
	web := podOf("web", "db")
	web.Spec.Volumes = append(web.Spec.Volumes,
		v1.Volume{Name: "cache", VolumeSource: v1.VolumeSource{Ephemeral: &v1.EphemeralVolumeSource{}}},
		v1.Volume{Name: "tmp", VolumeSource: v1.VolumeSource{EmptyDir: &v1.EmptyDirVolumeSource{}}})
	s := &server{lists: func(n int) (int, any) {
		if n == 0 {
			return http.StatusOK, podList("7", "more", web, podOf("app", "db", "logs"))
		}
		return http.StatusOK, podList("7", "", podOf("zoo", "logs"))
	}}
	pods, _, _ := world(t, s)
	seen, err := pods.Look(t.Context(), "shop")
	if err != nil {
		t.Fatal(err)
	}
	for claim, want := range map[string]string{"db": "web app", "logs": "app zoo", "web-cache": "web", "web-tmp": "", "other": ""} {
		if got := names(seen.Of(claim)); got != want {
			t.Errorf("pods of claim %q are %q, want %q", claim, got, want)
		}
	}
	if seen.Version != "7" {
		t.Errorf("version is %q, want 7", seen.Version)
	}
	for n, query := range s.queries {
		path, rest, _ := strings.Cut(query, "?")
		values, err := url.ParseQuery(rest)
		if err != nil {
			t.Fatal(err)
		}
		if path != "/api/v1/namespaces/shop/pods" || values.Get("fieldSelector") != "spec.nodeName!=,status.phase!=Succeeded,status.phase!=Failed" ||
			values.Get("limit") != "500" || values.Get("resourceVersion") != "" || (values.Get("continue") == "more") != (n == 1) {
			t.Errorf("request %d is %s", n, query)
		}
	}
}

// Who asks while a look is going on must not be told what was true before he asked,
// and shares the next look with all others who do.
func TestWhoAsksDuringALookSharesTheNext(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	s := &server{lists: func(n int) (int, any) {
		if n == 0 {
			close(entered)
			<-release
			return http.StatusOK, podList("7", "")
		}
		return http.StatusOK, podList("8", "", podOf("late", "db"))
	}}
	pods, _, _ := world(t, s)
	type answer struct {
		seen *inuse.Seen
		err  error
	}
	answers := make(chan answer, 101)
	ask := func() {
		seen, err := pods.Look(t.Context(), "shop")
		answers <- answer{seen, err}
	}
	go ask()
	<-entered
	started := make(chan struct{}, 100)
	for range 100 {
		go func() { started <- struct{}{}; ask() }()
	}
	for range 100 {
		<-started
	}
	// Those who have not come to asking yet would only make more looks.
	close(release)
	late := 0
	for range 101 {
		a := <-answers
		if a.err != nil {
			t.Fatal(a.err)
		}
		if names(a.seen.Of("db")) == "late" {
			late++
		}
	}
	if late != 100 {
		t.Errorf("%d of 100 who asked during the look saw the pod that came meanwhile", late)
	}
	if lists, _ := s.counts(); lists > 3 {
		t.Errorf("there were %d lists for 101 questions", lists)
	}
}

// Claims that come one after the other share looks, too.
func TestLooksAreApart(t *testing.T) {
	s := &server{lists: func(int) (int, any) { return http.StatusOK, podList("7", "") }}
	pods, _, _ := world(t, s)
	began, asked := time.Now(), 0
	done := make(chan error)
	for ; time.Since(began) < 500*time.Millisecond; asked++ {
		go func() {
			_, err := pods.Look(t.Context(), "shop")
			done <- err
		}()
		<-time.After(time.Millisecond) // they come one after the other, not all at once
	}
	for range asked {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	most := int(time.Since(began)/(100*time.Millisecond)) + 1
	if lists, _ := s.counts(); lists > most {
		t.Errorf("%d who asked caused %d lists, want at most %d", asked, lists, most)
	}
}

func TestNamespacesAreLookedAtSideBySide(t *testing.T) {
	entered, release := make(chan struct{}, 2), make(chan struct{})
	s := &server{lists: func(int) (int, any) {
		entered <- struct{}{}
		<-release
		return http.StatusOK, podList("7", "")
	}}
	pods, _, _ := world(t, s)
	done := make(chan error, 2)
	for _, namespace := range []string{"shop", "vault"} {
		go func() {
			_, err := pods.Look(t.Context(), namespace)
			done <- err
		}()
	}
	<-entered
	<-entered // the second did not wait for the first
	close(release)
	for range 2 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestADenialIsRememberedForAMinute(t *testing.T) {
	s := &server{lists: func(n int) (int, any) {
		if n == 0 {
			return http.StatusForbidden, failure(http.StatusForbidden, metav1.StatusReasonForbidden)
		}
		return http.StatusOK, podList("7", "")
	}}
	pods, _, hands := world(t, s)
	for range 3 {
		if _, err := pods.Look(t.Context(), "shop"); !errors.Is(err, inuse.ErrDenied) {
			t.Fatalf("got %v, want ErrDenied", err)
		}
	}
	if lists, _ := s.counts(); lists != 1 {
		t.Errorf("the API server was asked %d times, want once", lists)
	}
	if _, err := pods.Look(t.Context(), "vault"); err != nil {
		t.Errorf("another namespace: %v", err)
	}
	hands.move(time.Minute)
	if _, err := pods.Look(t.Context(), "shop"); err != nil {
		t.Errorf("after a minute: %v", err)
	}
}

func TestARefusalWithoutAReasonIsNoDenial(t *testing.T) {
	for name, reviews := range map[string]func(int) (int, any){
		"the API server has not read its roles":        func(int) (int, any) { return forbidden() },
		"by the time of the question it has read them": func(int) (int, any) { return granted(true) },
		"it is not there any more when it is asked": func(int) (int, any) {
			return http.StatusConflict, failure(http.StatusConflict, metav1.StatusReasonConflict)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := &server{reviews: reviews, lists: func(n int) (int, any) {
				if n == 0 {
					return forbidden()
				}
				return http.StatusOK, podList("7", "", podOf("app", "db"))
			}}
			pods, _, _ := world(t, s)
			if _, err := pods.Look(t.Context(), "shop"); err == nil || errors.Is(err, inuse.ErrDenied) {
				t.Errorf("got %v, want an error that is no denial", err)
			}
			seen, err := pods.Look(t.Context(), "shop")
			if err != nil || len(seen.Of("db")) != 1 {
				t.Errorf("the next look does not see the pod: %v", err)
			}
		})
	}
}

func TestAFailureIsToldToWhoAskedAndNotRemembered(t *testing.T) {
	s := &server{lists: func(n int) (int, any) {
		if n == 0 {
			return http.StatusConflict, failure(http.StatusConflict, metav1.StatusReasonConflict)
		}
		return http.StatusOK, podList("7", "")
	}}
	pods, _, _ := world(t, s)
	_, err := pods.Look(t.Context(), "shop")
	if err == nil || errors.Is(err, inuse.ErrDenied) || !strings.Contains(err.Error(), `looking at the pods of namespace "shop"`) {
		t.Errorf("got %v", err)
	}
	if _, err := pods.Look(t.Context(), "shop"); err != nil {
		t.Errorf("the next look: %v", err)
	}
}

func TestWhoDoesNotWantToWaitNeedNot(t *testing.T) {
	release := make(chan struct{})
	s := &server{lists: func(int) (int, any) {
		<-release
		return http.StatusOK, podList("7", "")
	}}
	pods, _, _ := world(t, s)
	defer close(release)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := pods.Look(ctx, "shop"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestNothingIsLookedAtBeforeStart(t *testing.T) {
	pods := inuse.New(nil, nil, nil)
	if _, err := pods.Look(t.Context(), "shop"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	pods.Watch("shop", "7")
	pods.Wait()
}
