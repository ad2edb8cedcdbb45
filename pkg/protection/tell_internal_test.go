package protection

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	testingclock "k8s.io/utils/clock/testing"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/observe"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/verdict"
)

func TestThatASourceIsHeldIsSaidAgainBeforeItsEventExpires(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler()) // it is of no account whether events arrive
	t.Cleanup(server.Close)
	client, err := kubernetes.NewForConfig(&rest.Config{Host: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	hands := testingclock.NewFakeClock(time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC))
	clone := claim("copy", "6")
	clone.UID, clone.Labels = "uid-copy", map[string]string{"source": "shop/db"}
	c := controller(t, claim("db", "5"), clone)
	c.Recorder = observe.NewRecorder(t.Context(), client, driver, hands)
	t.Cleanup(c.Recorder.Stop)

	source := claim("db", "5")
	due := func(when string, want bool) {
		t.Helper()
		if got := c.Recorder.Due(source.UID); got != want {
			t.Errorf("%s: due is %t", when, got)
		}
	}
	due("before the first time", true)
	c.tell(source)
	if got := c.Recorder.Last(source.UID); got != verdict.SourceHeld {
		t.Fatalf("%q was said", got)
	}
	due("after the first time", false)

	hands.Step(30 * time.Minute)
	first := claim("a-copy", "7")
	first.UID, first.Labels = "uid-a-copy", clone.Labels
	if err := c.Caches.Claims.GetStore().Add(first); err != nil {
		t.Fatal(err)
	}
	c.tell(source) // another text, but nothing new
	hands.Step(15 * time.Minute)
	due("45 minutes after the first time", true)
	c.tell(source)
	due("after the second time", false)
}
